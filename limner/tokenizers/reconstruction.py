"""What a tokenizer that is trained on pictures shows its trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from limner.tokenizers.quantizers.quantizer import Quantizer


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Pictures that went through a tokenizer and back, with gradients.

    Args:
        pictures: float [B, C, H, W], or [B, T, C, H, W] of clips, not clamped.
        losses: of the latents, name -> float [], to be added up.
        vectors: float [..., D], what was quantised; None where nothing was.
        ids: int64, what they became; None where nothing was quantised.
        smaller: further reconstructions of smaller sizes, each with what it should look like,
            float [B, C, H', W'] both.
    """

    pictures: Tensor
    losses: Mapping[str, Tensor] = field(default_factory=dict)
    vectors: Tensor | None = None
    ids: Tensor | None = None
    smaller: Sequence[tuple[Tensor, Tensor]] = ()

    @property
    def loss(self) -> Tensor:
        """The sum of the latents' losses, float []."""
        return sum(self.losses.values(), start=self.pictures.new_zeros(()))


class Trainable(Protocol):
    """A tokenizer that learns from pictures."""

    @property
    def quantizer(self) -> Quantizer | None:
        """Where codes are kept alive; None where there are none."""

    @property
    def last_layer(self) -> Tensor:
        """Weights of the layer that makes the pixels: there, losses are balanced."""

    def reconstruct(self, pictures: Tensor, rng: torch.Generator | None = None) -> Reconstruction:
        """Send pictures [B, C, H, W] through tokens and back.

        Args:
            rng: for random latents; None: their means.
        """
