"""Infinity's mechanism: texts, scales, guidance inside of the network, published sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.core.errors import ConfigError
from limner.core.guidance import Guidance, Unguided
from limner.core.layout import pyramid
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS
from limner.core.request import Request
from limner.core.row import Condition, Options, Row
from limner.core.tokens import empty, from_ids
from limner.decoding import generate
from limner.heads.guidance import Constant, Inside, Listed
from limner.hub.build import weightless
from limner.models.infinity import Infinity, InfinityConfig
from limner.tokenizers.quantizers.multiscale_bits import MultiScaleBits, MultiScaleBitsConfig

LAYOUT = pyramid(((1, 1), (2, 2), (2, 3)))
CONFIG = InfinityConfig(
    width=24, depth=3, heads=3, bits=5, text_length=6, text_width=16, levels=4, gate_gain=1.0
)


def small(**changes: Any) -> Infinity:
    torch.manual_seed(0)
    model = Infinity(replace(CONFIG, **changes)).double().eval()
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=rng))
    model.canvas = MultiScaleBits(MultiScaleBitsConfig(width=5))
    return model


def caption(length: int, places: int, seed: int = 0) -> Condition:
    rng = torch.Generator().manual_seed(seed)
    text = torch.zeros(1, places, 16, dtype=torch.float64)
    text[:, :length] = torch.randn(1, length, 16, generator=rng, dtype=torch.float64)
    present = (torch.arange(places) < length).unsqueeze(0)
    return {"text": text, "present": present, "null": torch.zeros(1, dtype=torch.bool)}


def taught(model: Infinity, ids: Tensor, condition: Condition) -> Tensor:
    tokens = from_ids(LAYOUT, ids)
    fed, _ = model.canvas.teach(tokens)
    assert fed is not None
    with torch.no_grad():
        return model.taught(tokens, fed, condition)


def drawn(
    model: Infinity, condition: Condition, guidance: Guidance | None = None
) -> tuple[Tensor, Tensor]:
    """Return ids [1, N, bits] of a sampled run and its guided logits."""
    seen: dict[int, Tensor] = {}

    def record(logits: Tensor, row: Row, tokens: Tensor) -> Tensor:
        seen.update(zip(tokens.tolist(), logits, strict=True))
        return logits

    options = Options(guidance=guidance or Unguided(), processors=(record,))
    blank = empty(LAYOUT, codes=model.config.bits)
    (row,) = generate(model, model.begin(blank, condition, options, SeededNoise(3)))
    assert row.tokens.ids is not None
    return row.tokens.ids, torch.stack([seen[token] for token in sorted(seen)]).unsqueeze(0)


@pytest.mark.parametrize("changes", [{}, {"level_blocks": (0, 2)}, {"reference": "own"}])
def test_cached_steps_equal_one_masked_pass(changes: dict[str, Any]) -> None:
    model, condition = small(**changes), caption(3, 6)
    ids, logits = drawn(model, condition)
    torch.testing.assert_close(logits, taught(model, ids, condition), rtol=0, atol=1e-10)


def test_scales_vectors_enter_before_the_blocks_that_are_named() -> None:
    ids = torch.randint(2, (1, len(LAYOUT), 5), generator=torch.Generator().manual_seed(0))
    first, every = small(), small(level_blocks=(0, 1, 2))
    first.load_state_dict(every.state_dict())
    assert not torch.allclose(*(taught(each, ids, caption(2, 6)) for each in (first, every)))


def test_padding_of_a_text_is_not_read() -> None:
    model = small()
    ids = torch.randint(2, (1, len(LAYOUT), 5), generator=torch.Generator().manual_seed(0))
    short, long = caption(2, 2), caption(2, 6)
    long["text"][:, 2:] = 7.0
    torch.testing.assert_close(taught(model, ids, short), taught(model, ids, long))
    assert not torch.allclose(taught(model, ids, short), taught(model, ids, caption(2, 2, seed=9)))
    both = {name: torch.cat([long[name], caption(5, 6, seed=4)[name]]) for name in long}
    beside = taught(model, ids.expand(2, -1, -1), both)
    torch.testing.assert_close(beside[:1], taught(model, ids, short))


def test_null_rows_read_learned_features_or_the_negative_text() -> None:
    model, condition = small(), caption(3, 6)
    null = model.null(condition)
    learned = model.condition.unconditional
    assert torch.equal(model.condition.prefix(null)[0], learned)
    assert torch.equal(model.condition.present(null), condition["present"])
    other = caption(2, 6, seed=5)
    told = {**condition, "negative": other["text"], "negative_present": other["present"]}
    null = model.null(told)
    assert null.keys() == told.keys()
    assert torch.equal(model.condition.prefix(null), other["text"])


def test_guidance_inside_of_the_last_block_is_guidance_of_its_output() -> None:
    model, condition = small(), caption(3, 6)
    ids, logits = drawn(model, condition, Inside(Constant(2.5), -1))
    null = model.null(condition)
    # what lead and null rows read is the same, so up to the last block they are two plain passes
    hidden = []
    model.norm.register_forward_pre_hook(lambda module, given: hidden.append(given[0]))
    lead, _ = taught(model, ids, condition), taught(model, ids, null)
    mixed = 2.5 * hidden[0] + (1 - 2.5) * hidden[1]
    vector = model.pool(_read(model, condition))
    with torch.no_grad():
        wanted = model.output(model.norm(mixed, vector)).unflatten(-1, (-1, 2))
    torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-9)
    assert not torch.allclose(logits, lead)


def _read(model: Infinity, condition: Condition) -> Any:
    from limner.layers.cross_attention import Text

    features = model.text_norm(model.condition.prefix(condition))
    return Text(features, condition["present"][:, None, None])


def test_lists_guide_each_scale_by_its_own_scale() -> None:
    model, condition = small(), caption(3, 6)
    ids, logits = drawn(model, condition, Listed((1.0, 3.0, 1.0)))
    lead, null = taught(model, ids, condition), taught(model, ids, model.null(condition))
    wanted = lead.clone()
    wanted[:, 1:5] = null[:, 1:5] + 3.0 * (lead - null)[:, 1:5]
    torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-9)
    with pytest.raises(ConfigError, match="a scale for each"):
        drawn(model, condition, Listed((1.0, 3.0)))


def test_training_flips_bits_and_drops_texts_by_its_generator_alone() -> None:
    model = small()
    tokens = from_ids(LAYOUT, torch.randint(2, (4, len(LAYOUT), 5)))
    condition = {name: value.expand(4, *value.shape[1:]) for name, value in caption(3, 6).items()}
    losses = [
        float(model.loss(tokens, condition, None if seed is None else rng(seed)).total.detach())
        for seed in (None, None, 1, 1, 2)
    ]
    assert losses[0] == losses[1] and losses[2] == losses[3] and losses[3] != losses[4]
    assert losses[0] != losses[2]


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_captions_need_no_weights() -> None:
    model = small(condition="caption")
    condition = model.condition.ask(Request(2, prompts=["a red fox", "a cat"]))
    ids = torch.randint(2, (1, len(LAYOUT), 5)).expand(2, -1, -1)
    logits = taught(model, ids, condition)
    assert not torch.allclose(logits[0], logits[1])


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("2b", 2_204_564_032),
        ("8b", 8_375_791_824),
        ("layer12", 125_148_800),
        ("layer16", 361_578_464),
        ("layer24", 940_871_072),
    ],
)
def test_published_parameter_counts(name: str, count: int) -> None:
    variant = MODELS.get_variant(f"infinity-{name}")
    with weightless():
        model = Infinity(variant.config)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert variant.published == count


def test_bad_input() -> None:
    for name, value in (
        ("width", 26),
        ("level_blocks", (3,)),
        ("reference", "other"),
        ("condition", "class"),
        ("drop_path", 1.0),
    ):
        with pytest.raises(ConfigError, match=name):
            replace(CONFIG, **{name: value})
    model = small()
    for sizes, message in (
        (((2, 2), (3, 3)), "first scale is one token"),
        (((1, 1),) * 5, "at most 4"),
    ):
        with pytest.raises(ConfigError, match=message):
            model.begin(empty(pyramid(sizes), codes=5), caption(1, 6), Options(), SeededNoise(0))
    with pytest.raises(ConfigError, match="prompts need a text encoder"):
        model.condition.ask(Request(1, prompts=["a cat"]))
