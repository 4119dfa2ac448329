"""Pyramids of codes whose scales are not residual: what their tokenizers share, and the canvas.

Source: `encode_var_wo_firstL` in trainer.py and `autoregressive_infer_cfg` in models/flexvar.py of
jiaosiyu1999/FlexVAR (arXiv:2502.20313).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from limner.core.canvas import Canvas
from limner.core.layout import Layout
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens
from limner.orders.scale_lists import stretched
from limner.tokenizers.latent_pyramids import TaughtByScale
from limner.tokenizers.quantizers.codebook import Codebook
from limner.tokenizers.quantizers.multiscale import picture_pyramid


class LatestCodes(TaughtByScale):
    """The map of the scale drawn last, at its own size; the next one reads it resized to its own.

    Args:
        codebook: of the ids.
    """

    def __init__(self, codebook: Codebook) -> None:
        self.codebook = codebook

    @torch.no_grad()
    def add(self, canvas: Tensor | None, tokens: Tokens, segment: int) -> Tensor:
        """Return the codes of a scale as a map, float [R, D, h, w]; what was is forgotten."""
        assert tokens.ids is not None
        layout = tokens.layout
        codes = self.codebook.lookup(tokens.ids[:, layout.span(segment), 0])
        return codes.transpose(1, 2).unflatten(2, layout.segments[segment].size[1:])

    def read(self, canvas: Tensor | None, tokens: Tokens, segment: int) -> Tensor:
        """Return the canvas resized to a scale, float [R, n, D]; 0 where it is blank."""
        size = tokens.layout.segments[segment].size[1:]
        if canvas is None:
            shape = (len(tokens), size[0] * size[1], self.codebook.width)
            return self.codebook.weight.new_zeros(shape)
        resized = functional.interpolate(canvas, size, mode="bicubic", align_corners=False)
        return resized.flatten(2).transpose(1, 2)


class WholeScales(Tokenizer):
    """Base of tokenizers whose every scale is a whole picture; `config.scales` are the usual ones.

    Attributes:
        codebook: of the ids, which all scales share.
    """

    codes = 1

    @property
    def canvas(self) -> Canvas:  # type: ignore[override]
        """The scale drawn last."""
        table = self.codebook
        assert isinstance(table, Codebook)
        return LatestCodes(table)

    def layout(
        self,
        height: int,
        width: int,
        frames: int = 1,
        scales: Sequence[int | tuple[int, int]] | None = None,
        **schedule: Any,
    ) -> Layout:
        """Return the scales of a picture of this size.

        Args:
            scales: sizes, or rows and columns, of every scale; None: the usual ones, stretched.

        Raises:
            ConfigError: the last scale is not the picture's grid.
        """
        self.check_size(height, width)
        usual, rows, columns = self.config.scales, height // self.factor, width // self.factor
        given = scales or stretched(usual, usual[-1], rows, columns)
        return picture_pyramid(usual, rows, columns, given)

    def encode_at(self, pictures: Tensor, layout: Layout) -> Tokens:
        """Return the tokens of pictures at any scales."""
        return self.encode(pictures, layout=layout)  # type: ignore[call-arg]

    def preview(self, tokens: Tokens) -> Tensor:
        """Return what the finest known scale shows."""
        return self.decode(tokens)
