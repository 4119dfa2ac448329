"""What a convolutional tokenizer is trained for: pixels, looks, and a discriminator's opinion.

Esser et al., "Taming transformers for high-resolution image synthesis", CVPR 2021
(arXiv:2012.09841); https://github.com/CompVis/taming-transformers
`taming/modules/losses/vqperceptual.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from limner.core.errors import check
from limner.core.head import LossBreakdown
from limner.layers.adversarial import DISCRIMINATOR_LOSSES, adaptive_weight, generator_loss
from limner.layers.discriminator import DiscriminatorConfig, PatchDiscriminator


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the parts.

    Args:
        error: of pixels: "absolute" (VQGAN) or "squared" (LlamaGen's tokenizer).
        perceptual: weight of the perceptual distance beside the error of pixels.
        codes: weight of the latents' own losses.
        adversarial: weight of the adversarial loss; 0: there is no discriminator.
        adaptive: it is weighted, besides, so that both losses move the last layer alike.
        start: step from which the discriminator counts.
        factor: of both players' adversarial losses from then on.
        loss: of the discriminator.
        discriminator: its size.
    """

    error: Literal["absolute", "squared"] = "absolute"
    perceptual: float = 1.0
    codes: float = 1.0
    adversarial: float = 0.8
    adaptive: bool = True
    start: int = 10_000
    factor: float = 1.0
    loss: Literal["hinge", "logistic"] = "hinge"
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)

    def __post_init__(self) -> None:
        for name in ("perceptual", "codes", "adversarial", "start", "factor"):
            check(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        check(self.error in ("absolute", "squared"), "error", self.error, "'absolute' or 'squared'")
        check(self.loss in DISCRIMINATOR_LOSSES, "loss", self.loss, "'hinge' or 'logistic'")


class Objective(nn.Module):
    """The losses of both players.

    Args:
        config: see `ObjectiveConfig`.
        perceptual: (pictures, pictures) -> distances [B], such as `LPIPS`; None leaves it out.
    """

    def __init__(self, config: ObjectiveConfig, perceptual: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.perceptual = perceptual
        self.discriminator = PatchDiscriminator(config.discriminator)

    def autoencoder_loss(
        self, pictures: Tensor, shown: Tensor, codes: Tensor, last: Tensor, step: int
    ) -> LossBreakdown:
        """Return the loss of the autoencoder.

        Args:
            pictures: float [B, 3, H, W].
            shown: their reconstructions.
            codes: the quantiser's own loss, float [].
            last: weight of the layer that made the reconstructions; where it has no gradient, the
                adversarial loss has no weight.
            step: number of the step.
        """
        plain = self.plain_loss(pictures, shown, codes)
        error = plain.total - self.config.codes * codes
        opinion = generator_loss(self.discriminator(shown))
        weight = self.config.adversarial * self._balance(error, opinion, last)
        parts = {"adversarial": opinion.detach(), "adversarial_weight": weight}
        total = plain.total + self._factor(step) * weight * opinion
        return LossBreakdown(total, plain.parts | parts)

    def plain_loss(self, pictures: Tensor, shown: Tensor, codes: Tensor) -> LossBreakdown:
        """Return the loss of the autoencoder while there is no discriminator."""
        looks = self.distances(pictures, shown).mean()
        apart = (
            (pictures - shown).abs() if self.config.error == "absolute" else (pictures - shown) ** 2
        )
        error = apart.mean() + self.config.perceptual * looks
        parts = {"reconstruction": error, "perceptual": looks, "codes": codes}
        total = error + self.config.codes * codes
        return LossBreakdown(total, {name: part.detach() for name, part in parts.items()})

    def discriminator_loss(self, pictures: Tensor, shown: Tensor, step: int) -> Tensor:
        """Return the loss of the discriminator, float []; 0 before it counts."""
        real, made = self.discriminator(pictures), self.discriminator(shown.detach())
        loss: Tensor = DISCRIMINATOR_LOSSES[self.config.loss](real, made)
        return self._factor(step) * loss

    def plays(self, step: int) -> bool:
        """Say whether the discriminator counts at a step."""
        return self.config.adversarial > 0 and self._factor(step) > 0

    def distances(self, pictures: Tensor, shown: Tensor) -> Tensor:
        """Return the perceptual distances, float [B]; 0 without a perceptual network."""
        if self.perceptual is None:
            return pictures.new_zeros(len(pictures))
        distances: Tensor = self.perceptual(pictures, shown)
        return distances

    def _factor(self, step: int) -> float:
        return self.config.factor if step >= self.config.start else 0.0

    def _balance(self, error: Tensor, opinion: Tensor, last: Tensor) -> Tensor:
        if not self.config.adaptive:
            return error.new_ones(())
        if not (torch.is_grad_enabled() and last.requires_grad and error.requires_grad):
            return error.new_zeros(())
        return adaptive_weight(error, opinion, last)
