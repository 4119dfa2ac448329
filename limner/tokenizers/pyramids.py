"""What tokenizers have in common whose tokens are a pyramid of scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from limner.core.canvas import Canvas
from limner.core.layout import Layout
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens
from limner.tokenizers.quantizers.multiscale import MultiScaleQuantizer, picture_pyramid
from limner.tokenizers.quantizers.multiscale_bits import MultiScaleBits


class ScalesTokenizer(Tokenizer):
    """Base: the quantiser is the canvas; `config.scales` are the usual scales.

    Attributes:
        quantizer: latents to tokens of all scales and back.
    """

    quantizer: MultiScaleQuantizer | MultiScaleBits

    def preview(self, tokens: Tokens) -> Tensor:
        """Return the picture that the known scales add up to."""
        return self.decode(tokens)

    @property
    def canvas(self) -> Canvas:  # type: ignore[override]
        """The sum of the scales so far."""
        return self.quantizer

    def layout(
        self,
        height: int,
        width: int,
        frames: int = 1,
        scales: Sequence[int | tuple[int, int]] | None = None,
        **schedule: Any,
    ) -> Layout:
        """Return the pyramid of a picture of this size; see `picture_pyramid` for `scales`."""
        self.check_size(height, width)
        rows, columns = height // self.factor, width // self.factor
        return picture_pyramid(self.config.scales, rows, columns, scales)


class PyramidTokenizer(ScalesTokenizer):
    """Base: tokens are codes of one codebook that all scales share."""

    quantizer: MultiScaleQuantizer
    mixes = True

    def code_vectors(self) -> Tensor:
        """Return the codes, float [V, D]."""
        return self.quantizer.codebook.weight
