"""Editing: pictures of which something is given, and the rest is drawn.

Every edit is tokens of which some are known. The usual loop draws the others and never overwrites
those, so whatever a generator was trained for, what is given stays as its tokenizer has it. VAR
shows the same zero-shot (arXiv:2404.02905, demo_zero_shot_edit.ipynb of FoundationVision/VAR).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from limner.core.errors import ConfigError, check
from limner.core.generator import Generator
from limner.core.layout import Layout
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens, empty
from limner.data.images import to_mask, to_pixels
from limner.pipeline.masks import check_mask, place_on_canvas, tokens_under

if TYPE_CHECKING:
    from limner.pipeline.pipeline import Result


class Editing:
    """What a pipeline can do with a picture that is given.

    All take, beside their own arguments, those of a call of the pipeline: classes, prompts, count,
    seed, guidance, ... A picture is a PIL image or float [channels, H, W] in [-1, 1].

    Attributes:
        tokenizer: pictures to tokens and back.
        generator: draws the tokens.
        size: default height and width of pictures, in pixels.
        frames: default number of frames of clips; None: it draws pictures.
    """

    tokenizer: Tokenizer
    generator: Generator
    size: tuple[int, int]
    frames: int | None

    def draw_from(self, given: Tokens, **asked: Any) -> Result:
        """Draw what is not known of tokens [1, N]."""
        raise NotImplementedError

    def edit(
        self, picture: Image.Image | Tensor, mask: Image.Image | Tensor, **asked: Any
    ) -> Result:
        """Draw part of a picture anew: in-painting, or another class or text there.

        Args:
            mask: white (or True) where it is drawn anew, of the picture's size.

        Raises:
            ConfigError: the mask has another size, is empty or covers everything; or tokens do not
                stand for places of the picture.
        """
        pixels = _pixels(picture)
        redraw = to_mask(mask) if isinstance(mask, Image.Image) else mask.bool()
        size = (pixels.shape[-2], pixels.shape[-1])
        check_mask(redraw, size)
        given = self._encoded(pixels, asked)
        _check_places(given.layout, self.tokenizer)
        return self._draw_unknown(given, ~tokens_under(redraw, given.layout), size, asked)

    def out_paint(
        self,
        picture: Image.Image | Tensor,
        place: tuple[int, int] | None = None,
        **asked: Any,
    ) -> Result:
        """Place a picture on a larger canvas, or shift it, and draw what it does not cover.

        Args:
            place: of its top left corner on the canvas, rows and columns of pixels; what reaches
                out is cut off. None: the middle.
            **asked: `size` is the canvas's.

        Raises:
            ConfigError: nothing is given, or nothing is left to draw; see also `edit`.
        """
        size = asked.get("size") or self.size
        canvas, inside = place_on_canvas(_pixels(picture), size, place)
        given = self._encoded(canvas, asked)
        _check_places(given.layout, self.tokenizer)
        # no scale is kept as a whole: outside of the picture it says what nobody gave
        known = ~tokens_under(~inside, given.layout, kept=0)
        if not bool(known.any()):
            raise ConfigError("the picture covers no whole token of the canvas: place more of it")
        return self._draw_unknown(given, known, size, asked)

    def refine(self, picture: Image.Image | Tensor, keep: int, **asked: Any) -> Result:
        """Keep a picture's coarse scales and draw the finer ones anew.

        Args:
            keep: number of scales that are kept.

        Raises:
            ConfigError: the tokenizer has no scales, or so many cannot be kept.
        """
        pixels = _pixels(picture)
        given = self._encoded(pixels, asked)
        known = _coarse(given.layout, keep, self.tokenizer)
        return self._draw_unknown(given, known, (pixels.shape[-2], pixels.shape[-1]), asked)

    def upscale(
        self, picture: Image.Image | Tensor, keep: int | None = None, **asked: Any
    ) -> Result:
        """Take the coarse scales from a small picture and draw the finer ones.

        Args:
            keep: number of scales that are taken from it; None: those that are no finer than what
                the tokenizer makes of a picture of its size.
            **asked: `size` is what it is enlarged to.

        Raises:
            ConfigError: the size is no larger, or of another shape; see also `refine`.
        """
        pixels = _pixels(picture)
        height, width = pixels.shape[-2:]
        size = asked.get("size") or self.size
        fits = size[0] > height and size[0] * width == size[1] * height
        accepted = f"larger than the picture's {height}x{width}, and of the same shape"
        check(fits, "size", f"{size[0]}x{size[1]}", accepted)
        enlarged = functional.interpolate(pixels[None], size, mode="bicubic")[0].clamp(-1, 1)
        given = self._encoded(enlarged, asked)
        if keep is None:
            keep = max(1, self._scales_within(given.layout, height, width))
        return self._draw_unknown(given, _coarse(given.layout, keep, self.tokenizer), size, asked)

    def continue_clip(self, first: Sequence[Image.Image] | Tensor, **asked: Any) -> Result:
        """Draw clips that go on from given frames, whose tokens are held.

        Args:
            first: the first frames, PIL images or float [F, channels, H, W] in [-1, 1].
            **asked: `frames` is the number of all frames, those that are given among them.

        Raises:
            ConfigError: the pipeline draws pictures, or nothing is left to draw; tokens do not tell
                these frames from later ones; or the generator cannot be given so many.
        """
        pixels = first if isinstance(first, Tensor) else torch.stack([_pixels(f) for f in first])
        size, frames = (pixels.shape[-2], pixels.shape[-1]), asked.get("frames") or self.frames
        if frames is None:
            raise ConfigError("first frames are not accepted: this pipeline draws pictures")
        check(0 < len(pixels) < frames, "first frames", len(pixels), f"from 1 to {frames - 1}")
        steps = self.tokenizer.steps_of(len(pixels))
        layout = self.generator.layout(self.tokenizer, *size, asked.get("steps"), frames)
        own = self.tokenizer.encode(pixels.unsqueeze(0).to(self.tokenizer.device))
        held = (layout.coordinates()[:, 1] < steps).to(own.known.device)
        given = empty(layout, 1, self.tokenizer.codes, self.tokenizer.width, held.device)
        for part, content in ((given.ids, own.ids), (given.values, own.values)):
            if part is not None:
                part[:, held] = content  # type: ignore[assignment]
        return self._draw_unknown(given, held, size, asked)

    @torch.no_grad()
    def _encoded(self, pixels: Tensor, asked: dict[str, Any]) -> Tokens:
        """Return the tokens of a picture, where the generator would draw them."""
        height, width = pixels.shape[-2:]
        layout = self.generator.layout(self.tokenizer, height, width, asked.get("steps"))
        return self.tokenizer.encode_at(pixels.unsqueeze(0).to(self.tokenizer.device), layout)

    def _draw_unknown(
        self, given: Tokens, known: Tensor, size: tuple[int, int], asked: dict[str, Any]
    ) -> Result:
        given.known = known.unsqueeze(0).to(given.known.device)
        return self.draw_from(given, **{**asked, "size": size})

    def _scales_within(self, layout: Layout, height: int, width: int) -> int:
        """Return how many scales are no finer than the grid of a picture of this size."""
        factor = self.tokenizer.factor
        grids = [segment.size[1:] for segment in layout.segments]
        return sum(rows * factor <= height and columns * factor <= width for rows, columns in grids)


def _pixels(picture: Image.Image | Tensor) -> Tensor:
    return to_pixels(picture) if isinstance(picture, Image.Image) else picture


def _check_places(layout: Layout, tokenizer: Tokenizer) -> None:
    """Raise ConfigError unless every token stands for a place of the picture."""
    if any(segment.role != "image" for segment in layout.segments):
        name = type(tokenizer).__name__
        raise ConfigError(f"a part cannot be drawn anew: tokens of {name} stand for no places")


def _coarse(layout: Layout, keep: int, tokenizer: Tokenizer) -> Tensor:
    """Return bool [N]: the tokens of the first `keep` scales."""
    count = len(layout.segments)
    if count < 2:
        name = type(tokenizer).__name__
        raise ConfigError(f"{name} has no scales: finer ones cannot be drawn anew")
    check(0 < keep < count, "keep", keep, f"from 1 to {count - 1}, of {count} scales")
    return layout.segment_of() < keep
