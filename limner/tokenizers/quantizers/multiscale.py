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
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.errors import check
from limner.core.layout import Layout, pyramid
from limner.core.tokens import Tokens, from_ids
from limner.layers.least_squares import fit_convolution
from limner.tokenizers.quantizers.codebook import Codebook, nearest
from limner.tokenizers.quantizers.quantizer import Assignment, Quantized, wide
from limner.tokenizers.quantizers.resampling import RESAMPLINGS


@dataclass(frozen=True)
class MultiScaleConfig:
    """Shape of a multi-scale quantiser. The scales themselves are given at call time.

    Args:
        codebook_size: V.
        width: D of a code.
        phi_count: convolutions shared by the scales; 0: one for each.
        phi_ratio: share of the convolution in what a scale adds; 0: no convolutions.
        normalize: choose codes by the directions of vectors and codes alone.
        commitment: weight of the commitment loss.
        resampling: between the scales: averages and bicubic, or bands of frequencies.
    """

    codebook_size: int = 4096
    width: int = 32
    phi_count: int = 4
    phi_ratio: float = 0.5
    normalize: bool = False
    commitment: float = 0.25
    resampling: Literal["area", "fourier"] = "area"

    def __post_init__(self) -> None:
        check(self.codebook_size > 0, "codebook_size", self.codebook_size, "at least 1")
        check(self.width > 0, "width", self.width, "at least 1")
        check(self.phi_count >= 0, "phi_count", self.phi_count, "0 or more")
        check(0 <= self.phi_ratio <= 1, "phi_ratio", self.phi_ratio, "from 0 to 1")
        check(self.commitment >= 0, "commitment", self.commitment, "0 or more")


class Phi(nn.Conv2d):
    """Mends what bicubic enlargement blurs: (1 - ratio) h + ratio conv(h)."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__(width, width, 3, padding=1)
        self.ratio = ratio

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, D, H, W] to the same shape."""
        # in full precision, as published: generators are taught what they read when they draw
        with torch.autocast(x.device.type, enabled=False):
            return x.lerp(super().forward(x), self.ratio)

    def fit(self, inputs: Tensor, targets: Tensor) -> None:
        """Set the weights in closed form so that inputs [B, D, H, W] best become targets."""
        fit_convolution(self, inputs, (targets - (1 - self.ratio) * inputs) / self.ratio)


def stretched_pyramid(sizes: tuple[int, ...], rows: int, columns: int, kind: str = "ids") -> Layout:
    """Return square scales, stretched so that the last becomes the whole grid.

    Args:
        sizes: of the square scales, coarse to fine.
        rows: of the finest grid.
        columns: of the finest grid.
        kind: of the tokens, "ids" or "values".
    """
    scales = [
        (max(1, round(size * rows / sizes[-1])), max(1, round(size * columns / sizes[-1])))
        for size in sizes
    ]
    return pyramid(tuple(dict.fromkeys(scales)), kind)  # small grids make neighbours equal


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
        scales: number of scales, where each has a convolution of its own.
    """

    def __init__(self, config: MultiScaleConfig, scales: int = 1) -> None:
        super().__init__()
        self.config = config
        self.codebook_size = config.codebook_size
        self.resampling = RESAMPLINGS[config.resampling]
        self.codebook = Codebook(config.codebook_size, config.width)
        self.phi = nn.ModuleList(
            Phi(config.width, config.phi_ratio) if config.phi_ratio else nn.Identity()
            for _ in range(config.phi_count or scales)
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
            The map [B, D, H, W] with a straight-through gradient, ids [B, N] with their vectors,
            and losses averaged over the scales.
        """
        scales = list(self._descend(latents.detach(), layout))
        canvases = list(itertools.accumulate(scale.drawn for scale in scales))
        wanted = [self.resampling.band(latents, size) for size in _sizes(layout)]
        pairs = list(zip(canvases, wanted, strict=True))
        vq = [functional.mse_loss(canvas, band.detach()) for canvas, band in pairs]
        pull = [functional.mse_loss(band, canvas.detach()) for canvas, band in pairs]
        losses = {
            "vq": torch.stack(vq).mean(),
            "commitment": self.config.commitment * torch.stack(pull).mean(),
        }
        values = latents + (canvases[-1] - latents).detach()
        ids = torch.cat([scale.ids for scale in scales], dim=1)
        return Quantized(values, ids, losses, torch.cat([scale.vectors for scale in scales], dim=1))

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """Return the code of each vector [..., D], int64 [...]."""
        if not self.config.normalize:
            return self.codebook.nearest(vectors)
        flat = functional.normalize(wide(vectors), dim=-1).flatten(0, -2)
        directions = functional.normalize(self.codebook.weight, dim=-1).to(flat)
        return nearest(flat, directions).reshape(vectors.shape[:-1])

    def codebooks(self) -> Sequence[Codebook]:
        """Return the one table that all scales share; see `Quantizer.codebooks`."""
        return (self.codebook,)

    def assignments(self, vectors: Tensor, ids: Tensor) -> Sequence[Assignment]:
        """Return which vectors of all scales fell to which codes; see `Quantizer.assignments`."""
        return self.codebook.assignments(vectors, ids)

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
        """Return the canvas at the size of a scale, float [R, n, D]; 0 where it is blank."""
        size = _sizes(tokens.layout)[segment]
        if canvas is None:
            shape = (len(tokens), size[0] * size[1], self.config.width)
            return self.codebook.weight.new_zeros(shape)
        return self._vectors(canvas, size)

    def _descend(self, latents: Tensor, layout: Layout, exact: bool = False) -> Iterator[_Scale]:
        """Yield every scale of latents [B, D, H, W], coarse to fine.

        Args:
            exact: draw the vectors themselves rather than their codes, and leave phi out.
        """
        accepted = f"a pyramid that ends in the latents' {latents.shape[-2]}x{latents.shape[-1]}"
        sizes = _sizes(layout)
        check(sizes[-1] == tuple(latents.shape[-2:]), "scales", sizes, accepted)
        rest = latents
        for segment, size in enumerate(sizes):
            vectors = self._vectors(rest, size)
            ids = self.nearest(vectors)
            if exact:
                drawn = self._enlarged(vectors, layout, segment)
            else:
                drawn = self._drawn(self.codebook.lookup(ids), layout, segment)
            rest = rest - drawn.detach()
            yield _Scale(vectors, ids, drawn)

    def _codes(self, tokens: Tokens, segment: int) -> Tensor:
        """Return the codes of one scale, or the mixtures of codes it holds, float [B, n, D]."""
        if tokens.values is not None:
            return tokens.values[:, tokens.layout.span(segment)]
        assert tokens.ids is not None
        return self.codebook.lookup(tokens.ids[:, tokens.layout.span(segment), 0])

    def _drawn(self, codes: Tensor, layout: Layout, segment: int) -> Tensor:
        """Return what codes [B, n, D] of one scale add to the full map, float [B, D, H, W]."""
        index = phi_index(segment, len(layout.segments), len(self.phi))
        drawn = self.phi[index](self._enlarged(codes, layout, segment))
        return self.resampling.band(drawn, _sizes(layout)[segment])

    def _vectors(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Return maps [B, D, H, W] at a smaller size as vectors of its places, float [B, n, D]."""
        return self.resampling.down(maps, size).flatten(2).transpose(1, 2)

    def _enlarged(self, codes: Tensor, layout: Layout, segment: int) -> Tensor:
        """Return the map of one scale's codes [B, n, D] at full size, float [B, D, H, W]."""
        maps = codes.transpose(1, 2).unflatten(2, _sizes(layout)[segment])
        return self.resampling.up(maps, layout.extent[1:])

    def _fit_phi(self, latents: Tensor, layout: Layout) -> None:
        """Fit each scale's convolution to what is left when its turn comes."""
        rest = latents
        for segment, phi in enumerate(self.phi):
            assert isinstance(phi, Phi)
            size = _sizes(layout)[segment]
            codes = self.codebook.lookup(self.nearest(self._vectors(rest, size)))
            phi.fit(self._enlarged(codes, layout, segment), self.resampling.band(rest, size))
            rest = rest - self._drawn(codes, layout, segment)


@dataclass(frozen=True)
class _Scale:
    """One scale of a map: residual vectors [B, n, D], their ids [B, n], and what they add to it."""

    vectors: Tensor
    ids: Tensor
    drawn: Tensor


def _sizes(layout: Layout) -> list[tuple[int, int]]:
    return [segment.size[1:] for segment in layout.segments]
