"""Gumbel-softmax quantisation: an encoder's logits choose among codes, with noise in training.

Jang et al., "Categorical reparameterization with Gumbel-softmax", ICLR 2017 (arXiv:1611.01144); as
in CompVis/taming-transformers `taming/modules/vqvae/quantize.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.errors import check
from limner.tokenizers.quantizers.quantizer import Quantized, Quantizer


@dataclass(frozen=True)
class GumbelConfig:
    """Size of a Gumbel quantiser.

    Args:
        inputs: width of the vectors.
        codebook_size: V.
        width: D of a code; values have this width.
        divergence: weight of the loss that keeps choices near an even spread.
    """

    inputs: int = 256
    codebook_size: int = 8192
    width: int = 256
    divergence: float = 5e-4

    def __post_init__(self) -> None:
        for name in ("inputs", "codebook_size", "width"):
            check(getattr(self, name) > 0, name, getattr(self, name), "at least 1")
        check(self.divergence >= 0, "divergence", self.divergence, "0 or more")


class GumbelQuantizer(Quantizer):
    """Logits of vectors, a (noisy) choice among them, and the code of the choice.

    Args:
        config: see `GumbelConfig`.
    """

    def __init__(self, config: GumbelConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook_size = config.codebook_size
        self.width = config.inputs
        self.logits = nn.Linear(config.inputs, config.codebook_size)
        self.weight = nn.Parameter(torch.randn(config.codebook_size, config.width))

    def quantize(self, vectors: Tensor) -> Quantized:
        """Quantise vectors [..., inputs] to their most likely codes, float [..., D]."""
        noise = torch.zeros((), device=vectors.device)
        return self.draw(vectors, noise)

    def draw(
        self, vectors: Tensor, noise: Tensor, temperature: float = 1.0, hard: bool = True
    ) -> Quantized:
        """Quantise vectors [..., inputs] by a noisy choice.

        Args:
            noise: standard Gumbel numbers [..., V].
            temperature: of the softmax that gradients pass.
            hard: values are codes; otherwise mixtures of codes.
        """
        logits = self.logits(vectors)
        chances = ((logits + noise) / temperature).softmax(dim=-1)
        ids = chances.argmax(dim=-1)
        if hard:
            chosen = functional.one_hot(ids, self.codebook_size).to(chances)
            chances = chances + (chosen - chances).detach()
        losses = {"divergence": self.config.divergence * self.divergence(logits)}
        return Quantized(chances @ self.weight, ids, losses)

    def divergence(self, logits: Tensor) -> Tensor:
        """Return how far choices are from an even spread, in nats, averaged, float []."""
        chances = logits.softmax(dim=-1)
        terms = chances * torch.log(chances * self.codebook_size + 1e-10)
        return terms.sum(dim=-1).mean()

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """Return the most likely codes of vectors [..., inputs], int64 [...]."""
        ids: Tensor = self.logits(vectors).argmax(dim=-1)
        return ids

    def lookup(self, ids: Tensor) -> Tensor:
        """Return the codes of ids [...], float [..., D]."""
        return functional.embedding(ids, self.weight)
