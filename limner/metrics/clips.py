"""What a network of pictures says of clips: of how they look, and of how they move."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from limner.core.errors import DataError


def clip_vectors(vectors: Callable[[Tensor], Tensor], clips: Tensor) -> Tensor:
    """Describe clips by their frames, and by the differences of frames that follow each other.

    The order of frames counts in the differences alone. This is no published metric: it is what can
    be said of clips without the network of FVD.

    Args:
        vectors: of pictures, float [B, 3, H, W] in [-1, 1] to [B, D].
        clips: float [B, T, 3, H, W] in [-1, 1].

    Returns:
        The mean over frames, then the mean over differences, float [B, 2 D]; halved differences are
        seen as pictures, mid-grey where nothing moves.

    Raises:
        DataError: clips of a single frame.
    """
    if clips.shape[1] < 2:
        raise DataError("clips of one frame do not move: take those of two frames or more")
    moved = (clips[:, 1:] - clips[:, :-1]) / 2
    means = [
        vectors(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).mean(dim=1)
        for frames in (clips, moved)
    ]
    return torch.cat(means, dim=1)
