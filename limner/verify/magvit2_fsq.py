"""Replays of NBP's tokenizer, whose official clips are [B, 3, T, H, W] in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.core.layout import Layout
from limner.hub.official import magvit2_fsq as official
from limner.tokenizers.magvit2_fsq import MAGVIT2FSQ
from limner.verify.case import Case
from limner.verify.registry import replay


@replay("nbp/magvit2-fsq*")
@torch.no_grad()
def tokenizer(case: Case) -> None:
    """Every stage from clip to codes and back, and the codes of a first frame alone."""
    config = official.tokenizer_config(case.hyper)
    tokenizer: MAGVIT2FSQ = official.MAGVIT2_FSQ.build(config, case.weights())
    clips = 2 * case.input("clip").transpose(1, 2) - 1
    latents = tokenizer.encode_latents(clips)
    quantized = tokenizer.quantizer(latents.movedim(1, -1))
    case.check("z", latents)
    case.check("quantized", quantized.values.movedim(-1, 1))
    tokens, first = tokenizer.encode(clips), tokenizer.encode(clips[:, :1])
    assert tokens.ids is not None and first.ids is not None
    case.check("ids", _volume(tokens.ids, tokens.layout))
    case.check("first_frame_ids", _volume(first.ids, first.layout))
    values = tokenizer.quantizer.lookup(_volume(tokens.ids, tokens.layout))
    painted = tokenizer.decode_latents(values.movedim(-1, 1))
    case.check("pred", ((painted + 1) / 2).transpose(1, 2))


def _volume(ids: Tensor, layout: Layout) -> Tensor:
    return ids.squeeze(-1).unflatten(1, layout.extent)
