"""Gaussian chains: against released tables, and the identities that define them."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from limner.core.errors import ConfigError
from limner.heads.gaussian import Gaussian, GaussianTables, gaussian_tables, kept_timesteps

FOLDER = Path(__file__).parents[1] / "fixtures" / "parity" / "mar" / "diffloss"


@pytest.fixture(scope="module")
def released():
    return load_file(FOLDER / "io.safetensors")


@pytest.fixture(scope="module")
def hyper():
    return json.loads((FOLDER / "config.json").read_text())["hyper"]


def close(value, reference):
    torch.testing.assert_close(value, reference, rtol=1e-12, atol=1e-15)


def test_tables_are_those_of_the_released_code(released, hyper):
    close(gaussian_tables("cosine").betas, released["train_betas"])
    tables = gaussian_tables("cosine", 1000, hyper["num_sampling_steps"])
    assert torch.equal(tables.timesteps, released["use_timesteps"])
    close(tables.betas, released["betas"])
    close(tables.share, released["alphas_cumprod"])
    close(tables.posterior_log_variance, released["posterior_log_variance_clipped"])
    close(tables.posterior_clean, released["posterior_mean_coef1"])
    close(tables.posterior_noisy, released["posterior_mean_coef2"])
    evenly = gaussian_tables("cosine", 1000, hyper["int_sampling_steps"])
    close(evenly.betas, released["int_betas"])
    close(evenly.posterior_log_variance, released["int_posterior_log_variance_clipped"])


@pytest.mark.parametrize("respacing", ["25", "50", "100", "ddim20"])
def test_respacings_are_those_of_the_released_code(respacing, released):
    assert kept_timesteps(1000, respacing) == released[f"map_{respacing}"].tolist()


def test_sections_are_respaced_each_by_itself():
    # 10 = 4 + 3 + 3 steps
    assert kept_timesteps(10, "2,1,3") == [0, 3, 4, 7, 8, 9]
    assert kept_timesteps(10, 10) == list(range(10))


@pytest.mark.parametrize("respacing", ["0", "1001", "ddim7x", "ddim999", "a", "", "-3", "600,600"])
def test_impossible_respacings_are_refused(respacing):
    with pytest.raises(ConfigError, match="respacing"):
        kept_timesteps(1000, respacing)


@given(st.integers(2, 300))
def test_a_respaced_chain_keeps_the_variance_of_the_steps_it_walks(count):
    full = gaussian_tables("linear")
    part = full.respaced(count)
    assert part.timesteps[0] == 0 and part.timesteps[-1] == 999
    torch.testing.assert_close(part.share, full.share[part.timesteps], rtol=1e-9, atol=0)


def test_linear_betas_keep_their_shape_for_any_length():
    assert gaussian_tables("linear").betas[[0, -1]].tolist() == pytest.approx([1e-4, 0.02])
    assert gaussian_tables("linear", 100).betas[-1] == pytest.approx(0.2)


def test_noise_tells_the_clean_vector_again():
    rng = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 6, 3, generator=rng, dtype=torch.float64)
    tables, index = gaussian_tables("cosine"), torch.tensor([0, 1, 10, 500, 900, 998])
    noisy = tables.add_noise(clean, index, noise)
    torch.testing.assert_close(tables.clean(noisy, index, noise), clean, rtol=1e-6, atol=1e-8)


def test_the_posterior_is_bayes_rule():
    """q(x_{t-1} | x_t, x_0) by multiplying the two Gaussians it is made of."""
    tables = GaussianTables(torch.tensor([0.1, 0.2, 0.5]))
    clean, noisy = torch.tensor([[0.7]], dtype=torch.float64), torch.tensor([[-0.3]]).double()
    before, beta = tables.share[1], tables.betas[2]
    precision = 1 / (1 - before) + (1 - beta) / beta
    mean = (before.sqrt() * 0.7 / (1 - before) + (1 - beta).sqrt() * -0.3 / beta) / precision
    torch.testing.assert_close(
        tables.posterior_mean(clean, noisy, torch.tensor([2])), mean.reshape(1, 1)
    )
    torch.testing.assert_close(tables.posterior_log_variance[2], -precision.log())


def test_variance_codes_span_the_two_bounds():
    tables, index = gaussian_tables("cosine"), torch.tensor([500])
    ends = tables.learned_log_variance(torch.tensor([[-1.0, 1.0]]), index)[0]
    expected = torch.stack([tables.posterior_log_variance[500], tables.betas[500].log()]).float()
    torch.testing.assert_close(ends, expected)


def test_bins_of_the_likelihood_cover_the_line():
    """256 bins around -1 .. 1, the outer ones open, hold all the probability."""
    model = Gaussian(torch.tensor(0.3).double(), torch.tensor(-2.0).double())
    bins = torch.linspace(-1, 1, 256, dtype=torch.float64)
    torch.testing.assert_close(model.log_likelihood(bins).exp().sum(), torch.tensor(1.0).double())


def test_divergence_is_what_sampling_says():
    first = Gaussian(torch.tensor(0.5).double(), torch.tensor(-0.4).double())
    other = Gaussian(torch.tensor(-0.2).double(), torch.tensor(0.3).double())
    x = first.sample(torch.randn(200_000, generator=torch.Generator().manual_seed(0)).double())

    def log_density(model):
        return torch.distributions.Normal(model.mean, (model.log_variance / 2).exp()).log_prob(x)

    estimate = (log_density(first) - log_density(other)).mean()
    torch.testing.assert_close(first.divergence(other), estimate, atol=0.01, rtol=0)
