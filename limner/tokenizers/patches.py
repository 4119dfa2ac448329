"""Tokenizers that are fitted in seconds, without gradients: a start for small models on a laptop.

All describe patches by linear latents (`limner.tokenizers.patch_latents`) and differ in what a
token is: the nearest of k-means codes on a raster grid, codes of residuals on a pyramid of scales
(as VAR, arXiv 2404.02905), or the whitened latents themselves (for MAR, arXiv 2406.11838). Codes of
the whole map at each scale are in `patch_scales`, signs of residuals in `patch_bits`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from limner.core.canvas import Canvas, NoCanvas
from limner.core.errors import DataError, LimnerError, check
from limner.core.layout import Layout, grid
from limner.core.noise import Noise
from limner.core.registry import TOKENIZERS
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens, from_ids
from limner.tokenizers.latent_pyramids import ResampledLatents, as_map, as_tokens, latent_layout
from limner.tokenizers.patch_latents import PatchLatents
from limner.tokenizers.pyramids import PyramidTokenizer
from limner.tokenizers.quantizers.codebook import Codebook
from limner.tokenizers.quantizers.multiscale import (
    MultiScaleConfig,
    MultiScaleQuantizer,
    check_scales,
)

FIT_LIMIT = 4096
"""Pictures that a fit looks at; of more, so many are drawn."""


@dataclass(frozen=True)
class PatchConfig:
    """What the patch tokenizers have in common.

    Args:
        patch: side of a patch in pixels.
        width: principal components kept of a patch.
        channels: of the pictures.
    """

    patch: int = 4
    width: int = 32
    channels: int = 3

    def __post_init__(self) -> None:
        check(self.patch > 0, "patch", self.patch, "at least 1")
        check(self.channels > 0, "channels", self.channels, "at least 1")
        pixels = self.channels * self.patch**2
        fits = 0 < self.width <= pixels
        check(fits, "width", self.width, f"from 1 to {pixels}, the numbers in a patch")


class PatchTokenizer(Tokenizer):
    """Base: linear latents, and how they are fitted. A subclass turns latents into tokens.

    Args:
        config: its size.
        whiten: scale every component of the latents to unit variance.
    """

    config: PatchConfig
    fitted: Tensor  # bool []

    def __init__(self, config: PatchConfig, whiten: bool = False) -> None:
        super().__init__()
        self.config = config
        self.channels = config.channels
        self.factor = config.patch
        self.latents = PatchLatents(config.channels, config.patch, config.width, whiten)
        self.register_buffer("fitted", torch.tensor(False))

    def layout(self, height: int, width: int, frames: int = 1, **schedule: Any) -> Layout:
        """Return the raster grid of a picture of this size."""
        self.check_size(height, width)
        kind = "ids" if self.codes else "values"
        return grid(height // self.factor, width // self.factor, frames, kind)

    @torch.no_grad()
    def fit(self, pictures: Tensor, rng: torch.Generator) -> None:
        """Fit everything to pictures [B, channels, H, W] of one size.

        Raises:
            ConfigError: the size cannot be tokenised.
            DataError: too few pictures, or all of one colour.
        """
        layout = self.layout(*pictures.shape[-2:])
        if len(pictures) < 2:
            raise DataError(f"{len(pictures)} picture(s) cannot fit a tokenizer: 2 or more can")
        drawn = torch.randperm(len(pictures), generator=rng)[:FIT_LIMIT]
        pictures = pictures[drawn.to(pictures.device)].to(self.device)
        self.latents.fit(pictures)
        latents = self.latents.encode(pictures)
        self._fit_tokens(latents, layout, rng)
        self.latents.fit_painter(self._read(self._write(latents, layout)), pictures)
        self.fitted.fill_(True)

    @torch.no_grad()
    def encode(
        self, pictures: Tensor, noise: Noise | None = None, layout: Layout | None = None
    ) -> Tokens:
        """Return the tokens of pictures [B, channels, H, W].

        Args:
            layout: for tokenizers of several scales; None: that of `layout`.

        Raises:
            LimnerError: the tokenizer is not fitted.
        """
        self._check_fitted()
        layout = layout or self.layout(*pictures.shape[-2:])
        return self._write(self.latents.encode(pictures), layout)

    def decode(
        self, tokens: Tokens, options: dict[str, Any] | None = None, noise: Noise | None = None
    ) -> Tensor:
        """Return pictures [B, channels, H, W], clamped to [-1, 1]; unknown tokens say nothing.

        Raises:
            LimnerError: the tokenizer is not fitted.
        """
        self._check_fitted()
        return self.latents.decode(self._read(tokens)).clamp(-1, 1)

    def _check_fitted(self) -> None:
        if not self.fitted:
            raise LimnerError(
                f"this {type(self).__name__} is not fitted: call fit(pictures, rng) first, "
                "or load one that is"
            )

    def _fit_tokens(self, latents: Tensor, layout: Layout, rng: torch.Generator) -> None:
        """Fit what turns latents [B, D, h, w] into tokens."""

    def _write(self, latents: Tensor, layout: Layout) -> Tokens:
        """Return the tokens of latents [B, D, h, w]."""
        raise NotImplementedError

    def _read(self, tokens: Tokens) -> Tensor:
        """Return the latents of tokens, float [B, D, h, w]."""
        raise NotImplementedError


@dataclass(frozen=True)
class PatchKMeansConfig(PatchConfig):
    """Size of the k-means tokenizer.

    Args:
        codebook_size: V.
    """

    codebook_size: int = 512


@TOKENIZERS.family("patch-kmeans", PatchKMeansConfig)
class PatchKMeans(PatchTokenizer):
    """One k-means code a patch, on a raster grid."""

    codes = 1

    def __init__(self, config: PatchKMeansConfig) -> None:
        super().__init__(config)
        self.codebook_size = config.codebook_size
        self.codebook = Codebook(config.codebook_size, config.width).requires_grad_(False)

    def code_vectors(self) -> Tensor:
        """Return the codes' latents, float [V, width]."""
        return self.codebook.weight

    def _fit_tokens(self, latents: Tensor, layout: Layout, rng: torch.Generator) -> None:
        self.codebook.fit(_places(latents).flatten(0, 1), rng)

    def _write(self, latents: Tensor, layout: Layout) -> Tokens:
        return from_ids(layout, self.codebook.nearest(_places(latents)))

    def _read(self, tokens: Tokens) -> Tensor:
        assert tokens.ids is not None
        return _map(self.codebook.lookup(tokens.ids[..., 0]), tokens)


@dataclass(frozen=True)
class PatchMultiScaleConfig(PatchConfig):
    """Size of the multi-scale tokenizer.

    Args:
        codebook_size: V.
        scales: sizes of the square scales, coarse to fine; other grids stretch them.
        resampling: between the scales, see `MultiScaleConfig`.
    """

    width: int = 16
    codebook_size: int = 512
    scales: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    resampling: Literal["area", "fourier"] = "area"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scales(self.scales)


@TOKENIZERS.family("patch-multiscale", PatchMultiScaleConfig)
class PatchMultiScale(PyramidTokenizer, PatchTokenizer):
    """Codes of residuals on a pyramid of scales; its quantiser is the canvas of VAR's kind."""

    config: PatchMultiScaleConfig
    codes = 1

    def __init__(self, config: PatchMultiScaleConfig) -> None:
        super().__init__(config)
        self.codebook_size = config.codebook_size
        shape = MultiScaleConfig(
            config.codebook_size,
            config.width,
            phi_count=len(config.scales),
            phi_ratio=1.0,
            resampling=config.resampling,
        )
        self.quantizer = MultiScaleQuantizer(shape).requires_grad_(False)

    def _fit_tokens(self, latents: Tensor, layout: Layout, rng: torch.Generator) -> None:
        self.quantizer.fit(latents, layout, rng)

    def _write(self, latents: Tensor, layout: Layout) -> Tokens:
        return self.quantizer.encode(latents, layout)

    def _read(self, tokens: Tokens) -> Tensor:
        return self.quantizer.decode(tokens)


@dataclass(frozen=True)
class PatchContinuousConfig(PatchConfig):
    """Size of the continuous tokenizer.

    Args:
        scales: the tokens are a pyramid of these sizes, coarse to fine, see
            `limner.tokenizers.latent_pyramids`; none: one grid.
    """

    width: int = 16
    scales: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scales:
            check_scales(self.scales)


@TOKENIZERS.family("patch-continuous", PatchContinuousConfig)
class PatchContinuous(PatchTokenizer):
    """Whitened latents on a raster grid or a pyramid: every channel has mean 0 and variance 1."""

    config: PatchContinuousConfig

    def __init__(self, config: PatchContinuousConfig) -> None:
        super().__init__(config, whiten=True)
        self.width = config.width

    @property
    def canvas(self) -> Canvas:  # type: ignore[override]
        """For a pyramid, the scale drawn last."""
        return ResampledLatents() if self.config.scales else NoCanvas()

    def layout(self, height: int, width: int, frames: int = 1, **schedule: Any) -> Layout:
        """Return the raster grid, or the pyramid, of a picture of this size."""
        self.check_size(height, width)
        rows, columns = height // self.factor, width // self.factor
        return latent_layout(self.config.scales, rows, columns, frames)

    def preview(self, tokens: Tokens) -> Tensor:
        """Return what the known tokens say; of a pyramid, its finest known scale."""
        return self.decode(tokens) if self.config.scales else super().preview(tokens)

    def _write(self, latents: Tensor, layout: Layout) -> Tokens:
        return as_tokens(latents, layout)

    def _read(self, tokens: Tokens) -> Tensor:
        return as_map(tokens)


def _places(latents: Tensor) -> Tensor:
    """Return a map [B, D, h, w] as the latents of its places in raster order, [B, N, D]."""
    return latents.flatten(2).transpose(1, 2)


def _map(latents: Tensor, tokens: Tokens) -> Tensor:
    """Return the latents of a grid's places [B, N, D] as a map [B, D, h, w]; 0 where unknown."""
    shown = latents * tokens.known.unsqueeze(-1)
    return shown.transpose(1, 2).unflatten(2, tokens.layout.extent[1:])


TOKENIZERS.variant("patch-kmeans-32", "patch-kmeans", PatchKMeansConfig())
TOKENIZERS.variant("patch-multiscale-32", "patch-multiscale", PatchMultiScaleConfig())
TOKENIZERS.variant("patch-continuous-32", "patch-continuous", PatchContinuousConfig())
