"""How near pictures are to others, pixel by pixel: mean errors, PSNR, SSIM and MS-SSIM.

Pictures are [B, C, H, W], in [-1, 1] unless `values` says otherwise: the values of black and white.
SSIM's term of luminance depends on where black is, so pictures are measured from black on: the
result is the same for [-1, 1], [0, 1] and [0, 255]. Everything is computed in float64.

Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP
2004; "Multiscale structural similarity for image quality assessment", Asilomar 2003.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import check

Values = tuple[float, float]
"""The values of black and of white."""

Over = Literal["picture", "batch"]
"""Whether a mean is taken over each picture, [B], or over all of them at once, []."""

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@dataclass(frozen=True)
class SSIMConfig:
    """How the neighbourhood of a pixel is measured.

    Args:
        sigma: of the Gaussian window, in pixels; None: all pixels of the window count alike.
        window: its side, odd; None: as far as 3.5 sigma, which is 11 for 1.5.
        border: "crop" counts only pixels whose window lies in the picture (the original,
            pytorch-msssim, scikit-image); "reflect" counts all, and mirrors the picture at its
            edges (torchmetrics).
        unbiased: variances are those of a sample, larger by n / (n - 1) for n pixels in a window.
        k1: constant of the luminance term, as a share of the range of values.
        k2: constant of the contrast term.
    """

    sigma: float | None = 1.5
    window: int | None = None
    border: Literal["crop", "reflect"] = "crop"
    unbiased: bool = False
    k1: float = 0.01
    k2: float = 0.03

    def __post_init__(self) -> None:
        check(self.sigma is None or self.sigma > 0, "sigma", self.sigma, "above 0, or None")
        check(self.window is not None or self.sigma is not None, "window", None, "an odd number")
        odd = self.side > 1 and self.side % 2 == 1
        check(odd, "window", self.window, "an odd number of pixels above 1")
        check(self.border in ("crop", "reflect"), "border", self.border, "'crop' or 'reflect'")
        for name in ("k1", "k2"):
            check(getattr(self, name) > 0, name, getattr(self, name), "above 0")

    @property
    def side(self) -> int:
        """Pixels along a side of the window."""
        if self.window is None:
            assert self.sigma is not None
            return 2 * int(3.5 * self.sigma + 0.5) + 1
        return self.window

    def weights(self) -> Tensor:
        """Return the window along one side, float64 [side], adding up to 1."""
        if self.sigma is None:
            return torch.full((self.side,), 1 / self.side, dtype=torch.float64)
        places = torch.arange(self.side, dtype=torch.float64) - self.side // 2
        return torch.softmax(-places.square() / (2 * self.sigma**2), dim=0)


SSIM = SSIMConfig()
"""The published settings."""


def rescaled(pictures: Tensor, values: Values, to: Values = (-1.0, 1.0)) -> Tensor:
    """Return pictures whose black and white have other values; floats, as precise as given."""
    _check_values(pictures, values)
    share = (pictures - values[0]) / (values[1] - values[0])
    return to[0] + share * (to[1] - to[0])


def to_levels(pictures: Tensor) -> Tensor:
    """Return pictures in [-1, 1] as files hold them: uint8, rounded to the nearest level."""
    return ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def squared_error(pictures: Tensor, references: Tensor, over: Over = "picture") -> Tensor:
    """Return the mean squared difference, float64 [B], or [] over the batch."""
    _check_pair(pictures, references)
    return _mean((pictures.double() - references.double()).square(), over)


def absolute_error(pictures: Tensor, references: Tensor, over: Over = "picture") -> Tensor:
    """Return the mean absolute difference, float64 [B], or [] over the batch."""
    _check_pair(pictures, references)
    return _mean((pictures.double() - references.double()).abs(), over)


def psnr(
    pictures: Tensor, references: Tensor, values: Values = (-1.0, 1.0), over: Over = "picture"
) -> Tensor:
    """Return the peak signal-to-noise ratio in decibels; infinite where nothing differs.

    Args:
        pictures: [B, C, H, W].
        references: the same.
        values: of black and white.
        over: papers on tokenizers average the decibels of pictures ("picture"); "batch" takes
            the error over all pixels of the batch before the logarithm.

    Returns:
        float64 [B], or [] over the batch.
    """
    _check_values(pictures, values)
    error = squared_error(pictures, references, over)
    return 10 * torch.log10((values[1] - values[0]) ** 2 / error)


def ssim(
    pictures: Tensor,
    references: Tensor,
    values: Values = (-1.0, 1.0),
    config: SSIMConfig = SSIM,
) -> Tensor:
    """Return the structural similarity, at most 1, float64 [B].

    Args:
        pictures: [B, C, H, W].
        references: the same.
        values: of black and white.
        config: the window.

    Raises:
        ConfigError: the pictures differ in shape, or are smaller than the window.
    """
    _check_values(pictures, values)
    _check_pair(pictures, references)
    _check_sides(pictures, config.side, "the window")
    first, second = (side.double() - values[0] for side in (pictures, references))
    whole, _ = _similarities(first, second, values[1] - values[0], config)
    return whole.flatten(1).mean(dim=1)


def ms_ssim(
    pictures: Tensor,
    references: Tensor,
    values: Values = (-1.0, 1.0),
    config: SSIMConfig = SSIM,
    weights: Sequence[float] = SCALE_WEIGHTS,
) -> Tensor:
    """Return the structural similarity over several scales, 0 to 1, float64 [B].

    The contrast term is taken at every scale and the whole at the coarsest, each at least 0. Where
    borders are cropped, the scales are multiplied channel by channel and odd sides are pooled with
    zeros outside (pytorch-msssim); where they are reflected, all channels of a scale are averaged
    first, the contrast term leaves the border out, and odd sides lose a row (torchmetrics).

    Args:
        pictures: [B, C, H, W].
        references: the same.
        values: of black and white.
        config: the window.
        weights: exponents of the scales, finest first.

    Raises:
        ConfigError: the pictures differ in shape, or a window does not fit the coarsest scale.
    """
    _check_values(pictures, values)
    _check_pair(pictures, references)
    cropped, halvings = config.border == "crop", 2 ** (len(weights) - 1)
    least = (config.side - 1) * halvings + 1 if cropped else config.side * halvings
    _check_sides(pictures, least, f"{len(weights)} scales with a window of {config.side}")
    first, second = (side.double() - values[0] for side in (pictures, references))
    result = first.new_ones(())
    for scale, weight in enumerate(weights):
        whole, contrast = _similarities(first, second, values[1] - values[0], config)
        counted = whole if scale == len(weights) - 1 else contrast
        term = counted.mean(dim=(2, 3) if cropped else (1, 2, 3))
        result = result * term.clamp(min=0) ** weight
        first, second = (_halved(side, pad=cropped) for side in (first, second))
    return result.flatten(1).mean(dim=1) if cropped else result


def _similarities(
    first: Tensor, second: Tensor, white: float, config: SSIMConfig
) -> tuple[Tensor, Tensor]:
    """Return SSIM and its contrast term at every pixel that counts, float64 [B, C, h, w] each.

    Args:
        first: float64 [B, C, H, W] from 0 (black) to `white`.
        second: the same.
    """
    margin = config.side // 2
    if config.border == "reflect":
        first, second = (
            functional.pad(side, (margin,) * 4, mode="reflect") for side in (first, second)
        )
    window = config.weights().to(first.device)
    pixels = config.side**2
    scale = pixels / (pixels - 1) if config.unbiased else 1.0
    a, b = _blurred(first, window), _blurred(second, window)
    variance_a = scale * (_blurred(first.square(), window) - a.square()).clamp(min=0)
    variance_b = scale * (_blurred(second.square(), window) - b.square()).clamp(min=0)
    covariance = scale * (_blurred(first * second, window) - a * b)
    c1, c2 = (config.k1 * white) ** 2, (config.k2 * white) ** 2
    contrast = (2 * covariance + c2) / (variance_a + variance_b + c2)
    whole = contrast * (2 * a * b + c1) / (a.square() + b.square() + c1)
    if config.border == "reflect":
        contrast = contrast[..., margin:-margin, margin:-margin]
    return whole, contrast


def _blurred(maps: Tensor, window: Tensor) -> Tensor:
    """Return weighted means over windows that lie in the maps, [B, C, H - side + 1, ...]."""
    planes = maps.flatten(0, 1).unsqueeze(1)
    planes = functional.conv2d(planes, window.reshape(1, 1, -1, 1))
    planes = functional.conv2d(planes, window.reshape(1, 1, 1, -1))
    return planes.reshape(*maps.shape[:2], *planes.shape[-2:])


def _halved(pictures: Tensor, pad: bool) -> Tensor:
    padding = tuple(side % 2 for side in pictures.shape[-2:]) if pad else 0
    return functional.avg_pool2d(pictures, 2, padding=padding)


def _mean(errors: Tensor, over: Over) -> Tensor:
    check(over in ("picture", "batch"), "over", over, "'picture' or 'batch'")
    return errors.mean() if over == "batch" else errors.flatten(1).mean(dim=1)


def _check_values(pictures: Tensor, values: Values) -> None:
    check(values[0] < values[1], "values", values, "those of black and white, black being lower")
    levels = not pictures.is_floating_point()
    fits = not levels or values[0] >= 0
    check(fits, "values", values, f"(0, 255) or so for pictures of {pictures.dtype}")


def _check_pair(pictures: Tensor, references: Tensor) -> None:
    shape = list(pictures.shape)
    check(pictures.dim() == 4 and len(pictures) > 0, "pictures", shape, "of shape [B, C, H, W]")
    fits = pictures.shape == references.shape
    check(fits, "references", list(references.shape), f"of the pictures' shape, {shape}")


def _check_sides(pictures: Tensor, least: int, purpose: str) -> None:
    height, width = pictures.shape[-2:]
    fits = min(height, width) >= least
    check(fits, "size", f"{height}x{width}", f"at least {least} pixels a side for {purpose}")
