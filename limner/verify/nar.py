"""Replays of NAR: orders, the decoders of pictures and clips, and LARP's tokenizer."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.core.generator import Packed
from limner.core.layout import Layout, grid
from limner.core.memory import NoMemory
from limner.core.row import Condition
from limner.core.slots import Slots, attention_mask, batch, up_to
from limner.core.tokens import empty, from_ids
from limner.hub.official import larp as larp_weights
from limner.hub.official import llamagen
from limner.hub.official import nar as official
from limner.models.nar import NAR
from limner.orders.neighbours import all_slots, next_neighbour, shares
from limner.tokenizers.larp import LARP
from limner.verify.case import Case
from limner.verify.drawing import all_speaking, draw
from limner.verify.registry import replay


@replay("nar/order*")
def order(case: Case) -> None:
    """Order, mask and shares of heads, for grids and volumes of any size."""
    for name, found in case.match("{kind}_{shape}"):
        sizes = [int(size) for size in str(found["shape"]).split("x")]
        heads, (frames, rows, columns) = len(sizes), [1, *sizes][-3:]
        layout = grid(rows, columns, frames)
        slots = all_slots(layout, heads)
        made = {
            "mask": attention_mask(up_to, slots, slots),
            "order": torch.cat([step.draw for step in next_neighbour(layout).steps]),
            "step": next_neighbour(layout).step,
            "mix": shares(layout, heads),
        }
        if found["kind"] in made:
            case.check(name, made[found["kind"]])


@replay("nar/image-c2i*")
def class_pictures(case: Case) -> None:
    """The decoder under classes, and greedy runs with and without an end of guidance."""
    _pictures(case, {"label": case.input("cond")}, {"label": case.input("gen_cond")})


@replay("nar/image-t2i*")
def text_pictures(case: Case) -> None:
    """The decoder under text features, the loss of some pictures alone, and greedy runs."""
    present = case.input("emb_mask").bool()
    null = torch.zeros(len(present), dtype=torch.bool)
    given = {"text": case.input("caption_emb"), "present": present, "null": null}
    _pictures(case, given, {name: tensor[:2] for name, tensor in given.items()})


def _pictures(case: Case, given: Condition, asked: Condition) -> None:
    config = official.picture_config(case.hyper)
    model: NAR = official.PICTURES.build(config, case.weights())
    layout = llamagen.gpt_layout(case.hyper)
    _check_teaching(case, model, layout, given, ("R", "B"))
    case.check("freqs_cis", _rotation(model, layout))
    _check_runs(case, model, layout, asked)


@replay("nar/video*")
def clips(case: Case) -> None:
    """The decoder of clips under classes, the order, and greedy runs."""
    model: NAR = official.CLIPS.build(official.clip_config(case.hyper), case.weights())
    layout = official.clip_layout(case.hyper)
    given, asked = (_label(case, model, name) for name in ("cond", "gen_cond"))
    _check_teaching(case, model, layout, given, ("R", "D", "B"))
    case.check("step", next_neighbour(layout).step)
    case.check("order", torch.cat([step.draw for step in next_neighbour(layout).steps]))
    _check_runs(case, model, layout, asked)


def _label(case: Case, model: NAR, name: str) -> Condition:
    """Return given classes, of which -1 is the null class."""
    label = case.input(name)
    return {"label": torch.where(label < 0, model.config.classes, label)}


@torch.no_grad()
def _check_teaching(
    case: Case, model: NAR, layout: Layout, given: Condition, heads: tuple[str, ...]
) -> None:
    """Check what the heads say of known tokens, each alone and together."""
    tokens = from_ids(layout, case.input("ids"))
    slots = model.teacher_slots(layout, given)
    mask = attention_mask(up_to, slots, slots)
    case.check("attn_mask", mask[0] if "label" in given else mask)
    for index, head in enumerate(heads):
        packed = Packed(tokens, all_speaking(slots, index), [given])
        case.check(f"logits_{head}", model(packed, NoMemory()))
    case.check("logits", model.teach(tokens, given))
    case.check("loss", model.loss(tokens, given).total)
    if "valid" in case:
        assert tokens.ids is not None
        counts = case.input("valid").unsqueeze(1).expand(tokens.known.shape)
        outputs = model.teach(tokens, given)
        case.check("loss_valid", model.head.loss(outputs, tokens.ids, weight=counts).total)


def _check_runs(case: Case, model: NAR, layout: Layout, asked: Condition) -> None:
    for name, _ in case.match("gen_{run}_ids"):
        options = official.sampling_options(case.arguments(name))
        drawing = draw(model, layout, asked, options)
        beside = name.removesuffix("ids") + "logits"
        case.check(name, drawing.ids.squeeze(-1), logits=beside)
        case.check(beside, drawing.logits)


def _rotation(model: NAR, layout: Layout) -> Tensor:
    """Return the rotations of the prefix and of all tokens."""
    place = torch.arange(-model.condition.length, len(layout))
    slots = batch([Slots.of(place, place, torch.empty(0, 3, dtype=torch.int64))])
    return model.rotation(Packed(empty(layout, codes=1), slots, [{}]))[0, 0]


@replay("nar/larp*")
@torch.no_grad()
def tokenizer(case: Case) -> None:
    """Clips to codes and back; the case's pixels lie in [0, 1]."""
    larp: LARP = larp_weights.LARP.build(larp_weights.larp_config(case.hyper), case.weights())
    clips = 2 * case.input("clip").transpose(1, 2) - 1
    case.check("z", larp.quantizer.comparable(larp.encode_latents(clips)))
    ids = larp.encode(clips).ids
    assert ids is not None
    case.check("ids", ids.squeeze(-1))
    decoded = larp.decode_latents(larp.quantizer.lookup(case.input("ids")))
    case.check("pred", (decoded.transpose(1, 2) + 1) / 2)
