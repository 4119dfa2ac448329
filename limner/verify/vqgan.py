"""Replays of VQGAN: every stage from picture to codes and back, and the two losses of the codes."""

from __future__ import annotations

import torch

from limner.core.tokens import from_ids
from limner.hub.official import vqgan as official
from limner.tokenizers.quantizers.codebook import Codebook
from limner.tokenizers.vqgan import VQGAN
from limner.verify.case import Case
from limner.verify.registry import replay


@replay("vqgan/vq*")
def tokenizer(case: Case) -> None:
    """Latents, ids, pictures; values and gradients of the losses with beta on either term."""
    tokenizer: VQGAN = official.VQGAN.build(official.vqgan_config(case.hyper), case.weights())
    pictures = case.input("image")
    with torch.no_grad():
        decoded, quantized = tokenizer(pictures)
        tokens = from_ids(tokenizer.layout(*pictures.shape[-2:]), case.input("ids"))
        case.check("encoder_out", tokenizer.encoder(pictures))
        case.check("pre_quant", tokenizer.encode_latents(pictures))
        case.check("quant", quantized.values)
        case.check("decoded", decoded)
        case.check("codebook_entry", tokenizer.lookup(tokens))
        case.check("decoded_from_ids", tokenizer.decode_latents(tokenizer.lookup(tokens)))
    ids = tokenizer.encode(pictures).ids
    assert ids is not None
    case.check("ids", ids.squeeze(-1))
    for name, given in case.match("emb_loss_{variant}"):
        _check_loss(case, name, str(given["variant"]))


def _check_loss(case: Case, name: str, variant: str) -> None:
    arguments = case.arguments(name)
    config = official.vqgan_config({**case.hyper, **arguments}, arguments["legacy"])
    tokenizer: VQGAN = official.VQGAN.build(config, case.weights())
    codebook = tokenizer.quantizer
    assert isinstance(codebook, Codebook)
    latents = tokenizer.encode_latents(case.input("image")).detach().requires_grad_()
    loss = codebook(latents.movedim(1, -1)).loss
    to_latents, to_codes = torch.autograd.grad(loss, (latents, codebook.weight))
    case.check(name, loss)
    case.check(f"grad_z_{variant}", to_latents)
    case.check(f"grad_codebook_{variant}", to_codes)


@replay("vqgan/gumbel*")
@torch.no_grad()
def gumbel(case: Case) -> None:
    """Hard and soft choices under given noise, and the divergence of the choices."""
    quantizer = official.gumbel_quantizer(case.hyper, case.weights())
    vectors = case.input("z").movedim(1, -1)
    noise = case.input("exponential").movedim(1, -1).log().neg()
    logits = quantizer.logits(vectors)
    case.check("logits", logits.movedim(-1, 1))
    for name, given in [*case.match("t{tau}_zq"), *case.match("soft_t{tau}_zq")]:
        hard, temperature = case.arguments(name)["hard"], float(given["tau"])
        quantized = quantizer.draw(vectors, noise, temperature, hard)
        case.check(name, quantized.values.movedim(-1, 1))
        case.check(name.replace("_zq", "_ids"), quantized.ids)
    case.check("kl_loss_weight1", quantizer.divergence(logits))
    ids = case.input(case.arguments("codebook_entry")["ids"])
    case.check("codebook_entry", quantizer.lookup(ids).movedim(-1, 1))
