"""Tokenizer: pictures to tokens and back."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.canvas import Canvas, NoCanvas
from limner.core.errors import ConfigError, check
from limner.core.layout import Layout
from limner.core.noise import Noise
from limner.core.tokens import Tokens


class Tokenizer(nn.Module):
    """Base of all tokenizers. Pictures are float32 [B, channels, H, W] in [-1, 1].

    Tokenizers of clips take [B, T, channels, H, W] wherever pictures are named. A subclass sets the
    attributes below, and writes `layout`, `encode` and `decode`.

    Attributes:
        config: its frozen dataclass.
        channels: of the pictures.
        codebook_size: V, number of codes; 0 where tokens are continuous.
        codes: C, codes (or bits) a place; 0 where tokens are continuous.
        width: D of continuous tokens; 0 where tokens are ids.
        factor: pixels a token covers along each side of the finest grid.
        frames: T of clips, where a caller does not say; 0: it is of pictures.
        canvas: what step inputs are computed from, for generators that ask for it.
        mixes: whether tokens may hold mixtures of codes as values; their ids then say nothing.
    """

    config: Any
    channels: int = 3
    codebook_size: int = 0
    codes: int = 0
    width: int = 0
    factor: int = 1
    frames: int = 0
    canvas: Canvas = NoCanvas()
    mixes: bool = False

    def layout(self, height: int, width: int, frames: int = 1, **schedule: Any) -> Layout:
        """Return where the tokens of a picture of this size stand, or of a clip of so many frames.

        Raises:
            ConfigError: the size cannot be tokenised.
        """
        raise NotImplementedError

    def encode(self, pictures: Tensor, noise: Noise | None = None) -> Tokens:
        """Return the tokens of pictures [B, channels, H, W]."""
        raise NotImplementedError

    def encode_at(self, pictures: Tensor, layout: Layout) -> Tokens:
        """Return the tokens of pictures where a layout has them; most tokenizers have but one.

        Raises:
            ConfigError: the tokenizer has no such tokens.
        """
        own = self.layout(pictures.shape[-2], pictures.shape[-1])
        sizes = [segment.size for segment in layout.segments]
        accepted = f"that of {type(self).__name__}, {[segment.size for segment in own.segments]}"
        check(layout == own, "layout", sizes, accepted)
        return self.encode(pictures)

    def decode(
        self, tokens: Tokens, options: dict[str, Any] | None = None, noise: Noise | None = None
    ) -> Tensor:
        """Return pictures [B, channels, H, W], clamped to [-1, 1]."""
        raise NotImplementedError

    @torch.no_grad()
    def there_and_back(self, pictures: Tensor) -> Tensor:
        """Return what tokens keep of pictures, float32 on the CPU, of the same shape.

        Args:
            pictures: float [B, channels, H, W] in [-1, 1], or clips, on any device.
        """
        return self.decode(self.encode(pictures.to(self.device))).float().cpu()

    def preview(self, tokens: Tokens) -> Tensor:
        """Return what the known tokens say; by default unknown places are mid-grey."""
        pictures = self.decode(tokens)
        rows, columns = tokens.layout.extent[1:]
        known = tokens.known.reshape(len(tokens), 1, rows, columns).to(pictures)
        shown = functional.interpolate(known, size=pictures.shape[-2:], mode="nearest")
        return pictures * shown

    def steps_of(self, frames: int) -> int:
        """Return for how many steps in time the first frames of a clip alone decide its tokens.

        Raises:
            ConfigError: there are no such steps.
        """
        name = type(self).__name__
        raise ConfigError(
            f"first frames cannot be given: tokens of {name} do not tell them from later ones"
        )

    def code_vectors(self) -> Tensor | None:
        """Return what is known of each code, float [V, D]: codes that look alike have vectors that
        are alike. None where there are no codes or nothing is known."""
        return None

    def check_size(self, height: int, width: int) -> None:
        """Raise ConfigError unless both sides are multiples of `factor`."""
        fits = height % self.factor == 0 and width % self.factor == 0 and min(height, width) > 0
        check(fits, "size", f"{height}x{width}", f"multiples of {self.factor} pixels")

    def check_clips(self, clips: Tensor) -> None:
        """Raise ConfigError unless the shape is that of clips, [B, T, channels, H, W]."""
        fits = clips.dim() == 5 and clips.shape[2] == self.channels
        check(fits, "clips", list(clips.shape), f"[B, T, {self.channels}, H, W]")

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        tensors = chain(self.parameters(), self.buffers())
        return next((tensor.device for tensor in tensors), torch.device("cpu"))
