"""Quantisers from their configurations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from limner.core.errors import check
from limner.tokenizers.quantizers.bsq import BSQ, BSQConfig
from limner.tokenizers.quantizers.codebook import Codebook
from limner.tokenizers.quantizers.fsq import FSQ, FSQConfig
from limner.tokenizers.quantizers.lfq import LFQ, LFQConfig
from limner.tokenizers.quantizers.quantizer import Quantizer
from limner.tokenizers.quantizers.residual import ResidualVQ, ResidualVQConfig


@dataclass(frozen=True)
class VQConfig:
    """Shape and losses of a codebook.

    Args:
        kind: "vq".
        codebook_size: V.
        width: D of a code.
        normalize: compare directions of vectors and codes.
        commitment: weight of the loss that draws vectors to their codes.
        pull: weight of the loss that draws codes to their vectors; 0 where moving averages do.
            Weights of VQGAN were trained with commitment 1 and pull 0.25 (its "legacy" loss).
        entropy: weight of the entropy loss; 0 leaves it out.
        rotation: pass gradients by the rotation trick rather than straight through.
    """

    kind: Literal["vq"] = "vq"
    codebook_size: int = 1024
    width: int = 8
    normalize: bool = False
    commitment: float = 0.25
    pull: float = 1.0
    entropy: float = 0.0
    rotation: bool = False

    def __post_init__(self) -> None:
        check(self.codebook_size > 0, "codebook_size", self.codebook_size, "at least 1")
        check(self.width > 0, "width", self.width, "at least 1")
        for field in ("commitment", "pull", "entropy"):
            check(getattr(self, field) >= 0, field, getattr(self, field), "0 or more")


QuantizerConfig = VQConfig | ResidualVQConfig | FSQConfig | LFQConfig | BSQConfig


def build_quantizer(config: QuantizerConfig) -> Quantizer:
    """Build a quantiser with fresh weights."""
    if isinstance(config, VQConfig):
        return Codebook(
            config.codebook_size,
            config.width,
            config.normalize,
            config.commitment,
            config.entropy,
            config.pull,
            config.rotation,
        )
    if isinstance(config, ResidualVQConfig):
        return ResidualVQ(config)
    if isinstance(config, FSQConfig):
        return FSQ(config)
    return LFQ(config) if isinstance(config, LFQConfig) else BSQ(config)
