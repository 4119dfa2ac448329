"""PSNR, SSIM and MS-SSIM against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from limner.core.errors import ConfigError
from limner.metrics.pixels import (
    SSIMConfig,
    absolute_error,
    ms_ssim,
    psnr,
    rescaled,
    squared_error,
    ssim,
    to_levels,
)


def noisy(size: int = 24, strength: float = 0.1) -> tuple[Tensor, Tensor]:
    """Smooth pictures [2, 3, size, size] in [-1, 1], and noisy ones."""
    rng = torch.Generator().manual_seed(0)
    waves = torch.linspace(0, 6, size).sin()
    pictures = 0.8 * (waves[:, None] * waves).expand(2, 3, size, size)
    return pictures + strength * torch.randn(pictures.shape, generator=rng), pictures


def flat(value: float, size: int = 12) -> Tensor:
    return torch.full((1, 3, size, size), value)


def test_errors_of_known_differences() -> None:
    references = torch.zeros(2, 1, 2, 2)
    pictures = torch.tensor([0.2, -0.4])[:, None, None, None].expand(2, 1, 2, 2)
    assert squared_error(pictures, references).tolist() == pytest.approx([0.04, 0.16])
    assert absolute_error(pictures, references, "batch") == pytest.approx(0.3)
    # 20 log10(2 / 0.2) and 20 log10(2 / 0.4); together 10 log10(4 / 0.1)
    assert psnr(pictures, references).tolist() == pytest.approx([20, 20 - 20 * math.log10(2)])
    assert psnr(pictures, references, over="batch") == pytest.approx(10 * math.log10(40))
    assert psnr(references, references).tolist() == [math.inf, math.inf]


def test_pictures_become_levels_and_come_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_levels(rescaled(levels, (0, 255))), levels)
    assert to_levels(torch.tensor([-3.0, -1.0, 0.001, 1.0, 2.0])).tolist() == [0, 0, 128, 255, 255]
    assert rescaled(torch.tensor([0.0, 0.25, 1.0]), (0, 1)).tolist() == [-1, -0.5, 1]


def test_flat_pictures_differ_in_luminance_only() -> None:
    # grey 0.5 and 0.75 of white, C1 = 1e-4
    wanted = (2 * 0.5 * 0.75 + 1e-4) / (0.5**2 + 0.75**2 + 1e-4)
    assert ssim(flat(0.0), flat(0.5)) == pytest.approx(wanted)
    for border in ("crop", "reflect"):
        assert ssim(flat(0.0), flat(0.5), config=SSIMConfig(border=border)) == pytest.approx(wanted)


def test_contrast_of_a_window_worked_out_by_hand() -> None:
    """One 3x3 box, so one pixel counts; values from black: 0 but 1 in the middle, and its half."""
    second = torch.zeros(1, 1, 3, 3)
    second[0, 0, 1, 1] = 1.0
    first, mean = second / 2, 1 / 9
    variance = mean - mean**2
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean * mean / 2 + c1) / (mean**2 + (mean / 2) ** 2 + c1)
    for unbiased, scale in ((False, 1.0), (True, 9 / 8)):
        config = SSIMConfig(sigma=None, window=3, unbiased=unbiased)
        contrast = (scale * variance + c2) / (scale * variance * 1.25 + c2)
        assert ssim(first, second, (0, 1), config) == pytest.approx(luminance * contrast)


@pytest.mark.parametrize("border", ["crop", "reflect"])
def test_the_range_of_values_does_not_matter(border: str) -> None:
    config = SSIMConfig(border=border)  # type: ignore[arg-type]
    pictures, references = noisy(96)
    for metric in (ssim, lambda *given: ms_ssim(*given, weights=(0.3, 0.3, 0.4))):
        wanted = metric(pictures, references, (-1, 1), config)
        for factor, shift, values in ((0.5, 0.5, (0, 1)), (127.5, 127.5, (0, 255))):
            mapped = (side.double() * factor + shift for side in (pictures, references))
            torch.testing.assert_close(metric(*mapped, values, config), wanted)


def test_pictures_are_their_own_best_match_and_noise_counts() -> None:
    for metric, size in ((ssim, 24), (ms_ssim, 176)):
        pictures, references = noisy(size)
        torch.testing.assert_close(metric(references, references), torch.ones(2).double())
        worse, _ = noisy(size, 0.3)
        assert (metric(worse, references) < metric(pictures, references)).all()
        assert (metric(pictures, references) < 1).all()


def test_pictures_are_measured_one_by_one() -> None:
    pictures, references = noisy()
    pictures[1] = references[1]
    for metric in (psnr, ssim):
        both = metric(pictures, references)
        assert both[0] == metric(pictures[:1], references[:1]) and both[1] > both[0]


def test_one_scale_of_ms_ssim_is_ssim_and_a_border_counts_only_when_reflected() -> None:
    pictures, references = noisy()
    torch.testing.assert_close(
        ms_ssim(pictures, references, weights=(1.0,)), ssim(pictures, references)
    )
    changed = references.clone()
    changed[..., 0, 0] = 1.0
    inside = SSIMConfig(window=3), SSIMConfig(window=3, border="reflect")
    cropped, reflected = (ssim(changed, references, config=config) for config in inside)
    assert (reflected < cropped).all() and (cropped < 1).all()


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda p: psnr(p, p[:1]), r"references=\[1, 3, 24, 24\].*\[2, 3, 24, 24\]"),
        (lambda p: psnr(p[0], p[0]), r"pictures=\[3, 24, 24\]"),
        (lambda p: psnr(p, p, (1, -1)), r"values=\(1, -1\)"),
        (lambda p: psnr(p.byte(), p.byte()), r"\(0, 255\)"),
        (lambda p: ssim(p[..., :9], p[..., :9]), r"size='24x9'.*at least 11"),
        (lambda p: ms_ssim(p, p), r"24x24.*at least 161"),
        (lambda p: ms_ssim(p, p, config=SSIMConfig(border="reflect")), r"at least 176"),
        (lambda p: SSIMConfig(window=4), "window=4"),
        (lambda p: SSIMConfig(sigma=None), "window=None"),
    ],
)
def test_bad_input_is_named(measure, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=message):
        measure(noisy()[0])
