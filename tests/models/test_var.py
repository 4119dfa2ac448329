"""VAR against reference runs of the official code, and its mechanism."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from limner.core.config import from_dict, to_dict
from limner.core.errors import ConfigError
from limner.core.generator import Packed
from limner.core.layout import Layout, pyramid
from limner.core.memory import NoMemory
from limner.core.noise import Noise, ReplayedNoise, SeededNoise
from limner.core.registry import MODELS
from limner.core.request import Request
from limner.core.row import Options, Row
from limner.core.slots import attention_mask, batch, up_to
from limner.core.tokens import empty, from_ids
from limner.decoding import advance, generate
from limner.heads.categorical import CategoricalHead, gumbel_max
from limner.heads.guidance import StepRamp
from limner.hub.official.var import (
    TRANSFORMER,
    TRANSFORMER_TABLE,
    part,
    quantizer,
    quantizer_config,
    transformer_config,
)
from limner.models.var import VAR, VARConfig
from limner.orders import teacher_slots
from limner.tokenizers.quantizers.multiscale import MultiScaleQuantizer

FIXTURES = Path(__file__).parents[1] / "fixtures" / "parity" / "var"
CASES = ("var", "var-saln")


@dataclass(frozen=True)
class Reference:
    """A case: the model and quantiser it was made with, and its tensors."""

    model: VAR
    quantizer: MultiScaleQuantizer
    layout: Layout
    hyper: dict[str, Any]
    io: dict[str, Tensor]


@lru_cache
def reference(case: str) -> Reference:
    folder = FIXTURES / case
    hyper = json.loads((folder / "config.json").read_text())["hyper"]
    state = load_file(folder / "weights.safetensors")
    config = transformer_config(hyper)
    model = TRANSFORMER.build(config, part(state, "var."))
    model.canvas = read = quantizer(hyper, part(state, "vae.quantize."))
    io = load_file(folder / "io.safetensors")
    return Reference(model, read, pyramid(config.sizes), hyper, io)


def close(found: Tensor, wanted: Tensor, tolerance: float = 1e-4) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


class Seen:
    """A logits stage that keeps what passes it, a tensor [R, n, V] a step."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []

    def __call__(self, logits: Tensor, turn: object) -> Tensor:
        self.steps.append(logits)
        return logits

    def logits(self) -> Tensor:
        return torch.cat(self.steps, dim=1)


def draw(
    case: Reference, head: CategoricalHead, options: Options, noises: list[Noise]
) -> tuple[Tensor, Tensor]:
    """Return ids [2, N] and the final canvases [2, D, H, W] of the case's two classes."""
    model, default = case.model, case.model.head
    model.head = head
    rows: list[Row] = []
    for label, noise in zip(case.io["gen_labels"], noises, strict=True):
        tokens = empty(case.layout, codes=1)
        rows += model.begin(tokens, {"label": label.reshape(1)}, options, noise)
    drawn = generate(model, rows)
    model.head = default
    ids = torch.cat([row.tokens.ids for row in drawn if row.tokens.ids is not None])
    return ids[..., 0], torch.cat([row.canvas for row in drawn if row.canvas is not None])


@pytest.mark.parametrize("case", CASES)
def test_teacher_forcing_matches_the_official_code(case: str) -> None:
    ref = reference(case)
    tokens = from_ids(ref.layout, ref.io["ids"])
    first = len(ref.layout.segments[0])
    fed, targets = ref.quantizer.teach(tokens)
    assert fed is not None and targets is tokens
    close(fed[:, first:], ref.io["var_input"])
    slots = teacher_slots(ref.layout)
    assert torch.equal(slots.since, ref.io["step_of_token"])
    condition = {"label": ref.io["labels"]}
    packed = Packed(tokens, batch([slots] * len(tokens)), [condition], fed=fed)
    with torch.no_grad():
        logits = ref.model(packed, NoMemory())
        loss = ref.model.loss(tokens, condition).total
    close(logits, ref.io["logits"])
    close(loss, ref.io["loss"])
    last = ref.layout.span(len(ref.layout.segments) - 1)
    tail = ref.model.head.loss(logits[:, last], tokens.ids[:, last])  # type: ignore[index]
    close(tail.total, ref.io["loss_tail"])


@pytest.mark.parametrize("strength", ["0", "1.5"])
@pytest.mark.parametrize("case", CASES)
def test_greedy_cached_generation_is_the_official_one(case: str, strength: str) -> None:
    ref = reference(case)
    seen = Seen()
    head = CategoricalHead((seen, *ref.model.head.stages))
    options = Options(guidance=StepRamp(float(strength)), top_k=1)
    ids, canvas = draw(ref, head, options, [SeededNoise(0), SeededNoise(1)])
    assert torch.equal(ids, ref.io[f"gen_cfg{strength}_ids"])
    close(seen.logits(), ref.io[f"gen_cfg{strength}_logits"])
    close(canvas, ref.io[f"gen_cfg{strength}_f_hat"], 1e-3)


@pytest.mark.parametrize("case", CASES)
def test_given_noise_draws_the_official_ids(case: str) -> None:
    ref = reference(case)
    seen = Seen()
    head = CategoricalHead((*ref.model.head.stages, seen), sampler=gumbel_max)
    options = Options(
        guidance=StepRamp(ref.hyper["sample_cfg"]),
        top_k=ref.hyper["sample_top_k"],
        top_p=ref.hyper["sample_top_p"],
    )
    noises: list[Noise] = [ReplayedNoise({"token": row}) for row in ref.io["sample_gumbel"]]
    ids, canvas = draw(ref, head, options, noises)
    kept = seen.logits() > -torch.inf
    assert torch.equal(kept.long(), ref.io["sample_kept"])
    assert torch.equal(ids, ref.io["sample_ids"])
    close(seen.logits().where(kept, torch.zeros(())), ref.io["sample_logits"])
    close(canvas, ref.io["sample_f_hat"], 1e-3)


@pytest.mark.parametrize("case", CASES)
def test_official_names_are_found_again(case: str) -> None:
    state = part(load_file(FIXTURES / case / "weights.safetensors"), "var.")
    back = TRANSFORMER_TABLE.to_official(TRANSFORMER_TABLE.to_ours(state))
    rebuilt = {"lvl_1L", "attn_bias_for_masking"}
    assert state.keys() - back.keys() == {
        name for name in state if name in rebuilt or name.endswith("zero_k_bias")
    }
    assert all(torch.equal(tensor, state[name]) for name, tensor in back.items())
    inferred = TRANSFORMER.config(state, {"scales": reference(case).hyper["patch_nums"]})
    built = reference(case).model.config
    assert inferred.sizes == built.sizes
    for name in ("width", "depth", "heads", "codebook_size", "latent", "classes", "shared_adaln"):
        assert getattr(inferred, name) == getattr(built, name)
    with pytest.raises(ConfigError, match="give scales"):
        TRANSFORMER.config(state)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("var-d16", 310_283_520),
        ("var-d20", 600_917_136),
        ("var-d24", 1_033_399_360),
        ("var-d30", 2_010_020_356),
        ("var-d36-s", 2_353_893_904),
    ],
)
def test_published_parameter_counts(name: str, count: int) -> None:
    with torch.device("meta"):
        model = MODELS.create(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert MODELS.get_variant(name).published == count


def small(**changes: Any) -> VAR:
    torch.manual_seed(0)
    config = VARConfig(
        width=24, depth=2, heads=3, codebook_size=11, latent=4, classes=3, scales=(1, 2, (2, 3))
    )
    values = {**to_dict(config), "gate_gain": 1.0, **changes}
    model = VAR(from_dict(VARConfig, values)).double().eval()
    torch.nn.init.normal_(model.output.weight, generator=torch.Generator().manual_seed(1))
    model.canvas = MultiScaleQuantizer(quantizer_config(QUANTIZER)).double()
    return model


QUANTIZER = {"vocab_size": 11, "z_channels": 4, "share_quant_resi": 4, "quant_resi": 0.5}


def teacher_logits(model: VAR, ids: Tensor) -> Tensor:
    layout = pyramid(model.config.sizes)
    tokens = from_ids(layout, ids)
    fed, _ = model.canvas.teach(tokens)
    slots = batch([teacher_slots(layout)] * len(ids))
    with torch.no_grad():
        return model(Packed(tokens, slots, [{"label": torch.tensor([1])}], fed=fed), NoMemory())


@pytest.mark.parametrize("changes", [{}, {"shared_adaln": True}, {"cosine": False}])
def test_cached_steps_equal_one_masked_pass(changes: dict[str, Any]) -> None:
    model = small(**changes)
    seen = Seen()
    model.head = CategoricalHead((seen,))
    tokens = empty(pyramid(model.config.sizes), codes=1)
    condition = {"label": torch.tensor([1])}
    (row,) = generate(model, model.begin(tokens, condition, Options(), SeededNoise(3)))
    assert row.tokens.known.all()
    assert row.tokens.ids is not None
    expected = teacher_logits(model, row.tokens.ids[..., 0])
    torch.testing.assert_close(seen.logits(), expected, rtol=0, atol=1e-12)


def test_a_scale_is_read_by_later_scales_only() -> None:
    model = small()
    layout = pyramid(model.config.sizes)
    ids = torch.randint(11, (1, len(layout)), generator=torch.Generator().manual_seed(2))
    before = teacher_logits(model, ids)
    for segment in range(len(layout.segments)):
        changed = ids.clone()
        span = layout.span(segment)
        changed[:, span] = (changed[:, span] + 1) % 11
        moved = (teacher_logits(model, changed) - before).abs().amax((0, 2)) > 1e-9
        assert moved.tolist() == (torch.arange(len(layout)) >= span.stop).tolist()


def test_mask_is_block_causal() -> None:
    slots = teacher_slots(pyramid(((1, 1), (2, 2))))
    expected = torch.ones(5, 5, dtype=torch.bool)
    expected[0, 1:] = False
    assert torch.equal(attention_mask(up_to, slots, slots), expected)


def test_first_scale_is_never_guided() -> None:
    model = small()
    layout = pyramid(model.config.sizes)
    first = []
    for strength in (0.0, 7.0):
        seen = Seen()
        model.head = CategoricalHead((seen,))
        options = Options(guidance=StepRamp(strength))
        condition = {"label": torch.tensor([1])}
        rows = model.begin(empty(layout, codes=1), condition, options, SeededNoise(0))
        assert len(rows) == (2 if strength else 1)
        generate(model, rows)
        first.append(seen.steps)
    torch.testing.assert_close(first[0][0], first[1][0], rtol=0, atol=1e-12)
    assert (first[0][1] - first[1][1]).abs().max() > 1e-3


def test_keys_keep_only_what_later_scales_read() -> None:
    model = small()
    layout = pyramid(model.config.sizes)
    condition = {"label": torch.tensor([0])}
    rows = model.begin(empty(layout, codes=1), condition, Options(), SeededNoise(0))
    memory = model.memory(rows)
    memory.admit(rows)
    held = []
    while advance(model, rows, memory):
        held.append(memory.mark(rows[0])[0])
    assert held == [1, 5, 5]
    entry = 2 * model.config.depth * model.config.width * torch.float64.itemsize
    assert memory.bytes() == 5 * entry
    # nor is there room for the last scale
    assert sum(buffer.nbytes for buffer in (*memory.keys, *memory.values)) == 5 * entry


def test_rows_at_their_last_scale_are_drawn_beside_others() -> None:
    model = small()
    layout = pyramid(model.config.sizes)
    rows = [
        model.begin(
            empty(layout, codes=1), {"label": torch.tensor([k])}, Options(), SeededNoise(k)
        )[0]
        for k in range(3)
    ]
    alone = [
        generate(model, model.begin(empty(layout, codes=1), row.condition, Options(), row.noise))[0]
        for row in rows
    ]
    memory = model.memory(rows)
    memory.admit(rows[:2])
    advance(model, rows[:2], memory)
    advance(model, rows[:2], memory)
    memory.admit(rows[2:])
    while advance(model, rows, memory):  # the last scale of two, the first of the third
        pass
    for row, other in zip(rows, alone, strict=True):
        assert torch.equal(row.tokens.ids, other.tokens.ids)  # type: ignore[arg-type]


def test_initial_weights() -> None:
    config = VARConfig(width=96, depth=4, heads=3, scales=(1, 2), codebook_size=64)
    torch.manual_seed(0)
    model = VAR(config)
    std = (3 * 96) ** -0.5
    block = model.blocks[1]
    spread = {
        "attention.qkv": (block.attention.qkv.weight, std),
        "attention.out": (block.attention.out.weight, std / 8**0.5),
        "mlp.out": (block.mlp.out.weight, std / 8**0.5),
        "gates": (block.modulation.linear.weight[: 2 * 96], std * 1e-3),
        "scales and shifts": (block.modulation.linear.weight[2 * 96 :], std / 2),
        "output norm": (model.norm.modulation.linear.weight, std / 2),
        "output": (model.output.weight, std * 0.02),
        "classes": (model.condition.table.weight, std),
    }
    for name, (weight, wanted) in spread.items():
        assert weight.std().item() == pytest.approx(wanted, rel=0.05), name
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
    shared = VAR(VARConfig(**{**vars(config), "shared_adaln": True}))
    assert shared.shared is not None
    assert shared.shared.linear.weight.std().item() == pytest.approx(std, rel=0.05)
    offset = shared.blocks[0].modulation.offset
    assert offset[:2].std().item() == pytest.approx(96**-0.5 * 1e-3, rel=0.2)
    assert offset[2:].std().item() == pytest.approx(96**-0.5 / 2, rel=0.2)


def test_scales_may_be_oblong_and_come_from_lists() -> None:
    config = from_dict(VARConfig, {"scales": [1, [1, 2], [3, 4]]})
    assert config.sizes == ((1, 1), (1, 2), (3, 4)) and config.length == 15
    assert from_dict(VARConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [("scales", ()), ("scales", (1, 0)), ("heads", 7), ("drop_path", 1.0), ("depth", 0)],
)
def test_bad_configurations_are_named(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match="width" if field == "heads" else field):
        VARConfig(**{field: value})


def test_the_quantiser_is_read_but_is_no_part_of_the_model() -> None:
    model = small()
    assert isinstance(model.canvas, MultiScaleQuantizer)
    assert not [name for name in model.state_dict() if "codebook" in name or "canvas" in name]


def test_another_layout_is_refused() -> None:
    model = small()
    with pytest.raises(ConfigError, match="scales"):
        tokens = empty(pyramid(((1, 1), (3, 3))), codes=1)
        model.begin(tokens, {"label": torch.tensor([0])}, Options(), SeededNoise(0))


def test_training_learns_ids_that_follow_from_class_and_canvas() -> None:
    """Ids of the second scale are a function of the first scale's id, which follows the class."""
    model = small(width=24).float()
    model.canvas.float()  # type: ignore[attr-defined]
    torch.nn.init.normal_(model.canvas.codebook.weight)  # type: ignore[attr-defined]
    layout = pyramid(model.config.sizes)
    rng = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        label = torch.randint(3, (16,), generator=rng)
        ids = label[:, None].expand(-1, len(layout)).clone()
        ids[:, 5:] = (ids[:, 5:] * 2 + 1) % 11
        loss = model.loss(from_ids(layout, ids), {"label": label}, rng).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    # every tokens' own entropy is ln 3; only dropped classes (1 in 10) leave the first scale open
    assert sum(losses[-10:]) / 10 < 0.5


def test_captions_and_styles_modulate_every_scale() -> None:
    """In place of the class: an unknown word changes all logits, and nothing said is the null."""
    model = small(condition="description", styles=2)
    ids = torch.zeros(1, model.config.length, dtype=torch.int64)
    said = {"prompts": ["red fox"], "styles": [1]}
    others = ({"prompts": ["red box"], "styles": [1]}, {"prompts": ["red fox"], "styles": [0]}, {})
    logits = described_logits(model, ids, Request(1, **said))
    for other in others:
        changed = described_logits(model, ids, Request(1, **other))
        assert ((changed - logits).abs().amax(-1) > 1e-4).all()
    null = model.condition.null(model.condition.ask(Request(1, **said)))
    assert null.keys() == model.condition.ask(Request(1)).keys()


def described_logits(model: VAR, ids: Tensor, request: Request) -> Tensor:
    tokens = from_ids(pyramid(model.config.sizes), ids)
    fed, _ = model.canvas.teach(tokens)
    asked = model.condition.ask(request)
    with torch.no_grad():
        return model(
            Packed(tokens, batch([teacher_slots(tokens.layout)]), [asked], fed=fed), NoMemory()
        )
