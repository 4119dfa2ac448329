"""Tokenizers of clips that are fitted in seconds: a few frames become the channels of one picture.

Each such picture is described by a patch tokenizer (`limner.tokenizers.patches`): a token stands
for a square of so many successive frames, and says nothing of the frames before and after them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limner.core.errors import check
from limner.core.layout import Layout, grid
from limner.core.noise import Noise
from limner.core.registry import TOKENIZERS
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens
from limner.tokenizers.patches import (
    PatchContinuous,
    PatchContinuousConfig,
    PatchKMeans,
    PatchKMeansConfig,
    PatchTokenizer,
)


@dataclass(frozen=True)
class ClipPatchConfig:
    """What tokenizers of clips by patches have in common.

    Args:
        frames: of a clip, when a caller does not say.
        patch_frames: frames of a token.
        patch: side of a patch in pixels.
        width: principal components kept of a patch.
        channels: of a frame.
    """

    frames: int = 8
    patch_frames: int = 1
    patch: int = 4
    width: int = 32
    channels: int = 3

    def __post_init__(self) -> None:
        for name in ("patch_frames", "channels"):
            check(getattr(self, name) > 0, name, getattr(self, name), "1 or more")
        self.steps(self.frames)

    def steps(self, frames: int) -> int:
        """Return how many steps in time the tokens of a clip have.

        Raises:
            ConfigError: tokens do not divide so many frames.
        """
        unit = self.patch_frames
        check(frames > 0 and frames % unit == 0, "frames", frames, f"a positive multiple of {unit}")
        return frames // unit


class ClipPatches(Tokenizer):
    """Base: clips, float32 [B, T, channels, H, W] in [-1, 1], to tokens of patches and back.

    Args:
        config: its size.
        inner: tokenizer of pictures of `channels * patch_frames` channels.
    """

    config: ClipPatchConfig

    def __init__(self, config: ClipPatchConfig, inner: PatchTokenizer) -> None:
        super().__init__()
        self.config = config
        self.inner = inner
        self.frames, self.channels, self.factor = config.frames, config.channels, config.patch
        self.codes, self.width = inner.codes, inner.width
        self.codebook_size = inner.codebook_size

    def layout(self, height: int, width: int, frames: int | None = None, **schedule: Any) -> Layout:
        """Return the volume of the tokens of a clip.

        Args:
            frames: None: the configured number.
        """
        plane = self.inner.layout(height, width).segments[0]
        steps = self.steps_of(self.frames if frames is None else frames)
        return grid(*plane.size[1:], steps, plane.kind)

    def steps_of(self, frames: int) -> int:
        """Tokens say nothing of other frames than their own."""
        return self.config.steps(frames)

    def fit(self, clips: Tensor, rng: torch.Generator) -> None:
        """Fit everything to clips [B, T, channels, H, W] of one size.

        Raises:
            ConfigError: the size cannot be tokenised.
            DataError: too few clips, or all of one colour.
        """
        self._layout_of(clips)
        self.inner.fit(self._planes(clips), rng)

    @torch.no_grad()
    def encode(self, pictures: Tensor, noise: Noise | None = None) -> Tokens:
        """Return the tokens of clips [B, T, channels, H, W].

        Raises:
            ConfigError: clips of a size or length that cannot be tokenised.
            LimnerError: the tokenizer is not fitted.
        """
        layout = self._layout_of(pictures)
        planes = self.inner.encode(self._planes(pictures))
        ids, values, known = (
            None if part is None else part.unflatten(0, (len(pictures), -1)).flatten(1, 2)
            for part in (planes.ids, planes.values, planes.known)
        )
        assert known is not None
        return Tokens(layout, ids, values, known)

    def decode(
        self, tokens: Tokens, options: dict[str, Any] | None = None, noise: Noise | None = None
    ) -> Tensor:
        """Return clips [B, T, channels, H, W], clamped to [-1, 1]; unknown tokens say nothing.

        Raises:
            LimnerError: the tokenizer is not fitted.
        """
        return self._clips(self.inner.decode(_by_plane(tokens)), tokens)

    def preview(self, tokens: Tokens) -> Tensor:
        """Return what the known tokens say; unknown places are mid-grey."""
        return self._clips(self.inner.preview(_by_plane(tokens)), tokens)

    def code_vectors(self) -> Tensor | None:
        """Return the codes' latents, float [V, width]; None where there are no codes."""
        return self.inner.code_vectors()

    def _layout_of(self, clips: Tensor) -> Layout:
        self.check_clips(clips)
        return self.layout(clips.shape[3], clips.shape[4], clips.shape[1])

    def _planes(self, clips: Tensor) -> Tensor:
        """Return clips as pictures [B steps, patch_frames channels, H, W]."""
        return clips.unflatten(1, (-1, self.config.patch_frames)).flatten(0, 1).flatten(1, 2)

    def _clips(self, planes: Tensor, tokens: Tokens) -> Tensor:
        """Return the clips of such pictures."""
        frames = planes.unflatten(1, (self.config.patch_frames, self.channels))
        return frames.unflatten(0, (len(tokens), -1)).flatten(1, 2)


def _by_plane(tokens: Tokens) -> Tokens:
    """Return the tokens of clips [B, steps n] as those of pictures [B steps, n]."""
    steps, rows, columns = tokens.layout.extent
    plane = grid(rows, columns, kind=tokens.layout.segments[0].kind)
    ids, values, known = (
        None if part is None else part.unflatten(1, (steps, -1)).flatten(0, 1)
        for part in (tokens.ids, tokens.values, tokens.known)
    )
    assert known is not None
    return Tokens(plane, ids, values, known)


@dataclass(frozen=True)
class ClipKMeansConfig(ClipPatchConfig):
    """Size of the k-means tokenizer of clips.

    Args:
        codebook_size: V.
    """

    codebook_size: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.plane

    @property
    def plane(self) -> PatchKMeansConfig:
        """The size of the tokenizer of pictures inside."""
        planes = self.channels * self.patch_frames
        return PatchKMeansConfig(self.patch, self.width, planes, self.codebook_size)


@TOKENIZERS.family("clip-kmeans", ClipKMeansConfig)
class ClipKMeans(ClipPatches):
    """One k-means code a patch, frame after frame."""

    def __init__(self, config: ClipKMeansConfig) -> None:
        super().__init__(config, PatchKMeans(config.plane))


@dataclass(frozen=True)
class ClipContinuousConfig(ClipPatchConfig):
    """Size of the continuous tokenizer of clips."""

    width: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.plane

    @property
    def plane(self) -> PatchContinuousConfig:
        """The size of the tokenizer of pictures inside."""
        return PatchContinuousConfig(self.patch, self.width, self.channels * self.patch_frames)


@TOKENIZERS.family("clip-continuous", ClipContinuousConfig)
class ClipContinuous(ClipPatches):
    """Whitened latents of patches, frame after frame: every channel has mean 0 and variance 1."""

    def __init__(self, config: ClipContinuousConfig) -> None:
        super().__init__(config, PatchContinuous(config.plane))


TOKENIZERS.variant("clip-kmeans-32", "clip-kmeans", ClipKMeansConfig())
TOKENIZERS.variant("clip-continuous-32", "clip-continuous", ClipContinuousConfig())
