"""Pictures to ids by LlamaGen's tokenizer, beside FoundationVision/LlamaGen.

The official step is the `encode` of tokenizer/tokenizer_image/vq_model.py, as
autoregressive/train/extract_codes_c2i.py calls it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limner.bench.official import fill, official_module
from limner.bench.settings import Settings
from limner.bench.subject import Candidate, Subject
from limner.bench.work import Convolution, Product, Work
from limner.core.registry import TOKENIZERS
from limner.core.seeds import seeded
from limner.hub.build import weightless
from limner.hub.official.llamagen import VQ
from limner.layers.convolution import SpatialAttention
from limner.tokenizers.llamagen_vq import LlamaGenVQ, LlamaGenVQConfig

SIDE = 256  # pixels along each side of a picture


def pictures(settings: Settings) -> Tensor:
    """Return random pictures, float [B, 3, 256, 256] in [-1, 1]."""
    rng = seeded(settings.seed, "pictures")
    drawn = torch.rand(settings.batch, 3, SIDE, SIDE, generator=rng) * 2 - 1
    return drawn.to(settings.device)


def ours(settings: Settings) -> Candidate:
    """Return limner's side."""
    tokenizer: LlamaGenVQ = TOKENIZERS.create(settings.model).eval()
    fill(VQ.table(tokenizer.config).to_official(tokenizer.state_dict()), settings.seed)
    tokenizer.to(settings.device)
    given = pictures(settings)
    if settings.compile:
        tokenizer.encoder.compile()

    def step() -> Tensor:
        ids = tokenizer.encode(given).ids
        assert ids is not None
        return ids

    def answer() -> Sequence[float]:
        return [float(code) for code in step().flatten()]

    return Candidate(step, answer)


def official(settings: Settings, checkout: str) -> Candidate:
    """Return the official side."""
    code = official_module(checkout, "tokenizer.tokenizer_image.vq_model")
    config: LlamaGenVQConfig = TOKENIZERS.get_variant(settings.model).config
    multipliers = list(config.convolution.multipliers)
    arguments = code.ModelArgs(
        codebook_size=config.codebook_size,
        codebook_embed_dim=config.codebook_width,
        codebook_l2_norm=config.normalize,
        encoder_ch_mult=multipliers,
        decoder_ch_mult=multipliers,
        z_channels=config.latent,
    )
    model = code.VQModel(arguments).eval()
    fill({name: t for name, t in model.state_dict().items() if "used" not in name}, settings.seed)
    model.to(settings.device)
    given = pictures(settings)
    if settings.compile:
        model.encoder.compile()

    @torch.no_grad()
    def step() -> Tensor:
        _, _, (_, _, ids) = model.encode(given)
        found: Tensor = ids
        return found

    def answer() -> Sequence[float]:
        return [float(code) for code in step().flatten()]

    return Candidate(step, answer)


def work(settings: Settings) -> Work:
    """Return the convolutions of a step, attention's products and the comparison with all codes."""
    done = Work()

    def count(layer: nn.Module, given: tuple[Tensor], found: Tensor) -> None:
        batch, channels, height, width = found.shape
        if isinstance(layer, nn.Conv2d):
            size = layer.kernel_size[0], layer.stride[0]
            done.add(Convolution(batch, given[0].shape[1], channels, height, width, *size))
        elif isinstance(layer, SpatialAttention):
            places = height * width
            done.add(Product(places, channels, places, batch))
            done.add(Product(places, places, channels, batch))

    with weightless():
        tokenizer: LlamaGenVQ = TOKENIZERS.create(settings.model)
        for layer in tokenizer.modules():
            layer.register_forward_hook(count)
        latents = tokenizer.encode_latents(torch.empty(settings.batch, 3, SIDE, SIDE))
    codebook = tokenizer.quantizer
    done.add(Product(latents[:, 0].numel(), codebook.width, codebook.codebook_size))
    return done


SUBJECT = Subject(ours, official, work, tolerance=0.0, agreeing=0.99)
