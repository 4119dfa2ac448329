"""Replays of Meissonic: the transformer in training and in runs, its scheduler, its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limner.core.generator import Generator, Packed
from limner.core.guidance import mix
from limner.core.layout import Layout, grid
from limner.core.memory import Memory, NoMemory
from limner.core.noise import Noise, ReplayedNoise, SeededNoise
from limner.core.order import Step
from limner.core.row import Condition, Event, Options, Row
from limner.core.slots import Slots, batch
from limner.core.tokens import Tokens, empty, from_ids, stack
from limner.decoding import advance, generate
from limner.heads.categorical import CategoricalHead, gumbel_max
from limner.heads.guidance import schedule
from limner.hub.official import meissonic as official
from limner.models.meissonic import Meissonic
from limner.orders.confidence import ConfidenceOrder, Remasking, purpose
from limner.orders.masking import cosine_share
from limner.tokenizers.meissonic_vq import MeissonicVQ
from limner.verify.case import Case
from limner.verify.drawing import all_speaking
from limner.verify.registry import replay

IGNORED = -100
"""Label of places that carry no loss."""


@replay("meissonic/transformer*")
@torch.no_grad()
def transformer(case: Case) -> None:
    """A training step on given masks, sampling passes on the same codes, a whole run."""
    config = official.transformer_config(case.hyper)
    model: Meissonic = official.TRANSFORMER.build(config, case.weights())
    layout = grid(*case.hyper["grid"])
    text, pooled = case.input("encoder_hidden_states"), case.input("pooled")
    given = {"text": text, "pooled": pooled, "numbers": case.input("micro_conds")}
    share = cosine_share(case.input("u"), config.least_masked)
    masked = model.masked(case.input("perm_noise"), share)
    ids = case.input("ids").flatten(1)
    packed = model.taught(from_ids(layout, ids), given, masked, share)
    outputs = model(packed, NoMemory())
    case.check("mask_prob", share)
    case.check("mask", masked.to(torch.uint8))
    case.check("input_ids", ids.where(~masked, config.mask))
    case.check("labels", ids.where(masked, IGNORED))
    case.check("cond_embed", model.vector.about(pooled, given["numbers"]))
    case.check("temb", model.vector(pooled, given["numbers"], model.time(packed)))
    case.check("logits", _as_map(outputs, layout))
    case.check("loss", model.head.loss(outputs, ids.unsqueeze(-1), None, masked).total)
    for name, entry in case.match("logits_t{timestep}"):
        packed.level, packed.rows = None, _rows_at(entry["timestep"], packed.tokens)
        case.check(name, _as_map(model(packed, NoMemory()), layout))
    _check_places(case, model, layout, text.shape[1])
    _check_run(case, model, layout)


def _as_map(outputs: Tensor, layout: Layout) -> Tensor:
    """Return outputs of all places [B, N, V] as [B, V, H, W]."""
    return outputs.transpose(1, 2).unflatten(2, layout.extent[1:])


def _rows_at(left: int, tokens: Tokens) -> list[Row]:
    """Return rows on whose next step so many others follow."""
    order = ConfidenceOrder(Remasking(left + 1))
    return [Row(tokens.row(i), order, SeededNoise(0), {}) for i in range(len(tokens))]


def _check_places(case: Case, model: Meissonic, layout: Layout, text: int) -> None:
    halving = 2 if model.config.compresses else 1
    rows, columns = (side // halving for side in layout.extent[1:])
    rotation = model.rotation((rows, columns), text, model.device)[0, 0]
    case.check("img_ids", grid(rows, columns).coordinates()[:, 1:])
    case.check("rope_cos", rotation[..., 0].repeat_interleave(2, dim=-1))
    case.check("rope_sin", rotation[..., 1].repeat_interleave(2, dim=-1))


def _check_run(case: Case, model: Meissonic, layout: Layout) -> None:
    """Check a run on given noise: what stands after every step, and what was said at two."""
    arguments, size = case.arguments("gen_ids"), layout.extent[1:]
    config = Remasking(arguments["steps"], heat=model.config.heat)
    guidance = schedule("constant", max(1.0, arguments["guidance_scale"]))
    model.head = CategoricalHead(sampler=gumbel_max)
    rows: list[Row] = []
    for index, condition in enumerate(_asked(case, arguments["micro_conds"])):
        noise = _noise(case.input("gen_exp_noise")[:, index], case.input("gen_uniform")[:, index])
        options = Options(guidance, steps=config.steps)
        rows += model.begin(empty(layout, codes=1), condition, options, noise)
    leads = [row for row in rows if row.lead is None]
    said, trace, left = [_everywhere(model, rows)], [], []

    def see(events: list[Event]) -> None:
        left.append(config.left(events[0].step.index))
        trace.append(torch.stack([_with_masks(row, model.config.mask) for row in leads]))
        if leads[0].step == config.steps - 1:
            said.append(_everywhere(model, rows))

    generate(model, rows, [see])
    case.check("gen_ids", trace[-1].unflatten(1, size))
    case.check("gen_trace", torch.stack(trace).unflatten(2, size))
    case.check("gen_logits_step0", _as_map(said[0], layout))
    case.check("gen_logits_last", _as_map(said[-1], layout))
    case.check("gen_timesteps", torch.tensor(left))
    case.check("gen_temperatures", config.heats())


def _asked(case: Case, numbers: Sequence[float]) -> list[Condition]:
    """Return the condition of every row of a run; all have one negative text."""
    text, pooled = case.input("gen_encoder_hidden_states"), case.input("gen_pooled")
    null = {
        "null_text": case.input("gen_neg_encoder_hidden_states"),
        "null_pooled": case.input("gen_neg_pooled"),
        "numbers": torch.tensor([numbers], dtype=torch.float32),
    }
    return [
        {"text": text[i : i + 1], "pooled": pooled[i : i + 1], **null} for i in range(len(text))
    ]


def _noise(exponential: Tensor, uniform: Tensor) -> Noise:
    """Return a row's noise in a run.

    Args:
        exponential: float [S, N, V]; what is drawn has the largest probability over it.
        uniform: float [S, N], behind the Gumbel numbers on confidences.
    """
    given = {}
    for index in range(len(exponential)):
        given[f"token/{index}" if index else "token"] = -exponential[index].log()
        given[purpose(index)] = _gumbel(uniform[index])
    return ReplayedNoise(given)


def _gumbel(uniform: Tensor) -> Tensor:
    return -(-uniform.clamp(min=1e-20).log()).clamp(min=1e-20).log()


def _with_masks(row: Row, mask: int) -> Tensor:
    """Return the codes of a row, and the mask where they will be drawn again: int64 [N]."""
    assert row.tokens.ids is not None
    ids, step = row.tokens.ids[0, :, 0].clone(), row.order.next(row)
    if step is not None:
        ids[step.draw] = mask
    return ids


def _everywhere(model: Meissonic, rows: Sequence[Row]) -> Tensor:
    """Return the guided logits of all places at the next step, float [B, N, V]."""
    tokens, slots = [], []
    for row in rows:
        step = row.order.next(row.lead or row)
        assert step is not None
        seen = row.tokens.clone()
        seen.known[0, step.draw] = False
        tokens.append(seen)
        slots.append(model.slots(row, step))
    conditions = [row.condition for row in rows]
    packed = Packed(stack(tokens), all_speaking(batch(slots)), conditions, rows)
    outputs = model(packed, NoMemory())
    of_null = torch.tensor([row.lead is not None for row in rows])
    if not bool(of_null.any()):
        return outputs
    guidance, step = rows[0].options.guidance, rows[0].order.next(rows[0])
    assert step is not None
    scale = guidance.scale(rows[0], step)
    lead, null = outputs[~of_null], outputs[of_null]
    return mix(lead, null, torch.full((len(lead),), torch.nan if scale is None else scale))


@replay("meissonic/scheduler*")
@torch.no_grad()
def scheduler(case: Case) -> None:
    """Single steps on given logits, tokens and noise; schedules; pictures that are varied."""
    for name, entry in case.match("{schedule}_t{t}_prev_sample"):
        _check_step(case, name, entry["schedule"], entry["t"])
    for name in sorted(case.tensors):
        if name.endswith(("_timesteps", "_temperatures")):
            arguments = case.arguments(name)
            config = Remasking(arguments["steps"], heat=official.heat(arguments["temperature"]))
            left = torch.tensor([config.left(index) for index in range(config.steps)])
            case.check(name, left if name.endswith("_timesteps") else config.heats())
    for name, entry in case.match("{schedule}_addnoise_out"):
        arguments, prefix = case.arguments(name), f"{entry['schedule']}_addnoise"
        config = Remasking(
            arguments["steps"],
            arguments["masking_schedule"],
            share=arguments["starting_mask_ratio"],
        )
        index = config.left(arguments["timestep"])
        lost = config.unknown(case.input(f"{prefix}_uniform"), index)
        kept = case.input(f"{prefix}_sample").where(~lost, case.hyper["mask_token_id"])
        case.check(name, kept)


def _check_step(case: Case, output: str, kind: str, left: int) -> None:
    """Check what one step draws of what is masked, and what is masked after it."""
    arguments, prefix = case.arguments(output), f"{kind}_t{left}"
    share = arguments["starting_mask_ratio"]
    if isinstance(share, str):  # stated as "hyper['...']"
        share = case.hyper[share.split("'")[1]]
    config = Remasking(
        arguments["steps"],
        arguments["masking_schedule"],
        official.heat(arguments["temperature"]),
        share,
    )
    sample, mask = case.input(f"{prefix}_sample"), case.hyper["mask_token_id"]
    exponential = case.input(f"{prefix}_exp_noise")
    uniform = case.input(f"{prefix}_uniform")
    index = config.left(left)
    rows = []
    for row, ids in enumerate(sample.flatten(1)):
        tokens = from_ids(grid(*sample.shape[1:]), ids.unsqueeze(0))
        tokens.known[0] = ids != mask
        noise = ReplayedNoise(
            {
                f"token/{index}" if index else "token": -exponential[row].log(),
                purpose(index): _gumbel(uniform[row]),
            }
        )
        rows.append(Row(tokens, ConfidenceOrder(config), noise, {}, step=index))
    logits = case.input(f"{prefix}_logits").flatten(2).transpose(1, 2)
    given = _Given(logits)
    memory = given.memory(rows)
    memory.admit(rows)
    advance(given, rows, memory)
    drawn = torch.cat([row.tokens.ids for row in rows if row.tokens.ids is not None])
    after = torch.stack([_with_masks(row, mask) for row in rows])
    case.check(f"{prefix}_pred_original_sample", drawn.view_as(sample))
    case.check(output, after.view_as(sample))


class _Given(Generator):
    """A generator whose logits are given, in place of a network.

    Args:
        logits: float [R, N, V].
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.head = CategoricalHead(sampler=gumbel_max)

    def slots(self, row: Row, step: Step) -> Slots:
        """The tokens that are drawn, each of which speaks for itself."""
        index = torch.arange(len(step.draw))
        speaks = torch.stack([index, torch.zeros_like(index), step.draw], dim=1)
        return Slots.of(step.draw, torch.zeros_like(index), speaks, commit=False)

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return the given logits of what is drawn, float [R, M, V]."""
        token = packed.slots.speaks[..., 2].clamp(min=0).unsqueeze(-1)
        return self.logits.gather(1, token.expand(-1, -1, self.logits.shape[-1]))


@replay("meissonic/vq*")
@torch.no_grad()
def vq(case: Case) -> None:
    """Every stage from picture to codes and back, whose official pictures are in [0, 1]."""
    tokenizer: MeissonicVQ = official.VQ.build(official.vq_config(case.hyper), case.weights())
    pictures = 2 * case.input("pictures") - 1
    _, quantized = tokenizer(pictures)
    tokens = tokenizer.encode(pictures)
    assert tokens.ids is not None
    size = tokens.layout.extent[1:]
    case.check("latents", tokenizer.encode_latents(pictures))
    case.check("ids", tokens.ids.squeeze(-1).unflatten(1, size))
    codes = tokenizer.lookup(tokens)
    case.check("quantized", codes)
    case.check("vq_loss", quantized.loss)
    case.check("decoded", (tokenizer.decode_latents(codes) + 1) / 2)
