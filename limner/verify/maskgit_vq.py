"""Replays of MaskGIT's tokenizer, whose official pictures are in [0, 1]."""

from __future__ import annotations

import torch

from limner.core.tokens import from_ids
from limner.hub.official import maskgit_vq as official
from limner.tokenizers.maskgit_vq import MaskGITVQ
from limner.verify.case import Case
from limner.verify.registry import replay


@replay("vqgan/maskgit-vq*")
@torch.no_grad()
def tokenizer(case: Case) -> None:
    """Every stage from picture to codes and back, and the loss of the codes."""
    tokenizer: MaskGITVQ = official.VQ.build(official.vq_config(case.hyper), case.weights())
    given = case.input("image")
    pictures = torch.lerp(torch.tensor(-1.0), torch.tensor(1.0), given)
    _, quantized = tokenizer(pictures)
    tokens = tokenizer.encode(pictures)
    assert tokens.ids is not None
    case.check("encoder_out", tokenizer.encoder(given))
    case.check("ids", tokens.ids.squeeze(-1))
    case.check("quant", tokenizer.lookup(tokens))
    case.check("quant_loss", quantized.loss)
    codes = tokenizer.lookup(from_ids(tokens.layout, case.input("ids")))
    case.check("codebook_entry", codes)
    case.check("decoded", tokenizer.decoder(codes))
    case.check("decoded_clamped", (tokenizer.decode(tokens) + 1) / 2)
