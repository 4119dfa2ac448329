"""Replays of NFIG's quantiser: Fourier resampling, bands, ids and the canvas."""

from __future__ import annotations

import torch

from limner.core.layout import Layout, pyramid
from limner.core.tokens import Tokens
from limner.orders import teacher_slots
from limner.tokenizers.quantizers.multiscale import MultiScaleConfig, MultiScaleQuantizer
from limner.tokenizers.quantizers.resampling import fourier_down, fourier_up
from limner.verify.case import Case
from limner.verify.registry import replay


@replay("nfig/frequency*")
@torch.no_grad()
def quantizer(case: Case) -> None:
    """Matrices, bands, ids of every band, and what the generator reads."""
    features, codes = case.input("features"), case.input("codebook")
    side = features.shape[-1]
    for name, entry in case.match("down_{size}"):
        case.check(name, fourier_down(side, entry["size"]))
    for name, entry in case.match("up_{size}"):
        case.check(name, fourier_up(side, entry["size"]))
    count, width = codes.shape
    module = MultiScaleQuantizer(
        MultiScaleConfig(count, width, phi_count=1, phi_ratio=0.0, resampling="fourier")
    )
    module.codebook.weight.copy_(codes)
    layout = pyramid(tuple((size, size) for size in case.hyper["sizes"]))
    bands = [module.resampling.band(features, segment.size[1:]) for segment in layout.segments]
    case.check("low_pass", torch.stack(bands, dim=1))
    case.check("step_of_token", teacher_slots(layout).since)
    tokens = module.encode(features, layout)
    assert tokens.ids is not None
    case.check("ids", tokens.ids.squeeze(-1))
    prefixes = [module.decode(_prefix(tokens, layout, band)) for band in range(len(bands))]
    case.check("f_hat", torch.stack(prefixes, dim=1))
    vectors, (fed, _) = module(features, layout).vectors, module.teach(tokens)
    assert vectors is not None and fed is not None
    # The last band is of full size, where the case's script resampled nothing and kept the very
    # arrays that it went on to change: it holds what they are after that band.
    last, final = layout.span(len(bands) - 1), prefixes[-1]
    vectors[:, last] = (features - final).flatten(2).transpose(1, 2)
    fed[:, last] = final.flatten(2).transpose(1, 2)
    case.check("tokens", vectors)
    case.check("next_input", fed[:, layout.span(0).stop :])


def _prefix(tokens: Tokens, layout: Layout, band: int) -> Tokens:
    """Return the tokens of which bands up to this one are known."""
    known = torch.zeros_like(tokens.known)
    known[:, : layout.span(band).stop] = True
    return Tokens(layout, tokens.ids, None, known)
