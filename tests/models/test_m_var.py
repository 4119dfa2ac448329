"""M-VAR: scales are read through the recurrence alone, and its state stays small."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from limner.core.config import from_dict, to_dict
from limner.core.errors import ConfigError
from limner.core.generator import Packed
from limner.core.layout import pyramid
from limner.core.memory import NoMemory
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS
from limner.core.row import Options
from limner.core.slots import attention_mask, batch, up_to, within
from limner.core.tokens import empty, from_ids
from limner.decoding import advance, generate
from limner.heads.categorical import CategoricalHead
from limner.heads.guidance import StepRamp
from limner.hub.convert import detect
from limner.hub.official.m_var import MVAR_WEIGHTS, TABLE
from limner.models.m_var import MVAR, MVARConfig
from limner.models.var import SCALES_256
from limner.orders import teacher_slots
from limner.tokenizers.quantizers.multiscale import MultiScaleConfig, MultiScaleQuantizer

SIZES: dict[str, Any] = {
    "width": 24,
    "depth": 2,
    "heads": 3,
    "codebook_size": 11,
    "latent": 4,
    "classes": 3,
    "scales": (1, 2, (2, 3), 4),
    "gate_gain": 1.0,
    "mixer_state": 5,
    "mixer_head_width": 12,
}
SPANS = (slice(0, 1), slice(1, 5), slice(5, 11), slice(11, 27))


def small(**changes: Any) -> MVAR:
    torch.manual_seed(0)
    model = MVAR(MVARConfig(**SIZES | changes)).double().eval()
    torch.nn.init.normal_(model.output.weight)
    model.canvas = MultiScaleQuantizer(MultiScaleConfig(11, 4)).double()
    return model


def fed_logits(model: MVAR, fed: Tensor) -> Tensor:
    """Return logits [1, N, V] of all scales in one pass that reads these inputs [1, N, D]."""
    layout = pyramid(model.config.sizes)
    tokens, slots = empty(layout, codes=1), batch([teacher_slots(layout)])
    with torch.no_grad():
        return model(Packed(tokens, slots, [{"label": torch.tensor([1])}], fed=fed), NoMemory())


def silence(model: MVAR, branch: int) -> None:
    """Set the gates of a branch to 0: attention (0), mixer (1) or MLP (2)."""
    for block in model.blocks:
        linear = block.modulation.linear
        with torch.no_grad():
            linear.weight.unflatten(0, (9, -1))[branch] = 0
            linear.bias.unflatten(0, (9, -1))[branch] = 0


def moved(model: MVAR, place: int | slice) -> list[bool]:
    """Return which places' logits move when the input at these places does."""
    fed = torch.randn(1, 27, 4, generator=torch.Generator().manual_seed(2)).double()
    before = fed_logits(model, fed)
    fed[:, place] += 1
    return (fed_logits(model, fed) != before).any(-1)[0].tolist()


class Seen:
    """A logits stage that keeps what passes it, a tensor [R, n, V] a step."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []

    def __call__(self, logits: Tensor, turn: object) -> Tensor:
        self.steps.append(logits)
        return logits


@pytest.mark.parametrize("changes", [{}, {"cosine": False}, {"mixer_groups": 2, "mixer_kernel": 3}])
def test_steps_with_carried_states_equal_one_pass(changes: dict[str, Any]) -> None:
    model, seen = small(**changes), Seen()
    model.head = CategoricalHead((seen,))
    layout = pyramid(model.config.sizes)
    condition = {"label": torch.tensor([1])}
    rows = model.begin(empty(layout, codes=1), condition, Options(), SeededNoise(3))
    (row,) = generate(model, rows)
    assert row.tokens.ids is not None and bool(row.tokens.known.all())
    fed, _ = model.canvas.teach(from_ids(layout, row.tokens.ids[..., 0]))
    assert fed is not None
    found = torch.cat(seen.steps, dim=1)
    torch.testing.assert_close(found, fed_logits(model, fed), rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_scales_read_coarser_ones_through_the_mixer_alone(scale: int) -> None:
    model, span = small(), SPANS[scale]
    assert moved(model, span) == [place >= span.start for place in range(27)]
    silence(model, 1)
    assert moved(model, span) == [span.start <= place < span.stop for place in range(27)]


def test_inside_a_scale_attention_looks_both_ways_and_the_mixer_back() -> None:
    model, place = small(), 14
    assert moved(model, place) == [place >= 11 for place in range(27)]
    silence(model, 0)
    assert moved(model, place) == [other >= place for other in range(27)]


def test_attention_costs_the_sum_of_the_scales_own_squares() -> None:
    slots = teacher_slots(pyramid([(side, side) for side in SCALES_256]))
    assert int(attention_mask(within, slots, slots).sum()) == 110_468
    assert int(attention_mask(up_to, slots, slots).sum()) == 286_434


def test_what_is_remembered_does_not_grow() -> None:
    model = small()
    condition, options = {"label": torch.tensor([0])}, Options(guidance=StepRamp(1.5))
    tokens = empty(pyramid(model.config.sizes), codes=1)
    rows = model.begin(tokens, condition, options, SeededNoise(0))
    memory = model.memory(rows)
    memory.admit(rows)
    held = []
    while advance(model, rows, memory):
        held.append(memory.bytes())
    config, inner = model.config, 48
    tail, state = 3 * (inner + 2 * config.mixer_state), config.mixer_state * inner
    # what lasts is in double precision here
    assert held == [8 * len(rows) * config.depth * (tail + state)] * 4


@pytest.mark.parametrize(
    ("depth", "count"),
    [
        (12, 198_435_424),
        (16, 464_157_184),
        (20, 900_528_736),
        (24, 1_550_067_136),
        (30, 3_017_065_756),
        (32, 3_658_707_968),
    ],
)
def test_published_parameter_counts(depth: int, count: int) -> None:
    with torch.device("meta"):
        model = MODELS.create(f"m-var-d{depth}")
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_initial_weights() -> None:
    torch.manual_seed(0)
    model = MVAR(MVARConfig(width=96, depth=4, heads=3, scales=(1, 2), codebook_size=64, classes=9))
    std, block = (3 * 96) ** -0.5, model.blocks[1]
    chunks = block.modulation.linear.weight.unflatten(0, (9, -1))
    spread = {
        "gates of attention and mixer": (chunks[:2], std * 1e-3),
        "gate of the MLP, scales, shifts": (chunks[2:], std / 2),
        "mixer.into": (block.mixer.into.weight, std),
        "mixer.out": (block.mixer.out.weight, std),
        "convolution": (block.mixer.convolution.weight, 0.02),
        "attention.out": (block.attention.out.weight, std / 8**0.5),
    }
    for name, (weight, wanted) in spread.items():
        assert weight.std().item() == pytest.approx(wanted, rel=0.08), name
    assert not block.mixer.convolution.bias.any()


@pytest.mark.parametrize("groups", [1, 2])
def test_official_names_are_found_again(groups: int) -> None:
    model = small(width=64, heads=1, scales=SCALES_256, mixer_groups=groups, mixer_head_width=16)
    state = TABLE.to_official(model.state_dict())
    assert state["blocks.1.mamba.conv1d.weight"].shape == (128 + 2 * groups * 5, 1, 4)
    buffers = {
        "lvl_1L": torch.zeros(1, 680),
        "attn_bias_for_masking": torch.zeros(1, 1, 1, 1),
        "blocks.0.attn.zero_k_bias": torch.zeros(64),
        "blocks.0.attn.patch_nums": torch.zeros(10),
    }
    back = TABLE.to_ours({**state, **buffers})
    assert all(torch.equal(back[name], tensor) for name, tensor in model.state_dict().items())
    assert detect(state) is MVAR_WEIGHTS
    inferred = MVAR_WEIGHTS.config(state, {"mixer_groups": groups} if groups > 1 else {})
    assert {**vars(inferred), "gate_gain": 1.0} == vars(model.config)


def test_published_heads_follow_from_the_width() -> None:
    """Weights of attention without cosines do not tell; published heads are 64 wide."""
    model = small(width=128, heads=2, scales=SCALES_256, cosine=False, mixer_head_width=64)
    state = TABLE.to_official(model.state_dict())
    assert MVAR_WEIGHTS.config(state).heads == 2
    assert MVAR_WEIGHTS.config(state, {"heads": 4}).heads == 4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shared_adaln", True),
        ("mixer_state", 0),
        ("mixer_head_width", 7),
        ("mixer_groups", 3),
        ("mixer_kernel", 0),
        ("depth", 0),
    ],
)
def test_bad_configurations_are_named(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        MVARConfig(**{**SIZES, field: value})


def test_configurations_come_from_lists() -> None:
    config = MVARConfig(**SIZES)
    assert from_dict(MVARConfig, to_dict(config)) == config


def test_training_learns_ids_that_follow_from_the_class() -> None:
    model = small(condition_dropout=0.0, cosine=False).float().train()
    model.canvas.float()  # type: ignore[attr-defined]
    torch.nn.init.normal_(model.canvas.codebook.weight)  # type: ignore[attr-defined]
    rng, layout = torch.Generator().manual_seed(0), pyramid(model.config.sizes)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(40):
        label = torch.randint(3, (16,), generator=rng)
        ids = label[:, None].expand(-1, len(layout)).clone()
        ids[:, 5:] = (ids[:, 5:] * 2 + 1) % 11
        loss = model.loss(from_ids(layout, ids), {"label": label}, rng).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.3
    assert all(parameter.grad is not None for parameter in model.parameters())
