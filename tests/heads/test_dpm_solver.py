"""DPM-Solver++: exact where the noise is, of second order elsewhere."""

import pytest
import torch
from torch import Tensor

from limner.core.errors import ConfigError
from limner.heads.dpm_solver import dpm_solver, linspace_timesteps, noise_ratios
from limner.heads.gaussian import gaussian_tables

CHAIN = gaussian_tables("linear")


def gaussian_noise(x: Tensor, time: Tensor) -> Tensor:
    """The noise in x where the data are Gaussian with deviation 0.5."""
    share = CHAIN.share[time].reshape(-1, 1, 1)
    return (1 - share).sqrt() / (0.25 * share + 1 - share) * x


def test_timesteps_are_spread_from_the_noisiest() -> None:
    assert linspace_timesteps(1000, 1).tolist() == [999]
    assert linspace_timesteps(1000, 4).tolist() == [999, 749, 500, 250]
    ratios = noise_ratios(CHAIN, linspace_timesteps(1000, 4))
    assert len(ratios) == 5 and ratios[-1] == 0 and bool((ratios[1:] < ratios[:-1]).all())
    for steps in (0, 1000):
        with pytest.raises(ConfigError, match=f"steps={steps}"):
            linspace_timesteps(1000, steps)


def test_more_steps_come_nearer_by_the_square() -> None:
    start = torch.randn(1, 4, 3, dtype=torch.float64)
    fine = dpm_solver(gaussian_noise, start, CHAIN, [900])
    errors = [
        float((dpm_solver(gaussian_noise, start, CHAIN, [steps]) - fine).abs().max())
        for steps in (10, 20, 40)
    ]
    assert errors[1] < errors[0] / 2 and errors[2] < errors[1] / 2
    assert float(fine.std() / start.std()) == pytest.approx(0.5, rel=0.02)


def test_rows_with_fewer_steps_stand_still_at_their_end() -> None:
    start = torch.randn(3, 4, 3, dtype=torch.float64)
    together = dpm_solver(gaussian_noise, start, CHAIN, [2, 7, 1])
    for row, steps in enumerate((2, 7, 1)):
        alone = dpm_solver(gaussian_noise, start[row : row + 1], CHAIN, [steps])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-12, atol=1e-12)
