"""Rows are independent: at different steps, guided or not, released, rewound or evicted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from limner.core.errors import LimnerError
from limner.core.generator import Generator
from limner.core.layout import grid, pyramid
from limner.core.memory import Memory
from limner.core.noise import SeededNoise
from limner.core.row import Options, Row
from limner.core.tokens import empty
from limner.decoding import advance, generate
from limner.heads.guidance import Constant, StepRamp
from limner.models.m_var import MVAR, MVARConfig
from limner.models.var import VAR, VARConfig
from limner.tokenizers.quantizers.multiscale import MultiScaleConfig, MultiScaleQuantizer
from tests.decoding.fakes import CODES, Causal, Cells, Frames, Masked, Neighbours, plain

SIZES: dict[str, Any] = {
    "width": 8,
    "depth": 2,
    "heads": 2,
    "codebook_size": CODES,
    "latent": 3,
    "classes": 3,
    "scales": (1, 2, (2, 3), 4),
    "gate_gain": 1.0,
}


def var() -> VAR:
    torch.manual_seed(0)
    return prepared(VAR(VARConfig(**SIZES)))


def m_var() -> VAR:
    torch.manual_seed(0)
    return prepared(MVAR(MVARConfig(**SIZES, mixer_state=3, mixer_head_width=4, mixer_groups=2)))


def prepared(model: VAR) -> VAR:
    model.canvas = MultiScaleQuantizer(MultiScaleConfig(CODES, 3)).double()
    for parameter in (*model.parameters(), *model.canvas.parameters()):
        torch.nn.init.normal_(parameter, std=0.3)
    return model.double().eval()


MAKERS: dict[str, Callable[[], Generator]] = {
    "causal": lambda: Causal(grid(2, 4)),
    "long prefix": lambda: Causal(grid(1, 4), prefix=6),
    "next-scale": var,
    "recurrent": m_var,
    "neighbours": lambda: Neighbours(3),
    "cells": lambda: Cells(blocks=4, size=2),
    "frames": lambda: Frames(frames=3, parts=3, lag=2),
    "masked": lambda: Masked(grid(2, 3), steps=4),
}
every_kind = pytest.mark.parametrize("kind", MAKERS)
cached = pytest.mark.parametrize(
    "kind", ["causal", "long prefix", "next-scale", "recurrent", "neighbours", "cells"]
)


def begin(
    model: Generator, label: int, seed: int, scale: float | None = None, **options: float
) -> list[Row]:
    guidance = {} if scale is None else {"guidance": Constant(scale)}
    tokens = (
        empty(pyramid(model.config.sizes), codes=1)
        if isinstance(model, VAR)
        else empty(model.layout, codes=model.codes, width=model.width, dtype=torch.float64)  # type: ignore[arg-type]
    )
    chosen = Options(**guidance, **options)  # type: ignore[arg-type]
    return model.begin(tokens, {"label": torch.tensor([label])}, chosen, SeededNoise(seed))


def content(row: Row) -> Tensor:
    tokens = row.tokens.values if row.tokens.ids is None else row.tokens.ids
    assert tokens is not None and row.tokens.known.all()
    return tokens


def same(row: Row, alone: Tensor) -> None:
    """Ids are the same; vectors agree to the last digits."""
    torch.testing.assert_close(content(row), alone, rtol=0, atol=1e-10)


def alone(model: Generator, rows: list[Row]) -> Tensor:
    return content(generate(model, rows)[0])


def advanced(model: Generator, rows: Sequence[Row], memory: Memory, steps: int) -> None:
    for _ in range(steps):
        assert advance(model, rows, memory)


def finish(model: Generator, rows: Sequence[Row], memory: Memory) -> None:
    while advance(model, rows, memory):
        pass


@every_kind
@pytest.mark.parametrize("head_start", [1, 2, 3])
def test_rows_at_different_steps_draw_what_they_draw_alone(kind: str, head_start: int) -> None:
    model = MAKERS[kind]()
    asked = [(0, 10, 2.0), (1, 11, None), (2, 12, 0.5)]
    expected = [alone(model, begin(model, *each)) for each in asked]
    groups = [begin(model, *each) for each in asked]
    memory = model.memory(groups[0])
    running: list[Row] = []
    for group in groups:
        memory.admit(group)
        running += group
        advanced(model, running, memory, head_start)
    finish(model, running, memory)
    for group, wanted in zip(groups, expected, strict=True):
        same(group[0], wanted)


@every_kind
def test_guided_and_unguided_rows_share_a_batch(kind: str) -> None:
    model = MAKERS[kind]()
    asked = [(0, 1, None), (1, 2, 3.0), (2, 3, None), (0, 4, 1.7)]
    expected = [alone(model, begin(model, *each)) for each in asked]
    rows = [row for each in asked for row in begin(model, *each)]
    assert len(rows) == 6
    for row, wanted in zip(generate(model, rows), expected, strict=True):
        same(row, wanted)


@pytest.mark.parametrize("kind", ["causal", "next-scale"])
def test_null_rows_find_their_leads_in_any_order(kind: str) -> None:
    model = MAKERS[kind]()
    asked = [(0, 1, 3.0), (1, 2, 2.0)]
    expected = [alone(model, begin(model, *each)) for each in asked]
    first, second = (begin(model, *each) for each in asked)
    null_of_two = second[0].null({"label": torch.tensor([0])})
    drawn = generate(model, [first[0], second[0], null_of_two, first[1]])
    same(drawn[0], expected[0])
    other = begin(model, 1, 2, 2.0)
    other[1] = other[0].null({"label": torch.tensor([0])})
    same(drawn[1], alone(model, other))


def test_rows_have_options_of_their_own() -> None:
    model = var()
    options = [{"temperature": 0.0}, {"top_k": 2}, {"top_p": 0.5}, {"min_p": 0.4}, {}]
    expected = [alone(model, begin(model, 1, 7, **each)) for each in options]
    rows = [row for each in options for row in begin(model, 1, 7, **each)]
    for row, wanted in zip(generate(model, rows), expected, strict=True):
        assert torch.equal(content(row), wanted)
    assert len({tuple(wanted.flatten().tolist()) for wanted in expected}) > 2


@cached
@pytest.mark.parametrize("released", [0, 1, 2])
def test_releasing_a_row_compacts_memory_and_changes_nothing_else(kind: str, released: int) -> None:
    model = MAKERS[kind]()
    asked = [(0, 1, 2.0), (1, 2, 2.0), (2, 3, 2.0)]
    expected = [alone(model, begin(model, *each)) for each in asked]
    groups = [begin(model, *each) for each in asked]
    everyone = [row for group in groups for row in group]
    memory = model.memory(everyone)
    memory.admit(everyone)
    advanced(model, everyone, memory, 2)
    before = memory.bytes()
    memory.release(groups[released])
    assert memory.bytes() == before * 2 // 3
    left = [row for row in everyone if row not in groups[released]]
    assert sorted(row.slot for row in left) == [0, 1, 2, 3]
    newcomer = begin(model, *asked[released])
    memory.admit(newcomer)
    finish(model, [*left, *newcomer], memory)
    for index, group in enumerate(groups):
        same(newcomer[0] if index == released else group[0], expected[index])


def undo(row: Row, step: int) -> None:
    """Forget what a row drew from a step on."""
    for index in range(step, row.step):
        drawn = row.order.steps[index].draw  # type: ignore[attr-defined]
        row.tokens.known[0, drawn] = False
    row.step = step


def numbers(mark: Any) -> Any:
    """Return a mark whose tensors are lists, so that it can be compared."""
    return tree_map(lambda part: part.tolist() if isinstance(part, Tensor) else part, mark)


@cached
def test_a_rewound_draft_leaves_no_trace(kind: str) -> None:
    model = MAKERS[kind]()
    expected = alone(model, begin(model, 1, 5))
    beside = alone(model, begin(model, 2, 6))
    row, other = [*begin(model, 1, 5), *begin(model, 2, 6)]
    memory = model.memory([row])
    memory.admit([row, other])
    advanced(model, [row, other], memory, 2)
    mark, canvas = memory.mark(row), row.canvas
    # draft other tokens: noise of another row
    noise, row.noise = row.noise, SeededNoise(99)
    advanced(model, [row], memory, 2)
    assert numbers(memory.mark(row)) != numbers(mark)
    row.noise, row.canvas = noise, canvas
    memory.rewind(row, mark)
    assert numbers(memory.mark(row)) == numbers(mark)
    undo(row, 2)
    finish(model, [row, other], memory)
    same(row, expected)
    same(other, beside)


@torch.no_grad()
def test_kept_entries_are_all_that_is_seen() -> None:
    """Entries evicted from one layer are masked for that layer from then on, for that row alone."""
    model = Causal(grid(2, 3))
    beside = alone(model, begin(model, 2, 6))
    seen: list[Tensor] = []

    def watch(logits: Tensor, row: Row, tokens: Tensor) -> Tensor:
        seen.append(logits[0])
        return logits

    row, other = [*begin(model, 1, 5, processors=(watch,)), *begin(model, 2, 6)]  # type: ignore[arg-type]
    memory = model.memory([row])
    memory.admit([row, other])
    advanced(model, [row, other], memory, 4)
    memory.keep(row, 1, torch.tensor([0, 3]))
    assert memory.mark(row) == [4, 2] and memory.mark(other) == [4, 4]
    finish(model, [row, other], memory)
    assert torch.equal(content(other), beside)

    x = torch.cat([model.classes(torch.tensor([1])), model.content(content(row)[0, :, 0])])
    x = x + model.places(torch.arange(len(x)))
    causal = torch.ones(len(x), len(x), dtype=torch.bool).tril()
    evicted = causal.clone()
    evicted[4:, [1, 2]] = False
    logits = model.output(plain(model.backbone, x, [causal, evicted]))
    torch.testing.assert_close(torch.stack(seen), logits[:6], rtol=0, atol=1e-11)


def test_memory_says_when_it_is_full() -> None:
    model = Causal(grid(1, 4))
    (row,) = begin(model, 0, 0)
    memory = Causal(grid(1, 1)).memory([row])
    memory.admit([row])
    advanced(model, [row], memory, 2)
    with pytest.raises(LimnerError, match="needs 3 entries of memory, and the memory holds 2"):
        advance(model, [row], memory)


def test_an_order_alone_decides_when_a_row_is_finished() -> None:
    model = var()
    rows = begin(model, 0, 0)
    rows[0].options = Options(guidance=StepRamp(1.0))
    memory = model.memory(rows)
    memory.admit(rows)
    finished = [advance(model, rows, memory)[0].finished for _ in range(4)]
    assert finished == [False, False, False, True]
    assert advance(model, rows, memory) == []
