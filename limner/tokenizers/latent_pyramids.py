"""Continuous latents as a pyramid: the map itself, and averaged to coarser grids.

Scales are not residual: each is the whole map at its size, so a picture is drawn from the last one
alone and any autoencoder's latents will do (FlowAR, arXiv:2412.15205; E-CAR, arXiv:2412.14170).
"""

from __future__ import annotations

import torch
from torch import Tensor

from limner.core.layout import Layout, grid
from limner.core.tokens import Tokens, from_values
from limner.tokenizers.quantizers.multiscale import stretched_pyramid
from limner.tokenizers.quantizers.resampling import AreaResampling

_AREA = AreaResampling()


def latent_layout(scales: tuple[int, ...], rows: int, columns: int, frames: int = 1) -> Layout:
    """Return where the latents of a picture stand.

    Args:
        scales: of a pyramid, stretched to the grid; none: the grid alone.
        rows: of the finest grid.
        columns: of the finest grid.
        frames: of the grid; 1 for a pyramid.
    """
    if not scales:
        return grid(rows, columns, frames, kind="values")
    return stretched_pyramid(scales, rows, columns, kind="values")


def as_tokens(latents: Tensor, layout: Layout) -> Tokens:
    """Return latents [B, D, h, w] as tokens: every scale is the average over its areas."""
    scales = [_pooled(latents, segment.size[1:]) for segment in layout.segments]
    return from_values(layout, torch.cat(scales, dim=1))


def as_map(tokens: Tokens) -> Tensor:
    """Return the finest scale of which something is known as a map of full size, [B, D, h, w].

    Unknown tokens are 0.
    """
    assert tokens.values is not None
    layout = tokens.layout
    shape = (len(tokens), tokens.values.shape[-1], *layout.extent[1:])
    latents = tokens.values.new_zeros(shape)
    for index, segment in enumerate(layout.segments):
        span = layout.span(index)
        known = tokens.known[:, span, None]
        maps = (tokens.values[:, span] * known).transpose(1, 2).unflatten(2, segment.size[1:])
        latents = _AREA.up(maps, layout.extent[1:]).where(known.any(1)[..., None, None], latents)
    return latents


class TaughtByScale:
    """Base of canvases whose inputs in training are those of drawing, scale by scale."""

    def teach(
        self, tokens: Tokens, rng: torch.Generator | None = None
    ) -> tuple[Tensor | None, Tokens]:
        """Return the inputs of all scales, float [B, N, D] (0 for the first), and the targets."""
        canvas: Tensor | None = None
        inputs = []
        for segment in range(len(tokens.layout.segments)):
            inputs.append(self.read(canvas, tokens, segment))
            canvas = self.add(canvas, tokens, segment)
        return torch.cat(inputs, dim=1), tokens

    def add(self, canvas: Tensor | None, tokens: Tokens, segment: int) -> Tensor:
        """See `Canvas.add`."""
        raise NotImplementedError

    def read(self, canvas: Tensor | None, tokens: Tokens, segment: int) -> Tensor:
        """See `Canvas.read`."""
        raise NotImplementedError


class ResampledLatents(TaughtByScale):
    """The canvas of such pyramids: the scale drawn last, enlarged and averaged to the next size."""

    def add(self, canvas: Tensor | None, tokens: Tokens, segment: int) -> Tensor:
        """Return a scale of the tokens at full size, float [R, D, H, W]; what was is forgotten."""
        assert tokens.values is not None
        layout = tokens.layout
        drawn = tokens.values[:, layout.span(segment)].transpose(1, 2)
        maps = drawn.unflatten(2, layout.segments[segment].size[1:])
        return _AREA.up(maps, layout.extent[1:])

    def read(self, canvas: Tensor | None, tokens: Tokens, segment: int) -> Tensor:
        """Return the canvas at the size of a scale, float [R, n, D]; 0 where it is blank."""
        assert tokens.values is not None
        layout = tokens.layout
        if canvas is None:
            return torch.zeros_like(tokens.values[:, layout.span(segment)])
        return _pooled(canvas, layout.segments[segment].size[1:])


def _pooled(latents: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a map [B, D, H, W] averaged over the areas of a smaller one, float [B, n, D]."""
    return _AREA.down(latents, size).flatten(2).transpose(1, 2)
