"""Replays of BSQ-ViT."""

from __future__ import annotations

import torch

from limner.hub.official import bsq_vit as official
from limner.tokenizers.bsq_vit import BSQViT
from limner.verify.case import Case
from limner.verify.registry import replay


@replay("quantizers/bsq-vit*")
@torch.no_grad()
def tokenizer(case: Case) -> None:
    """Every stage from picture to bits and back, and the loss of the bits."""
    arguments = {**case.hyper, **case.arguments("loss")}
    tokenizer: BSQViT = official.BSQ_VIT.build(official.vit_config(arguments), case.weights())
    pictures = case.input("image")
    latents = tokenizer.encode_latents(pictures)
    decoded, quantized = tokenizer(pictures)
    tokens = tokenizer.encode(pictures)
    assert tokens.ids is not None
    case.check("encoder_out", tokenizer.read(pictures))
    case.check("z", latents)
    case.check("ids", tokens.ids.squeeze(-1))
    case.check("group_ids", tokenizer.quantizer.group_ids(latents))
    case.check("quantized", quantized.values)
    case.check("loss", quantized.loss)
    case.check("decoded", decoded)
    case.check("decoded_clamped", tokenizer.decode(tokens))
