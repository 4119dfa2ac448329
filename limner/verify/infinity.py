"""Replays of Infinity: the bitwise transformer, and the autoencoder with bits and their flips."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from limner.core.canvas import read_all
from limner.core.layout import Layout
from limner.core.memory import Memory
from limner.core.row import Condition
from limner.core.tokens import empty, from_ids
from limner.heads.bitwise import BitwiseHead, by_gumbel
from limner.hub.official import infinity as official
from limner.layers.cross_attention import Text
from limner.models.infinity import Infinity
from limner.tokenizers.infinity_vae import InfinityVAE
from limner.tokenizers.quantizers.multiscale_bits import MultiScaleBits
from limner.verify.case import Case
from limner.verify.compare import SAMPLING_RUN
from limner.verify.drawing import draw
from limner.verify.registry import replay


@replay("infinity/transformer*")
@torch.no_grad()
def transformer(case: Case) -> None:
    """Texts, positions, teacher-forced logits and loss, greedy and given-noise runs."""
    model: Infinity = official.TRANSFORMER.build(
        official.transformer_config(case.hyper), case.weights()
    )
    model.canvas = MultiScaleBits(official.quantizer_config(case.hyper))
    layout = official.schedule_layout(case.hyper)
    condition = caption_condition(case, "text")
    _check_texts(case, model, condition)
    _check_rotation(case, model, layout)
    _check_teaching(case, model, layout, condition)
    for name, _ in case.match("greedy_{run}_bits"):
        check_run(case, model, layout, name)
    model.head = BitwiseHead(model.head.stages, by_gumbel)
    for name, _ in case.match("sample_bits"):
        check_run(case, model, layout, name)


def caption_condition(
    case: Case, text: str, lengths: str | None = None, negative: tuple[str, str] | None = None
) -> Condition:
    """Return the condition of captions that stand one after another in a tensor of the case.

    Args:
        text: name of the features.
        lengths: name of the captions' lengths; None: "text_lens", or "x_lens" beside "x_text".
        negative: both of what null rows read; None: learned features.
    """
    usual = "text_lens" if text == "text" else text.replace("text", "lens")
    parts = _captions(case, text, lengths or usual)
    others = [] if negative is None else _captions(case, *negative)
    longest = max(len(part) for part in [*parts, *others])
    features, present = _padded(parts, longest)
    null = torch.zeros(len(parts), dtype=torch.bool)
    condition = {"text": features, "present": present, "null": null}
    if negative is not None:
        condition["negative"], condition["negative_present"] = _padded(others, longest)
    return condition


def _captions(case: Case, text: str, lengths: str) -> list[Tensor]:
    return list(case.input(text).split(case.input(lengths).tolist()))


def _padded(parts: list[Tensor], length: int) -> tuple[Tensor, Tensor]:
    features = torch.stack(
        [torch.nn.functional.pad(part, (0, 0, 0, length - len(part))) for part in parts]
    )
    present = torch.arange(length) < torch.tensor([len(part) for part in parts])[:, None]
    return features, present


def _check_texts(case: Case, model: Infinity, condition: Condition) -> None:
    present = condition["present"]
    normed = model.text_norm(model.condition.prefix(condition))
    case.check("text_normed", normed[present])
    case.check("cond", model.pool(Text(normed, present[:, None, None])).squeeze(1))


def _check_rotation(case: Case, model: Infinity, layout: Layout) -> None:
    table = model.rotation(torch.arange(len(layout)).unsqueeze(0), layout, torch.float32)
    case.check("rope", table[0, 0].permute(2, 0, 1))


def _check_teaching(case: Case, model: Infinity, layout: Layout, condition: Condition) -> None:
    targets = from_ids(layout, case.input("bits"))
    given = case.input("var_input")
    first = given.new_zeros(len(given), layout.span(0).stop, given.shape[-1])
    logits = model.taught(targets, torch.cat([first, given], dim=1), condition)
    case.check("logits", logits.flatten(2))
    assert targets.ids is not None
    case.check("loss", model.head.loss(logits, targets.ids).total)


def check_run(
    case: Case, model: Infinity, layout: Layout, name: str, memory: Memory | None = None
) -> None:
    """Check a whole run: its bits, logits after temperature and guidance, and codes.

    Args:
        memory: an empty one to draw in; None: the model's own.
    """
    run, arguments = name.removesuffix("bits"), case.arguments(name)
    text, lengths = arguments["text"].split(", ")
    null = arguments.get("null", "").split(", ")
    negative = (null[0], null[1]) if len(null) == 2 else None
    condition = caption_condition(case, text, lengths, negative)
    count, options = len(condition["null"]), official.sampling_options(arguments)
    noises = None
    if "gumbel" in arguments:
        noises = [case.noise({"token": arguments["gumbel"]}, row) for row in range(count)]
    blank = empty(layout, count, codes=model.config.bits)
    drawing = draw(model, layout, condition, options, noises, blank, memory)
    case.check(name, drawing.ids, logits=f"{run}logits")
    tau = arguments["tau"]
    case.check(f"{run}logits", drawing.logits / (1.0 if isinstance(tau, list) else tau))
    assert isinstance(model.canvas, MultiScaleBits)
    case.check(f"{run}codes", model.canvas.decode(drawing.tokens), tolerance=SAMPLING_RUN)


@replay("infinity/vae*")
@torch.no_grad()
def autoencoder(case: Case) -> None:
    """Latents, bits, pictures, and what scales read and learn with and without flips."""
    config = official.vae_config(case.hyper)
    tokenizer: InfinityVAE = official.VAE.build(config, case.weights())
    layout, quantizer = official.schedule_layout(case.hyper), tokenizer.quantizer
    pictures = case.input("image")
    latents = tokenizer.encode_latents(pictures)
    case.check("latent", latents)
    tokens = tokenizer.encode(pictures, layout=layout)
    assert tokens.ids is not None
    case.check("bits", tokens.ids)
    quantized = quantizer.decode(tokens)
    case.check("quantized", quantized)
    case.check("picture", tokenizer.decode(tokens))
    case.check("codes_from_bits", quantizer.decode(from_ids(layout, case.input("bits"))))
    first = layout.span(0).stop
    by_area = MultiScaleBits(replace(config.quantizer, reads="area"))
    for name, canvas in (("var_input_area", by_area), ("plain_input", quantizer)):
        fed = read_all(canvas, tokens)
        assert fed is not None
        case.check(name, fed[:, first:])
    inputs, targets = quantizer.corrected(latents, layout, ())
    case.check("plain_input", inputs[:, first:])
    case.check("plain_gt", targets)
    flips = _flips(case, layout)
    inputs, targets = quantizer.corrected(latents, layout, flips)
    case.check("flip_input", inputs[:, first:])
    case.check("flip_gt", targets)


def _flips(case: Case, layout: Layout) -> list[Tensor]:
    strengths, uniforms = case.input("flip_strength"), case.input("flip_u")
    return [
        uniforms[:, layout.span(segment)] < share
        for segment, share in enumerate(strengths.tolist())
    ]
