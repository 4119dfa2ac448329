"""LlamaGen: its mechanism, and that what is drawn step by step is what teacher forcing says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from limner.conditions.text import left_padded
from limner.core.config import from_dict
from limner.core.errors import ConfigError
from limner.core.generator import Packed
from limner.core.layout import Layout, grid
from limner.core.memory import NoMemory
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS
from limner.core.request import Request
from limner.core.row import Condition, Options, Row
from limner.core.tokens import empty, from_ids
from limner.decoding import advance, generate
from limner.heads.categorical import CategoricalHead
from limner.heads.guidance import Constant
from limner.layers.rotary import grid_rotation, rotate
from limner.models.llamagen import LlamaGen, LlamaGenConfig

LAYOUT = grid(2, 4)
CODES = 11
KINDS = ("class", "text", "caption")
BOTH = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)]
)
OF_EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def small(kind: str = "class", dtype: torch.dtype = torch.float64, **changes: Any) -> LlamaGen:
    """A tiny LlamaGen with random weights, its output too."""
    torch.manual_seed(0)
    values = {
        "width": 16, "depth": 2, "heads": 2, "codebook_size": CODES, "classes": 3,
        "condition": kind, "text_length": 5, "text_width": 6, "multiple_of": 8, **changes,
    }  # fmt: skip
    model = LlamaGen(from_dict(LlamaGenConfig, values)).to(dtype).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def asked(kind: str, count: int = 3) -> Condition:
    """Conditions that differ from row to row; texts also in how many tokens they have."""
    if kind == "class":
        return {"label": torch.arange(count) % 3}
    if kind == "caption":
        captions = [f"{i} red fox{'es' * i}" for i in range(count)]
        return small("caption").condition.ask(Request(count, prompts=captions))
    features = torch.randn(count, 5, 6, generator=torch.Generator().manual_seed(1))
    lengths = 1 + torch.arange(count) * 2 % 5
    return left_padded(features.double(), torch.arange(5) < lengths.unsqueeze(1))


def part(condition: Condition, index: int) -> Condition:
    return {name: value[index : index + 1] for name, value in condition.items()}


def begin(
    model: LlamaGen, condition: Condition, options: Options, seed: int = 0, layout: Layout = LAYOUT
) -> list[Row]:
    """The rows of all pictures; picture i has seed + i."""
    rows: list[Row] = []
    for i in range(len(next(iter(condition.values())))):
        tokens = empty(layout, codes=1)
        rows += model.begin(tokens, part(condition, i), options, SeededNoise(seed + i))
    return rows


class Seen:
    """A stage that keeps the guided logits of every step, [R, n, V] each."""

    def __init__(self, model: LlamaGen) -> None:
        self.steps: list[Tensor] = []
        model.head = CategoricalHead((self, *CategoricalHead().stages))

    def __call__(self, logits: Tensor, turn: object) -> Tensor:
        self.steps.append(logits)
        return logits

    def logits(self) -> Tensor:
        return torch.cat(self.steps, dim=1)


def drawn_ids(rows: list[Row]) -> Tensor:
    """Int64 [B, N] of the lead rows."""
    return torch.cat([row.tokens.ids[..., 0] for row in rows if row.lead is None])


def draw(
    model: LlamaGen, condition: Condition, options: Options | None = None, seed: int = 0
) -> Tensor:
    rows = begin(model, condition, options or Options(), seed)
    generate(model, rows)
    return drawn_ids(rows)


@torch.no_grad()
def teacher(model: LlamaGen, ids: Tensor, condition: Condition, layout: Layout = LAYOUT) -> Tensor:
    """Logits of every token given the earlier ones, in one uncached pass, [B, N, V]."""
    tokens = from_ids(layout, ids)
    slots = model.teacher_slots(layout, condition)
    return model(Packed(tokens, slots, [condition]), NoMemory())


def assert_close(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= tolerance * (wanted.max() - wanted.min())


# what is drawn step by step


@BOTH
@OF_EVERY_KIND
def test_every_cached_step_is_the_teacher_forced_one(
    kind: str, dtype: torch.dtype, tolerance: float
) -> None:
    model, condition = small(kind, dtype), asked(kind)
    seen = Seen(model)
    ids = draw(model, condition)
    assert len(seen.steps) == len(LAYOUT)
    assert_close(seen.logits(), teacher(model, ids, condition), tolerance)


@OF_EVERY_KIND
def test_guided_steps_mix_the_teacher_forced_condition_and_null(kind: str) -> None:
    model, condition = small(kind), asked(kind)
    seen = Seen(model)
    ids = draw(model, condition, Options(guidance=Constant(2.5)))
    lead = teacher(model, ids, condition)
    null = teacher(model, ids, model.null(condition))
    assert (lead - null).abs().max() > 1e-3
    assert_close(seen.logits(), null + 2.5 * (lead - null), 1e-12)


@OF_EVERY_KIND
def test_scale_0_is_the_null_condition_and_scale_1_the_condition(kind: str) -> None:
    model, condition = small(kind), asked(kind)
    seen = Seen(model)
    ids = draw(model, condition, Options(guidance=Constant(0.0)))
    assert_close(seen.logits(), teacher(model, ids, model.null(condition)), 1e-12)
    assert torch.equal(ids, draw(small(kind), model.null(condition)))
    rows = begin(model, condition, Options(guidance=Constant(1.0)))
    assert len(rows) == 3  # nothing is spent on null rows
    generate(model, rows)
    assert torch.equal(drawn_ids(rows), draw(small(kind), condition))


def test_greedy_takes_the_largest_logit_at_every_step() -> None:
    model, condition = small(), asked("class")
    ids = draw(model, condition, Options(temperature=0.0))
    assert torch.equal(ids, teacher(model, ids, condition).argmax(-1))
    assert torch.equal(ids, draw(model, condition, Options(top_k=1), seed=7))


@pytest.mark.parametrize("ahead", [1, 7])
@OF_EVERY_KIND
def test_rows_at_different_steps_are_drawn_as_alone(kind: str, ahead: int) -> None:
    model, condition = small(kind), asked(kind, 2)
    alone = torch.cat([draw(model, part(condition, i), seed=i) for i in range(2)])
    first, second = begin(model, condition, Options())
    memory = model.memory([first, second])
    memory.admit([first])
    for _ in range(ahead):
        advance(model, [first], memory)
    memory.admit([second])
    while advance(model, [first, second], memory):
        pass
    assert torch.equal(drawn_ids([first, second]), alone)


def test_one_model_draws_any_grid() -> None:
    model, condition = small(), asked("class", 1)
    for layout in (grid(1, 5), grid(5, 1), grid(4, 4)):
        seen = Seen(model)
        rows = begin(model, condition, Options(), layout=layout)
        generate(model, rows)
        wanted = teacher(model, drawn_ids(rows), condition, layout)
        assert_close(seen.logits(), wanted, 1e-12)


# a row does not depend on its batch


@OF_EVERY_KIND
def test_ids_do_not_depend_on_the_batch(kind: str) -> None:
    model, conditions = small(kind), asked(kind, 5)
    alone = torch.cat([draw(model, part(conditions, i), seed=i) for i in range(5)])
    assert len(alone.unique(dim=0)) == 5
    assert torch.equal(draw(model, conditions), alone)
    guided = Options(guidance=Constant(3.0))
    rows = [begin(model, part(conditions, i), Options(), i) for i in range(5)]
    beside = begin(model, conditions, guided, seed=40)
    mixed = [row for own in reversed(rows) for row in own]
    generate(model, [*beside[:3], *mixed, *beside[3:]])
    assert torch.equal(drawn_ids(mixed).flip(0), alone)
    assert torch.equal(drawn_ids(beside), draw(model, conditions, guided, seed=40))


@OF_EVERY_KIND
def test_float32_logits_agree_between_batches(kind: str) -> None:
    model, conditions = small(kind, torch.float32), asked(kind, 5)
    ids = draw(model, conditions)
    together = teacher(model, ids, conditions)
    for i in range(5):
        alone = teacher(model, ids[i : i + 1], part(conditions, i))
        assert_close(alone, together[i : i + 1], 1e-5)


@OF_EVERY_KIND
def test_the_same_call_twice_is_bit_exact(kind: str) -> None:
    model, condition = small(kind, torch.float32), asked(kind)
    logits, ids = [], []
    for _ in range(2):
        seen = Seen(model)
        ids.append(draw(model, condition, Options(guidance=Constant(2.0), top_p=0.9)))
        logits.append(seen.logits())
    assert torch.equal(*ids)
    assert torch.equal(*logits)


# what sees what


@OF_EVERY_KIND
def test_predictions_depend_on_earlier_tokens_alone(kind: str) -> None:
    model, condition = small(kind), asked(kind)
    ids = torch.randint(CODES, (3, 8), generator=torch.Generator().manual_seed(2))
    before = teacher(model, ids, condition)
    for changed in range(8):
        other = ids.clone()
        other[:, changed] = (other[:, changed] + 1) % CODES
        after = teacher(model, other, condition)
        assert torch.equal(after[:, : changed + 1], before[:, : changed + 1])
        assert (after[:, changed + 1 :] != before[:, changed + 1 :]).any(-1).all()


@OF_EVERY_KIND
def test_every_prediction_depends_on_the_condition(kind: str) -> None:
    model, condition = small(kind), asked(kind)
    ids = torch.zeros(1, 8, dtype=torch.int64)
    logits = [teacher(model, ids, part(condition, i)) for i in range(3)]
    assert (logits[0] != logits[1]).any(-1).all()
    assert (logits[1] != logits[2]).any(-1).all()


def test_what_stands_under_the_padding_is_never_seen() -> None:
    model, condition = small("text"), asked("text")
    assert condition["present"].sum(1).tolist() == [1, 3, 5]
    ids = draw(model, condition)
    padding = ~condition["present"].unsqueeze(-1)
    noisy = condition | {"text": condition["text"].masked_fill(padding, 9.0)}
    assert torch.equal(teacher(model, ids, noisy), teacher(model, ids, condition))
    elsewhere = condition | {"text": condition["text"] + ~padding}
    assert not torch.equal(teacher(model, ids, elsewhere), teacher(model, ids, condition))


# positions


def captured(model: LlamaGen, ids: Tensor, condition: Condition) -> list[tuple[Tensor, Tensor]]:
    """Every layer's rotated queries and keys, [B, heads, T + N - 1, d] each."""
    found = []

    class Reading:
        def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, **_: Any) -> Tensor:
            found.append((query, key))
            return value

        def close(self) -> None: ...

    class Memory(NoMemory):
        def read(self, *_: Any) -> Reading:
            return Reading()

    slots = model.teacher_slots(LAYOUT, condition)
    with torch.no_grad():
        model(Packed(from_ids(LAYOUT, ids), slots, [condition]), Memory())
    return found


@OF_EVERY_KIND
def test_prefix_queries_and_keys_are_zero(kind: str) -> None:
    model, condition = small(kind), asked(kind, 2)
    length = model.condition.length
    layers = captured(model, torch.zeros(2, 8, dtype=torch.int64), condition)
    assert len(layers) == 2
    for query, key in layers:
        scores = query @ key.transpose(-1, -2)
        assert not scores[:, :, :length].any()
        assert not scores[:, :, :, :length].any()
        assert (scores[:, :, length:, length:] != 0).all()


def test_scores_depend_on_the_offset_in_rows_and_columns_alone() -> None:
    layout = grid(5, 6)
    table = grid_rotation(layout, 8, 10000.0, torch.device("cpu"), torch.float64)[1:]
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)
    turned = [rotate(x.expand(1, 1, 30, 8), table)[0, 0].reshape(5, 6, 8) for x in (query, key)]
    scores = torch.einsum("abd,xyd->abxy", *turned)
    for rows, columns in ((0, 0), (1, 0), (0, 2), (-2, 3), (3, -1)):
        same = torch.stack(
            [
                scores[a, b, a + rows, b + columns]
                for a in range(5)
                for b in range(6)
                if 0 <= a + rows < 5 and 0 <= b + columns < 6
            ]
        )
        assert same.max() - same.min() < 1e-5  # the table is rounded to float32
    assert (scores[0, 0, 1, 0] - scores[0, 0, 0, 1]).abs() > 1e-3
    assert (scores[0, 0, 0, 1] - scores[0, 1, 0, 0]).abs() > 1e-3


# training


def test_a_fresh_model_is_uniform() -> None:
    model = LlamaGen(small().config)
    ids = torch.randint(CODES, (2, 8))
    loss = model.loss(from_ids(LAYOUT, ids), asked("class", 2)).total
    assert torch.allclose(loss, torch.tensor(CODES).log())


@OF_EVERY_KIND
def test_the_loss_is_the_cross_entropy_of_every_token(kind: str) -> None:
    model, condition = small(kind), asked(kind)
    ids = draw(model, condition)
    each = teacher(model, ids, condition).log_softmax(-1).gather(-1, ids.unsqueeze(-1))
    loss = model.loss(from_ids(LAYOUT, ids), condition)
    assert torch.allclose(loss.total.double(), -each.mean(), atol=1e-6)


@OF_EVERY_KIND
def test_conditions_are_dropped_only_with_a_generator(kind: str) -> None:
    model, condition = small(kind, condition_dropout=1.0), asked(kind)
    tokens = from_ids(LAYOUT, draw(model, condition))
    kept = model.loss(tokens, condition).total
    dropped = model.loss(tokens, condition, torch.Generator().manual_seed(0)).total
    assert torch.equal(dropped, model.loss(tokens, model.null(condition)).total)
    assert not torch.equal(dropped, kept)
    never = small(kind, condition_dropout=0.0)
    assert torch.equal(never.loss(tokens, condition, torch.Generator()).total, kept)


@OF_EVERY_KIND
def test_every_parameter_learns(kind: str) -> None:
    model, condition = small(kind).train(), asked(kind)
    model.loss(from_ids(LAYOUT, torch.arange(24).reshape(3, 8) % CODES), condition).total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_dropout_is_for_training() -> None:
    model, condition = small(dropout=0.5), asked("class")
    tokens = from_ids(LAYOUT, torch.zeros(3, 8, dtype=torch.int64))
    assert torch.equal(model.loss(tokens, condition).total, model.loss(tokens, condition).total)
    model.train()
    assert not torch.equal(model.loss(tokens, condition).total, model.loss(tokens, condition).total)


# configuration


@pytest.mark.parametrize("size", ["b", "l", "xl", "xxl", "xxxl", "1b", "3b", "7b"])
def test_published_parameter_counts(size: str) -> None:
    name = f"llamagen-{size}"
    published = MODELS.get_variant(name).published
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in MODELS.create(name).parameters())
    rounded = f"{count / 1e9:.1f}B" if str(published).endswith("B") else f"{count / 1e6:.0f}M"
    assert rounded == published


def test_the_text_variant_reads_120_features_of_2048() -> None:
    with torch.device("meta"):
        model = MODELS.create("llamagen-t2i-xl")
    assert tuple(model.condition.unconditional.shape) == (120, 2048)
    assert "unconditional" not in dict(model.condition.named_parameters())


@pytest.mark.parametrize(
    ("width", "hidden"), [(768, 2048), (1024, 2816), (1280, 3584), (1536, 4096), (3200, 8704)]
)
def test_the_mlp_is_8_thirds_wide_rounded_up_to_256(width: int, hidden: int) -> None:
    assert LlamaGenConfig(width=width, heads=width // 64).hidden == hidden


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", 0),
        ("width", 20),
        ("depth", 0),
        ("heads", -1),
        ("codebook_size", 0),
        ("classes", 0),
        ("condition", "prompt"),
        ("text_length", 0),
        ("text_width", 0),
        ("multiple_of", 0),
        ("dropout", 1.0),
        ("condition_dropout", 1.5),
    ],
)
def test_a_configuration_error_names_the_field_and_the_value(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field) as error:
        LlamaGenConfig(**{"width": 64, "heads": 8, field: value})
    assert repr(value) in str(error.value)
