"""Replays of FlexVAR: the transformer under several lists of scales, and its tokenizer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from limner.core.generator import Packed
from limner.core.layout import Layout, pyramid
from limner.core.memory import NoMemory
from limner.core.slots import batch
from limner.core.tokens import Tokens, from_ids
from limner.heads.categorical import CategoricalHead, gumbel_max
from limner.heads.stages import UnlikelyCodes
from limner.hub.official import flexvar as official
from limner.hub.official.var import part
from limner.layers.place_table import waves
from limner.models.flexvar import FlexVAR, stages
from limner.models.var import VAR
from limner.orders import teacher_slots
from limner.tokenizers.flexvar_vq import FlexVARVQ, enlarged
from limner.tokenizers.latest_codes import LatestCodes
from limner.tokenizers.quantizers.codebook import Codebook
from limner.verify.case import Case
from limner.verify.compare import SAMPLING_RUN
from limner.verify.drawing import draw
from limner.verify.registry import replay


@replay("flexvar/flexvar*")
@torch.no_grad()
def transformer(case: Case) -> None:
    """Places, teacher-forced logits and losses of every list, and runs of every setting."""
    weights = case.weights()
    model: FlexVAR = official.TRANSFORMER.build(official.config(case.hyper), part(weights, "var."))
    codes = weights["vae.quantize.embedding.weight"]
    codebook = Codebook(len(codes), codes.shape[1], normalize=True)
    codebook.weight.copy_(codes)
    model.canvas = canvas = LatestCodes(codebook)
    for name, size in case.match("pos_init_{rows}x{columns}"):
        case.check(name, waves(model.config.width, size["rows"], size["columns"]))
    for index, sides in enumerate(case.hyper["scale_lists"]):
        _teach(case, model, index, _layout(sides))
    if "gen_invalid_ids" in case:
        case.input("gen_invalid_ids")
    for index, run in enumerate(case.hyper["gens"]):
        _run(case, model, canvas, f"gen{index}", run)


def _teach(case: Case, model: FlexVAR, index: int, layout: Layout) -> None:
    """Check everything that is taught under one list."""
    tokens, label = from_ids(layout, case.input(f"ids_{index}")), case.input("labels")
    fed, _ = model.canvas.teach(tokens)
    assert fed is not None
    case.check(f"var_input_{index}", fed[:, layout.span(0).stop :])
    places = [model.table(segment.size[1:]) for segment in layout.segments]
    case.check(f"pos_{index}", torch.cat(places))
    slots, condition = batch([teacher_slots(layout)] * len(tokens)), {"label": label}
    packed = Packed(tokens, slots, [condition], fed=fed)
    case.check(f"logits_{index}", model(packed, NoMemory()))
    # the list itself, where the loss of users draws one
    case.check(f"loss_{index}", VAR.loss(model, tokens, condition).total)


def _run(case: Case, model: FlexVAR, canvas: LatestCodes, name: str, run: dict[str, Any]) -> None:
    """Check one run by the loop."""
    layout = _layout(run["scales"])
    options = official.sampling_options({**run, "used_llamagen_cfg": run["llamagen_cfg"]})
    if run.get("invalid"):
        unlikely = UnlikelyCodes(case.input("gen_invalid_ids"))
        options = replace(options, processors=(unlikely,))
    label = case.input("gen_labels")[: run["batch"]]
    noises = None
    if run.get("noise"):
        noises = [case.noise({"token": f"{name}_gumbel"}, row) for row in range(len(label))]
    shape = stages(model.config.sampled, run["max_pn"])
    model.head = CategoricalHead(shape, gumbel_max if noises else model.head.sampler)
    drawing = draw(model, layout, {"label": label}, options, noises)
    last = len(layout.segments) - 1
    logits = drawing.logits[:, layout.span(last)] if run.get("last_only") else drawing.logits
    case.check(f"{name}_ids", drawing.ids.squeeze(-1), logits=f"{name}_logits")
    case.check(f"{name}_logits", logits)
    case.check(f"{name}_quant", canvas.add(None, drawing.tokens, last), tolerance=SAMPLING_RUN)


@replay("flexvar/vq*")
@torch.no_grad()
def tokenizer(case: Case) -> None:
    """Ids of every list, what each scale shows alone, and the inputs of the generator."""
    config = official.tokenizer_config(case.hyper)
    tokenizer: FlexVARVQ = official.TOKENIZER.build(config, case.weights())
    pictures = case.input("image")
    case.check("latent", tokenizer.encode_latents(pictures))
    for name, _ in case.match("ids_{list}"):
        tokens = _encoded(case, tokenizer, name, pictures)
        assert tokens.ids is not None
        case.check(name, tokens.ids.squeeze(-1))
        fed, _ = tokenizer.canvas.teach(tokens)
        assert fed is not None
        fed_name = name.replace("ids", "var_input")
        case.check(fed_name, fed[:, tokens.layout.span(0).stop :])
    for name, _ in case.match("picture_{side}"):
        arguments = case.arguments(name)
        tokens = _encoded(case, tokenizer, arguments["ids"], pictures)
        case.check(name, _shown(tokenizer, tokens, int(arguments["side"])))
    arguments = case.arguments("pictures_resized")
    if arguments:
        tokens = _encoded(case, tokenizer, arguments["ids"], pictures)
        size = (pictures.shape[-2], pictures.shape[-1])
        shown = [enlarged(_shown(tokenizer, tokens, side), size) for side in arguments["sides"]]
        case.check("pictures_resized", torch.stack(shown, dim=1))


def _encoded(case: Case, tokenizer: FlexVARVQ, ids: str, pictures: Tensor) -> Tokens:
    height, width = pictures.shape[-2:]
    layout = tokenizer.layout(height, width, scales=case.arguments(ids)["scales"])
    return tokenizer.encode(pictures, layout=layout)


def _shown(tokenizer: FlexVARVQ, tokens: Tokens, side: int) -> Tensor:
    """Return what the scale of this side shows alone."""
    sizes = [segment.size for segment in tokens.layout.segments]
    return tokenizer.show_scale(tokens, sizes.index((1, side, side)))


def _layout(sides: list[int]) -> Layout:
    return pyramid(tuple((side, side) for side in sides))
