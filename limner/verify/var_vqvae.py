"""Replays of VAR's tokenizer: pyramids of ids, prefixes of scales, the canvas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from limner.core.tokens import Tokens, from_ids
from limner.hub.official import var as official
from limner.tokenizers.quantizers.multiscale import phi_index
from limner.tokenizers.var_vqvae import VARVQVAE
from limner.verify.case import Case
from limner.verify.registry import replay


@replay("var/vqvae*")
@torch.no_grad()
def tokenizer(case: Case) -> None:
    """Ids of every scale, what each prefix of scales shows, and the inputs of the generator."""
    config = official.tokenizer_config(case.hyper)
    tokenizer: VARVQVAE = official.TOKENIZER.build(config, case.weights())
    pictures = case.input("image")
    latents = tokenizer.encode_latents(pictures)
    case.check("f", latents)
    _check_pictures(case, tokenizer, "image", "ids", "pictures")
    _check_pictures(case, tokenizer, "image_rect", "ids_rect", "pictures_rect")
    _check_pictures(case, tokenizer, "image", "ids_sub", "pictures_sub")
    layout = tokenizer.layout(pictures.shape[-2], pictures.shape[-1], scales=config.scales)
    case.check("vq_loss", tokenizer.quantizer(latents, layout).loss)
    count, shared = len(config.scales), len(tokenizer.quantizer.phi)
    used = [phi_index(scale, count, shared) for scale in range(count)]
    case.check("phi_index", torch.tensor(used))
    _check_canvas(case, tokenizer, from_ids(layout, case.input("ids")))


def _check_pictures(case: Case, tokenizer: VARVQVAE, picture: str, ids: str, shown: str) -> None:
    """Check the ids of a picture, and what each prefix of its scales decodes to."""
    pictures, scales = case.input(picture), case.arguments(ids)["scales"]
    layout = tokenizer.layout(pictures.shape[-2], pictures.shape[-1], scales=scales)
    tokens = tokenizer.encode(pictures, layout=layout)
    assert tokens.ids is not None
    case.check(ids, tokens.ids.squeeze(-1))
    case.check(shown, _prefixes(tokens, tokenizer.decode))


def _check_canvas(case: Case, tokenizer: VARVQVAE, tokens: Tokens) -> None:
    layout, canvas = tokens.layout, tokenizer.quantizer
    fed, _ = canvas.teach(tokens)
    assert fed is not None
    later = fed[:, layout.span(0).stop :]
    final = canvas.decode(tokens).flatten(2).transpose(1, 2)
    case.check("var_input", later)
    case.check("next_inputs", torch.cat([later, final], dim=1))
    case.check("f_hat_scales", _prefixes(tokens, canvas.decode))


def _prefixes(tokens: Tokens, decode: Callable[[Tokens], Tensor]) -> Tensor:
    """Return what the first scale, the first two, ... decode to, float [B, K, ...]."""
    layout = tokens.layout
    ends = [layout.span(scale).stop for scale in range(len(layout.segments))]
    places = torch.arange(len(layout)).expand_as(tokens.known)
    return torch.stack([decode(replace(tokens, known=places < end)) for end in ends], dim=1)
