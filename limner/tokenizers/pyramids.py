"""What tokenizers have in common whose tokens are a pyramid of scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from limner.core.canvas import Canvas
from limner.core.layout import Layout
from limner.core.tokenizer import Tokenizer
from limner.tokenizers.quantizers.multiscale import MultiScaleQuantizer, picture_pyramid


class PyramidTokenizer(Tokenizer):
    """Base: the multi-scale quantiser is the canvas; `config.scales` are the usual scales.

    Attributes:
        quantizer: latents to codes of all scales and back.
    """

    quantizer: MultiScaleQuantizer

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
