"""Linear latents of square patches, fitted in closed form.

A patch is described by its leading principal components. Pictures are drawn back by a linear map
from a place and its eight neighbours to the pixels of the place, fitted to the latents as they
come out of the quantiser: that hides the seams between patches.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.errors import DataError
from limner.layers.least_squares import fit_convolution


class PatchLatents(nn.Module):
    """Pictures [B, C, H, W] to latents [B, D, H / patch, W / patch] and back.

    Args:
        channels: C of the pictures.
        patch: side of a patch in pixels.
        width: D, principal components kept.
        whiten: scale every component to unit variance.
    """

    mean: Tensor  # [C p p]
    basis: Tensor  # [D, C p p]

    def __init__(self, channels: int, patch: int, width: int, whiten: bool = False) -> None:
        super().__init__()
        self.patch = patch
        self.whiten = whiten
        pixels = channels * patch**2
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("basis", torch.zeros(width, pixels))
        self.painter = nn.Conv2d(width, pixels, 3, padding=1, padding_mode="replicate")
        self.painter.requires_grad_(False)

    def encode(self, pictures: Tensor) -> Tensor:
        """Return the latents of pictures, float [B, D, h, w]."""
        patches = functional.pixel_unshuffle(pictures, self.patch)
        offset = self.basis @ self.mean
        return functional.conv2d(patches, self.basis[..., None, None], -offset)

    def decode(self, latents: Tensor) -> Tensor:
        """Return the pictures of latents [B, D, h, w], not clamped."""
        return functional.pixel_shuffle(self.painter(latents), self.patch)

    @torch.no_grad()
    def fit(self, pictures: Tensor) -> None:
        """Set the principal components to those of the pictures.

        Raises:
            DataError: all pictures are of one colour.
        """
        patches = functional.pixel_unshuffle(pictures, self.patch).movedim(1, -1).flatten(0, 2)
        mean = patches.mean(dim=0)
        centred = patches - mean
        # float64 on the CPU: some devices lack it
        covariance = (centred.T @ centred / len(centred)).cpu().double()
        variances, vectors = torch.linalg.eigh(covariance)  # ascending
        if variances[-1] < 1e-12:
            raise DataError("the pictures are all of one colour: nothing can be fitted to them")
        kept = len(self.basis)
        basis = vectors.flip(1)[:, :kept].T
        if self.whiten:
            # what hardly varies is not blown up to unit variance
            floor = 1e-6 * variances[-1]
            basis = basis / variances.flip(0)[:kept, None].clamp(min=floor).sqrt()
        self.mean.copy_(mean)
        self.basis.copy_(basis)

    def fit_painter(self, latents: Tensor, pictures: Tensor) -> None:
        """Fit the way back from latents [B, D, h, w], as they are decoded, to their pictures."""
        fit_convolution(self.painter, latents, functional.pixel_unshuffle(pictures, self.patch))
