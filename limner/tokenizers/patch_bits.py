"""A tokenizer of bits that is fitted in seconds, without gradients.

Patches are described by linear latents, see `limner.tokenizers.patches`; a token is the signs of
what coarser scales leave of them, as Infinity has it (arXiv:2412.04431).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limner.core.layout import Layout
from limner.core.registry import TOKENIZERS
from limner.core.tokens import Tokens
from limner.tokenizers.patches import PatchConfig, PatchTokenizer
from limner.tokenizers.pyramids import ScalesTokenizer
from limner.tokenizers.quantizers.multiscale import check_scales
from limner.tokenizers.quantizers.multiscale_bits import MultiScaleBits, MultiScaleBitsConfig

GAINS = tuple(0.1 * 1.25**step for step in range(12))
"""Root mean squares of a channel of latents that a fit of bits tries."""


@dataclass(frozen=True)
class PatchBitsConfig(PatchConfig):
    """Size of the tokenizer of bits.

    Args:
        scales: sizes of the square scales, coarse to fine; other grids stretch them.
        flip_strength: largest share of bits that are flipped in a generator's training.
    """

    width: int = 24
    scales: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    flip_strength: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scales(self.scales)


@TOKENIZERS.family("patch-bits", PatchBitsConfig)
class PatchBits(ScalesTokenizer, PatchTokenizer):
    """Signs of residuals on a pyramid of scales, Infinity's kind; see `MultiScaleBits`."""

    config: PatchBitsConfig
    codebook_size = 2
    turn: Tensor  # [D, D]

    def __init__(self, config: PatchBitsConfig) -> None:
        super().__init__(config)
        self.codes = config.width
        shape = MultiScaleBitsConfig(config.width, flip_strength=config.flip_strength)
        self.quantizer = MultiScaleBits(shape)
        self.register_buffer("turn", torch.eye(config.width))

    def _fit_tokens(self, latents: Tensor, layout: Layout, rng: torch.Generator) -> None:
        """Turn latents so that bits say about as much each, and to a length that codes fit best.

        Any rotation does the former; codes all have length 1.
        """
        noise = torch.randn(self.turn.shape, generator=rng, device=rng.device)
        rotation = torch.linalg.qr(noise)[0].to(self.turn)
        rotation /= latents.square().mean().sqrt()

        def error(gain: float) -> float:
            self.turn.copy_(gain * rotation)
            shown = self._read(self._write(latents, layout))
            return float((shown - self._turned(latents)).square().mean()) / gain**2

        self.turn.copy_(min(GAINS, key=error) * rotation)

    def _write(self, latents: Tensor, layout: Layout) -> Tokens:
        return self.quantizer.encode(self._turned(latents), layout)

    def _read(self, tokens: Tokens) -> Tensor:
        return self.quantizer.decode(tokens)

    def _turned(self, latents: Tensor) -> Tensor:
        return torch.einsum("ij,bjhw->bihw", self.turn, latents)


TOKENIZERS.variant("patch-bits-32", "patch-bits", PatchBitsConfig())
