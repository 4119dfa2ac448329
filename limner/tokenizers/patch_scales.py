"""Codes of linear patch latents at every scale, fitted in seconds: a start for a small FlexVAR.

The latents are averaged to the size of each scale and stand there for the nearest of k-means codes,
no scale being a residual (as FlexVAR, arXiv:2502.20313). A picture is drawn from the last scale.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from limner.core.layout import Layout
from limner.core.registry import TOKENIZERS
from limner.core.tokens import Tokens, from_ids
from limner.tokenizers.latent_pyramids import as_map, as_tokens
from limner.tokenizers.latest_codes import WholeScales
from limner.tokenizers.patches import PatchConfig, PatchTokenizer
from limner.tokenizers.quantizers.codebook import Codebook
from limner.tokenizers.quantizers.multiscale import check_scales


@dataclass(frozen=True)
class PatchScalesConfig(PatchConfig):
    """Size of the tokenizer.

    Args:
        codebook_size: V.
        scales: sizes of the square scales, coarse to fine; other grids stretch them.
    """

    width: int = 16
    codebook_size: int = 512
    scales: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scales(self.scales)


@TOKENIZERS.family("patch-scales", PatchScalesConfig)
class PatchScales(WholeScales, PatchTokenizer):
    """Codes of the whole picture at each scale; its canvas is that of FlexVAR."""

    config: PatchScalesConfig

    def __init__(self, config: PatchScalesConfig) -> None:
        super().__init__(config)
        self.codebook_size = config.codebook_size
        self.codebook = Codebook(config.codebook_size, config.width).requires_grad_(False)

    def code_vectors(self) -> Tensor:
        """Return the codes' latents, float [V, width]."""
        return self.codebook.weight

    def _fit_tokens(self, latents: Tensor, layout: Layout, rng: torch.Generator) -> None:
        self.codebook.fit(_vectors(latents, layout).flatten(0, 1), rng)

    def _write(self, latents: Tensor, layout: Layout) -> Tokens:
        return from_ids(layout, self.codebook.nearest(_vectors(latents, layout)))

    def _read(self, tokens: Tokens) -> Tensor:
        assert tokens.ids is not None
        return as_map(replace(tokens, values=self.codebook.lookup(tokens.ids[..., 0])))


def _vectors(latents: Tensor, layout: Layout) -> Tensor:
    """Return what latents [B, D, h, w] are at every scale, float [B, N, D]."""
    values = as_tokens(latents, layout).values
    assert values is not None
    return values


TOKENIZERS.variant("patch-scales-32", "patch-scales", PatchScalesConfig())
