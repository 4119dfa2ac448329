"""The contracts carry other paradigms: small fakes equal plain, independent computations."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

import limner.decoding
from limner.core.layout import Layout, Segment, grid
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS, TOKENIZERS
from limner.core.row import Options, Row
from limner.core.tokens import Tokens, empty
from limner.decoding import generate
from limner.heads.guidance import Constant
from tests.decoding.fakes import (
    CODES,
    Causal,
    Cells,
    Confidence,
    Flow,
    Frames,
    Masked,
    Neighbours,
    plain,
)


class Recorder:
    """A logits processor that only remembers the logits of every token."""

    def __init__(self) -> None:
        self.logits: dict[int, Tensor] = {}

    def __call__(self, logits: Tensor, row: Row, tokens: Tensor) -> Tensor:
        self.logits.update(zip(tokens.tolist(), logits, strict=True))
        return logits


def ids_of(row: Row) -> list[int]:
    assert row.tokens.ids is not None
    return row.tokens.ids[0, :, 0].tolist()


def drawn_from(logits: Tensor, uniform: Tensor) -> int:
    """Return the code whose share of the unit interval holds the number."""
    chances = logits.exp() / logits.exp().sum()
    return int((chances.cumsum(0) < uniform).sum())


def equal(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-11)


# --- xAR: the backbone is evaluated several times a step -------------------------------------


@torch.no_grad()
def recomputed_cells(model: Cells, seed: int, label: int, steps: int) -> Tensor:
    """Draw all blocks, reading the whole clean prefix anew in every inner pass."""
    size, blocks = model.size, len(model.layout) // model.size
    clean = torch.zeros(0, model.width, dtype=torch.float64)
    for block in range(blocks):
        place = torch.arange(block * size, (block + 1) * size)
        x = SeededNoise(seed).normal("flow", place, 0, (model.width,))
        block_of = torch.cat([torch.tensor([-1]), torch.arange(len(clean)) // size])
        mask = torch.ones(1 + len(clean) + size, 1 + len(clean) + size, dtype=torch.bool)
        mask[: len(block_of), : len(block_of)] = block_of[None] <= block_of[:, None]
        mask[: len(block_of), len(block_of) :] = False
        for k in range(steps):
            noisy = model.content(x) + (1 - k / steps) * model.levels
            start = model.classes(torch.tensor([label]))
            whole = torch.cat([start, model.content(clean), noisy])
            whole = whole + model.places(torch.arange(len(whole)))
            velocity = model.output(plain(model.backbone, whole, mask)[-size:])
            x = x - velocity / steps
        clean = torch.cat([clean, x])
    return clean


def test_head_may_evaluate_the_backbone_many_times_a_step() -> None:
    model = Cells(blocks=3, size=2)
    watch: list[list[int]] = []
    model.head = Flow(3, watch)  # type: ignore[assignment]
    (row,) = generate(model, model.start(label=1, seed=5))
    assert row.tokens.values is not None
    equal(row.tokens.values[0], recomputed_cells(model, 5, 1, 3))
    # the first pass of a step commits the clean block before it, later passes commit nothing
    assert watch == [[1, 1]] * 3 + [[3, 3]] * 3 + [[5, 5]] * 3
    assert model.passes == 9


# --- NAR: two heads, several outputs for one token -------------------------------------------


def test_neighbours_predict_by_head_and_their_logits_are_averaged() -> None:
    side = 3
    model, recorder = Neighbours(side), Recorder()
    options = Options(processors=(recorder,))
    (row,) = generate(model, model.start(label=2, seed=1, options=options))
    assert model.passes == 2 * side - 1
    ids = ids_of(row)
    # brute force: one pass over everything, each place seeing diagonals up to its own
    diagonal = torch.tensor([-1] + [sum(divmod(p, side)) for p in range(side**2)])
    with torch.no_grad():
        x = torch.cat([model.classes(torch.tensor([2])), model.content(torch.tensor(ids))])
        x = x + model.places(torch.arange(len(x)))
        hidden = plain(model.backbone, x, diagonal[None] <= diagonal[:, None])
        right, below = model.output(hidden).unflatten(-1, (2, CODES)).unbind(1)
    for token in range(side**2):
        line, column = divmod(token, side)
        said = [right[0]] if token == 0 else []
        said += [right[1 + token - 1]] if column else []
        said += [below[1 + token - side]] if line else []
        equal(recorder.logits[token], sum(said) / len(said))
        uniform = SeededNoise(1).uniform("token", torch.tensor([token]), 0)
        assert ids[token] == drawn_from(recorder.logits[token], uniform)


# --- AR-Diffusion: levels instead of a partition ---------------------------------------------


def test_every_frame_has_a_noise_level_of_its_own() -> None:
    frames, parts, lag = 4, 4, 2
    model = Frames(frames, parts, lag)
    known: list[list[bool]] = []
    hook = lambda events: known.append(events[0].row.tokens.known[0].tolist())  # noqa: E731
    (row,) = generate(model, model.start(label=1, seed=2), [hook])
    x = SeededNoise(2).normal("frame", torch.arange(frames), 0, (3,))
    level = [1.0] * frames
    with torch.no_grad():
        for step in range(lag * (frames - 1) + parts):
            then = [min(1.0, max(0.0, 1 - (step + 1 - lag * i) / parts)) for i in range(frames)]
            moving = [i for i in range(frames) if then[i] != level[i]]
            read = [i for i in range(frames) if level[i] == 0] + moving
            content = model.content(x[read]) + torch.tensor(level)[read, None] * model.levels
            whole = torch.cat([model.classes(torch.tensor([1])), content])
            whole = whole + model.places(torch.tensor([0, *[1 + i for i in read]]))
            mask = torch.ones(len(whole), len(whole), dtype=torch.bool)
            direction = model.output(plain(model.backbone, whole, mask))[-len(moving) :]
            change = torch.tensor([level[i] - then[i] for i in moving], dtype=torch.float64)
            x[moving] = x[moving] - change.unsqueeze(1) * direction
            level = then
            assert known[step] == [value == 0 for value in level]
            assert level == sorted(level)
    assert row.tokens.values is not None
    equal(row.tokens.values[0], x)


# --- MaskGIT, Meissonic: an order that is decided at run time ---------------------------------


@pytest.mark.parametrize("given", [(), (2, 7)])
def test_tokens_are_masked_again_by_confidence(given: tuple[int, ...]) -> None:
    count, steps = 9, 4
    model = Masked(grid(3, 3), steps)
    tokens = empty(model.layout, codes=1)
    tokens.known[0, list(given)] = True
    tokens.ids[0, list(given), 0] = 5  # type: ignore[index]
    redrawn: list[list[int]] = []
    hook = lambda events: redrawn.append(events[0].step.draw.tolist())  # noqa: E731
    (row,) = generate(model, model.start(label=1, seed=3, tokens=tokens), [hook])

    ids = dict.fromkeys(given, 5)
    free = [i for i in range(count) if i not in given]
    confidence: dict[int, float] = dict.fromkeys(free, 0.0)
    for step in range(steps):
        amount = math.ceil(len(free) * math.cos(math.pi / 2 * step / steps))
        masked = sorted(sorted(free, key=lambda i: confidence[i])[:amount])
        assert redrawn[step] == masked and not set(masked) & set(given)
        with torch.no_grad():
            x = [model.mask if i in masked else model.content.weight[ids[i]] for i in range(count)]
            whole = torch.cat([model.classes(torch.tensor([1])), torch.stack(x)])
            whole = whole + model.places(torch.arange(1 + count))
            mask = torch.ones(1 + count, 1 + count, dtype=torch.bool)
            logits = model.output(plain(model.backbone, whole, mask))[1:].log_softmax(-1)
        # every redraw has noise of its own
        purpose = f"token/{step}" if step else "token"
        uniform = SeededNoise(3).uniform(purpose, torch.arange(count), 0)
        for i in masked:
            ids[i] = drawn_from(logits[i], uniform[i])
            confidence[i] = logits[i, ids[i]].item()
    assert ids_of(row) == [ids[i] for i in range(count)]
    assert isinstance(row.order, Confidence) and row.tokens.known.all()


# --- interleaved text and picture ------------------------------------------------------------


TEXT_CODES = 3  # ids 0 .. 2 are words, the others codes of the picture


def grammar(logits: Tensor, row: Row, tokens: Tensor) -> Tensor:
    """Forbid ids of the wrong modality."""
    layout = row.tokens.layout
    roles = [layout.segments[segment].role for segment in layout.segment_of()[tokens]]
    text = torch.tensor([role == "text" for role in roles]).unsqueeze(1)
    word = torch.arange(logits.shape[-1]) < TEXT_CODES
    return logits.masked_fill(text != word, -torch.inf)


def test_each_segment_draws_from_its_own_vocabulary() -> None:
    text, picture = Segment("ids", (1, 1, 4), role="text"), Segment("ids", (1, 2, 2))
    layout = Layout((text, picture, text), extent=(1, 2, 2))
    wanted = [True] * 4 + [False] * 4 + [True] * 4
    model = Causal(layout)
    free = [ids_of(row) for seed in range(4) for row in generate(model, model.start(0, seed))]
    assert any([i < TEXT_CODES for i in ids] != wanted for ids in free)
    recorder = Recorder()
    options = Options(processors=(recorder, grammar))
    for seed in range(4):
        (row,) = generate(model, model.start(0, seed, options))
        ids = ids_of(row)
        assert [i < TEXT_CODES for i in ids] == wanted
        uniform = SeededNoise(seed).uniform("token", torch.arange(len(ids)), 0)
        for token, logits in recorder.logits.items():
            first = 0 if wanted[token] else TEXT_CODES
            allowed = logits[:TEXT_CODES] if wanted[token] else logits[TEXT_CODES:]
            assert ids[token] == first + drawn_from(allowed, uniform[token])


def test_guided_logits_equal_two_plain_runs() -> None:
    model, recorder = Causal(grid(2, 3)), Recorder()
    options = Options(guidance=Constant(2.5), processors=(recorder,))
    (row,) = generate(model, model.start(1, 0, options))
    runs = []
    for label in (1, 3):
        with torch.no_grad():
            x = torch.cat([model.classes(torch.tensor([label])), model.content.weight[ids_of(row)]])
            x = x + model.places(torch.arange(len(x)))
            causal = torch.ones(len(x), len(x), dtype=torch.bool).tril()
            runs.append(model.output(plain(model.backbone, x, causal))[:-1])
    expected = runs[1] + 2.5 * (runs[0] - runs[1])
    equal(torch.stack([recorder.logits[i] for i in range(6)]), expected)


# --- the loop itself -------------------------------------------------------------------------


def test_the_loop_knows_no_model() -> None:
    names = {family.name for family in (*MODELS.families(), *TOKENIZERS.families())}
    assert "llamagen" in names and "var" in names
    for source in Path(limner.decoding.__file__).parent.glob("*.py"):
        text = source.read_text()
        assert "isinstance" not in text and "hasattr" not in text
        words = set(re.findall(r"[a-z0-9-]+", text.lower()))
        assert not words & names, source.name
        assert "limner.models" not in text and "limner.tokenizers" not in text


def test_given_tokens_are_never_overwritten() -> None:
    model = Causal(grid(2, 2))
    given = Tokens(
        model.layout,
        torch.tensor([[[0], [6], [0], [4]]]),
        None,
        torch.tensor([[False, True, False, True]]),
    )
    for seed in range(5):
        (row,) = generate(model, model.start(0, seed, tokens=given.clone()))
        assert ids_of(row)[1] == 6 and ids_of(row)[3] == 4
