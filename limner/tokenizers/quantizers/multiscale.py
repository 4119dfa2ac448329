"""Multi-scale residual quantisation: one map of latents as a pyramid of maps of ids.

Every scale quantises what the coarser ones left over, at its own size, and is drawn back onto the
full map. All scales share one codebook. The quantiser is also the canvas of next-scale models: the
canvas is the sum of the scales so far, and a scale reads it pooled to its own size.

Tian et al., "Visual autoregressive modeling: scalable image generation via next-scale prediction",
2024 (arXiv 2404.02905); https://github.com/FoundationVision/VAR `models/quant.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.errors import check
from limner.core.layout import Layout, pyramid
from limner.core.tokens import Tokens, from_ids
from limner.layers.least_squares import fit_convolution
from limner.tokenizers.quantizers.codebook import Codebook
from limner.tokenizers.quantizers.quantizer import Quantized


@dataclass(frozen=True)
class MultiScaleConfig:
    """Shape of a multi-scale quantiser. The scales themselves are given at call time.

    Args:
        codebook_size: V.
        width: D of a code.
        phi_count: convolutions shared by the scales; as many as scales: one each.
        phi_ratio: share of the convolution in what a scale adds; 0: no convolutions.
        normalize: compare directions of vectors and codes.
        commitment: weight of the commitment loss.
    """

    codebook_size: int = 4096
    width: int = 32
    phi_count: int = 4
    phi_ratio: float = 0.5
    normalize: bool = False
    commitment: float = 0.25

    def __post_init__(self) -> None:
        check(self.codebook_size > 0, "codebook_size", self.codebook_size, "at least 1")
        check(self.width > 0, "width", self.width, "at least 1")
        check(self.phi_count > 0, "phi_count", self.phi_count, "at least 1")
        check(0 <= self.phi_ratio <= 1, "phi_ratio", self.phi_ratio, "from 0 to 1")
        check(self.commitment >= 0, "commitment", self.commitment, "0 or more")


class Phi(nn.Conv2d):
    """Mends what bicubic enlargement blurs: (1 - ratio) h + ratio conv(h)."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__(width, width, 3, padding=1)
        self.ratio = ratio

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, D, H, W] to the same shape."""
        return x.lerp(super().forward(x), self.ratio)

    def fit(self, inputs: Tensor, targets: Tensor) -> None:
        """Set the weights in closed form so that inputs [B, D, H, W] best become targets."""
        fit_convolution(self, inputs, (targets - (1 - self.ratio) * inputs) / self.ratio)


def stretched_pyramid(sizes: tuple[int, ...], rows: int, columns: int) -> Layout:
    """Return square scales, stretched so that the last becomes the whole grid.

    Args:
        sizes: of the square scales, coarse to fine.
        rows: of the finest grid.
        columns: of the finest grid.
    """
    scales = [
        (max(1, round(size * rows / sizes[-1])), max(1, round(size * columns / sizes[-1])))
        for size in sizes
    ]
    return pyramid(tuple(dict.fromkeys(scales)))  # small grids make neighbours equal


def picture_pyramid(
    sizes: tuple[int, ...],
    rows: int,
    columns: int,
    scales: Sequence[int | tuple[int, int]] | None = None,
) -> Layout:
    """Return the pyramid of a picture.

    Args:
        sizes: of the square scales that are stretched to the picture where none are given.
        rows: of the picture's grid.
        columns: of the picture's grid.
        scales: sizes, or rows and columns, of every scale instead.

    Raises:
        ConfigError: the last scale is not the picture's grid.
    """
    if scales is None:
        return stretched_pyramid(sizes, rows, columns)
    given = tuple(
        (scale, scale) if isinstance(scale, int) else (scale[0], scale[1]) for scale in scales
    )
    fits = len(given) > 0 and given[-1] == (rows, columns)
    check(fits, "scales", scales, f"a list that ends in the picture's grid, {rows}x{columns}")
    return pyramid(given)


def check_scales(scales: tuple[int, ...]) -> None:
    """Raise ConfigError unless scales rise from a positive size."""
    rises = all(early < late for early, late in itertools.pairwise(scales))
    fits = len(scales) > 0 and scales[0] > 0 and rises
    check(fits, "scales", scales, "one or more rising positive sizes")


def phi_index(scale: int, scales: int, count: int) -> int:
    """Return which of `count` convolutions a scale uses: the one whose tick is nearest.

    Scale k of K stands at k / (K - 1). Ties are decided by the rounding of these very expressions
    in float64, as published weights expect.
    """
    margin = 1 / 3 / count if count == 4 else 1 / 2 / count
    ticks = np.linspace(margin, 1 - margin, count)
    return int(np.argmin(np.abs(ticks - scale / max(scales - 1, 1))))


class MultiScaleQuantizer(nn.Module):
    """Quantises maps of latents scale by scale; a `Canvas` for next-scale models.

    Module names: `codebook.weight`, `phi.{i}.weight`, `phi.{i}.bias` (none with phi_ratio 0).

    Args:
        config: its shape.
    """

    def __init__(self, config: MultiScaleConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook = Codebook(config.codebook_size, config.width, config.normalize)
        self.phi = nn.ModuleList(
            Phi(config.width, config.phi_ratio) if config.phi_ratio else nn.Identity()
            for _ in range(config.phi_count)
        )

    def encode(self, latents: Tensor, layout: Layout) -> Tokens:
        """Return the ids of latents [B, D, H, W] under a pyramid of any scales.

        Raises:
            ConfigError: the last scale does not have the size of the latents.
        """
        with torch.no_grad():
            ids = [scale.ids for scale in self._descend(latents, layout)]
        return from_ids(layout, torch.cat(ids, dim=1))

    def decode(self, tokens: Tokens) -> Tensor:
        """Return the latents that the known tokens add up to, float [B, D, H, W].

        Unknown tokens add nothing, so any prefix of scales decodes to what it says.
        """
        layout = tokens.layout
        latents = self.codebook.weight.new_zeros(len(tokens), self.config.width, *layout.extent[1:])
        for segment in range(len(layout.segments)):
            known = tokens.known[:, layout.span(segment)].unsqueeze(-1)
            if known.any():
                drawn = self._drawn(self._codes(tokens, segment) * known, layout, segment)
                latents = latents + drawn * known.any(dim=1)[..., None, None]
        return latents

    def forward(self, latents: Tensor, layout: Layout) -> Quantized:
        """Quantise latents [B, D, H, W] for training.

        Returns:
            The map [B, D, H, W] with a straight-through gradient, ids [B, N], and losses averaged
            over the scales.
        """
        scales = list(self._descend(latents.detach(), layout))
        canvases = list(itertools.accumulate(scale.drawn for scale in scales))
        vq = [functional.mse_loss(canvas, latents.detach()) for canvas in canvases]
        pull = [functional.mse_loss(latents, canvas.detach()) for canvas in canvases]
        losses = {
            "vq": torch.stack(vq).mean(),
            "commitment": self.config.commitment * torch.stack(pull).mean(),
        }
        values = latents + (canvases[-1] - latents).detach()
        return Quantized(values, torch.cat([scale.ids for scale in scales], dim=1), losses)

    @torch.no_grad()
    def fit(self, latents: Tensor, layout: Layout, rng: torch.Generator, rounds: int = 2) -> None:
        """Fit the codebook, and phi where every scale has its own, to latents [B, D, H, W].

        The first round clusters the residuals of an exact pyramid; later rounds those that the
        codes of the round before really leave.
        """
        for round_ in range(rounds):
            scales = self._descend(latents, layout, exact=round_ == 0)
            residuals = [scale.vectors.flatten(0, 1) for scale in scales]
            self.codebook.fit(torch.cat(residuals), rng, iterations=8, warm=round_ > 0)
            if self.config.phi_ratio and len(self.phi) == len(layout.segments):
                self._fit_phi(latents, layout)

    def teach(
        self, tokens: Tokens, rng: torch.Generator | None = None
    ) -> tuple[Tensor | None, Tokens]:
        """Return the inputs of all scales, float [B, N, D] (0 for the first), and the targets."""
        canvas: Tensor | None = None
        inputs = []
        with torch.no_grad():
            for segment in range(len(tokens.layout.segments)):
                inputs.append(self.read(canvas, tokens, segment))
                canvas = self.add(canvas, tokens, segment)
        return torch.cat(inputs, dim=1), tokens

    def add(self, canvas: Tensor | None, tokens: Tokens, segment: int) -> Tensor:
        """Return the canvas [R, D, H, W] with one scale of the tokens added; None is blank."""
        drawn = self._drawn(self._codes(tokens, segment), tokens.layout, segment)
        return drawn if canvas is None else canvas + drawn

    def read(self, canvas: Tensor | None, tokens: Tokens, segment: int) -> Tensor:
        """Return the canvas pooled to the size of a scale, float [R, n, D]; 0 where it is blank."""
        size = _size(tokens.layout, segment)
        if canvas is None:
            shape = (len(tokens), size[0] * size[1], self.config.width)
            return self.codebook.weight.new_zeros(shape)
        return _pooled(canvas, size)

    def _descend(self, latents: Tensor, layout: Layout, exact: bool = False) -> Iterator[_Scale]:
        """Yield every scale of latents [B, D, H, W], coarse to fine.

        Args:
            exact: draw the vectors themselves rather than their codes, and leave phi out.
        """
        accepted = f"a pyramid that ends in the latents' {latents.shape[-2]}x{latents.shape[-1]}"
        sizes = [_size(layout, segment) for segment in range(len(layout.segments))]
        check(sizes[-1] == tuple(latents.shape[-2:]), "scales", sizes, accepted)
        rest = latents
        for segment, size in enumerate(sizes):
            vectors = _pooled(rest, size)
            ids = self.codebook.nearest(vectors)
            if exact:
                drawn = _enlarged(vectors, layout, segment)
            else:
                drawn = self._drawn(self.codebook.lookup(ids), layout, segment)
            rest = rest - drawn.detach()
            yield _Scale(vectors, ids, drawn)

    def _codes(self, tokens: Tokens, segment: int) -> Tensor:
        """Return the codes of one scale, float [B, n, D]."""
        assert tokens.ids is not None
        return self.codebook.lookup(tokens.ids[:, tokens.layout.span(segment), 0])

    def _drawn(self, codes: Tensor, layout: Layout, segment: int) -> Tensor:
        """Return what codes [B, n, D] of one scale add to the full map, float [B, D, H, W]."""
        index = phi_index(segment, len(layout.segments), len(self.phi))
        return self.phi[index](_enlarged(codes, layout, segment))

    def _fit_phi(self, latents: Tensor, layout: Layout) -> None:
        """Fit each scale's convolution to what is left when its turn comes."""
        rest = latents
        for segment, phi in enumerate(self.phi):
            assert isinstance(phi, Phi)
            ids = self.codebook.nearest(_pooled(rest, _size(layout, segment)))
            enlarged = _enlarged(self.codebook.lookup(ids), layout, segment)
            phi.fit(enlarged, rest)
            rest = rest - phi(enlarged)


@dataclass(frozen=True)
class _Scale:
    """One scale of a map: residual vectors [B, n, D], their ids [B, n], and what they add to it."""

    vectors: Tensor
    ids: Tensor
    drawn: Tensor


def _size(layout: Layout, segment: int) -> tuple[int, int]:
    return layout.segments[segment].size[1:]


def _pooled(canvas: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a map [B, D, H, W] averaged over the areas of a smaller one, float [B, n, D]."""
    return functional.adaptive_avg_pool2d(canvas, size).flatten(2).transpose(1, 2)


def _enlarged(codes: Tensor, layout: Layout, segment: int) -> Tensor:
    """Return the map of one scale's codes [B, n, D] at full size, float [B, D, H, W]."""
    drawn = codes.transpose(1, 2).unflatten(2, _size(layout, segment))
    if segment == len(layout.segments) - 1:
        return drawn
    return functional.interpolate(drawn, size=layout.extent[1:], mode="bicubic")
