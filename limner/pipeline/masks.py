"""Masks: which part of a picture is drawn anew."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import ConfigError, check
from limner.core.layout import Layout


def check_mask(mask: Tensor, size: tuple[int, int]) -> None:
    """Raise ConfigError unless the mask is of this size, and neither empty nor full."""
    shape = "x".join(map(str, mask.shape))
    check(tuple(mask.shape) == size, "mask", shape, f"of the picture's size, {size[0]}x{size[1]}")
    if not bool(mask.any()):
        raise ConfigError("mask is empty (all black): white marks what is drawn anew")
    if bool(mask.all()):
        raise ConfigError("mask is full (all white): leave black what is to be kept")


def box_mask(box: tuple[float, float, float, float], size: tuple[int, int]) -> Tensor:
    """Return bool [H, W]: True inside a box.

    Args:
        box: top, left, bottom, right, as shares of the picture's height and width.
        size: H, W.

    Raises:
        ConfigError: the box is no part of the picture.
    """
    top, left, bottom, right = box
    fits = 0 <= top < bottom <= 1 and 0 <= left < right <= 1
    check(fits, "box", box, "top, left, bottom, right, rising shares from 0 to 1")
    mask = torch.zeros(size, dtype=torch.bool)
    rows, columns = size
    mask[
        round(top * rows) : round(bottom * rows), round(left * columns) : round(right * columns)
    ] = True
    return mask


def tokens_under(mask: Tensor, layout: Layout, kept: int = 3) -> Tensor:
    """Return bool [N]: the tokens that a mask [H, W] asks to draw anew.

    On the finest grid a token is drawn anew if any of its pixels is; a coarser scale is drawn anew
    where what is kept of the finest grid, enlarged or reduced bilinearly, is no more than half.

    Args:
        kept: scales of at most so many tokens are kept as a whole: they say what the picture is.

    Source: `replace_embedding` in demo_zero_shot_edit.ipynb of FoundationVision/VAR.
    """
    extent = layout.extent[1:]
    touched = functional.adaptive_max_pool2d(mask.float()[None, None], extent)
    parts = []
    for segment in layout.segments:
        frames, *size = segment.size
        if size == list(extent):
            anew = touched > 0
        else:
            known = functional.interpolate(1 - touched, size, mode="bilinear", align_corners=False)
            anew = (known <= 0.5) & (len(segment) > kept)
        parts.append(anew.flatten().repeat(frames))
    return torch.cat(parts)


def place_on_canvas(
    pixels: Tensor, size: tuple[int, int], place: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor]:
    """Return a canvas with a picture on it, float [C, *size], and bool [*size]: where it is.

    Outside of the picture its edge is repeated, so that coarse scales see no frame.

    Args:
        pixels: the picture, float [C, H, W].
        size: of the canvas.
        place: row and column of the picture's top left corner on the canvas; None: the middle.

    Raises:
        ConfigError: nothing of the picture is on the canvas, or it covers all of it.
    """
    extent = pixels.shape[-2:]
    top, left = place or tuple((whole - part) // 2 for whole, part in zip(size, extent))
    rows, columns = torch.arange(size[0]) - top, torch.arange(size[1]) - left
    within = [(at >= 0) & (at < side) for at, side in zip((rows, columns), extent)]
    inside = within[0].unsqueeze(1) & within[1]
    text = f"{top},{left}"
    check(
        bool(inside.any()), "place", text, "a place that leaves part of the picture on the canvas"
    )
    accepted = f"a place that leaves something to draw: {extent[0]}x{extent[1]} covers the canvas"
    check(not bool(inside.all()), "place", text, accepted)
    rows, columns = rows.clamp(0, extent[0] - 1), columns.clamp(0, extent[1] - 1)
    return pixels[:, rows][:, :, columns], inside
