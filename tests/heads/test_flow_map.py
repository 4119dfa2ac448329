"""The map from noise to codes: its distribution, and that on a line it is the quantile map."""

import torch

from limner.heads import flow_map
from limner.heads.flow_map import arrived, velocity, walk


def mapped(noise, chances, codes):
    logprob = chances.log().expand(len(noise), -1)
    return arrived(walk(noise, logprob, codes), logprob, codes)


def surprise():
    """Return chi square of the codes of 2000 noises, of 7 degrees of freedom."""
    rng = torch.Generator().manual_seed(0)
    codes = torch.randn(8, 3, generator=rng, dtype=torch.float64)
    chances = torch.rand(8, generator=rng, dtype=torch.float64).square()
    chances = chances / chances.sum()
    noise = torch.randn(2000, 3, generator=rng, dtype=torch.float64)
    counts = torch.bincount(mapped(noise, chances, codes), minlength=8)
    expected = 2000 * chances
    return float(((counts - expected).square() / expected).sum())


def test_codes_come_as_often_as_they_are_likely():
    assert surprise() < 18.5  # p = 0.01


def test_another_variance_on_the_way_gives_another_distribution(monkeypatch):
    def wider(x, left, logprob, codes):
        """Posterior weights under a variance of 1 - t in place of its square."""
        time = 1 - left
        near = time * (x @ codes.T) - 0.5 * time**2 * codes.square().sum(-1)
        return (logprob + near / left).softmax(-1)

    monkeypatch.setattr(flow_map, "_weights", wider)
    assert surprise() > 24.3  # p = 0.001


def test_on_a_line_it_is_the_quantile_map():
    codes = torch.tensor([[0.7], [-1.1], [0.2], [1.9]], dtype=torch.float64)
    chances = torch.tensor([0.1, 0.3, 0.4, 0.2], dtype=torch.float64)
    noise = torch.linspace(-2.5, 2.5, 41, dtype=torch.float64).unsqueeze(-1)
    order = codes[:, 0].argsort()
    bounds = torch.special.ndtri(chances[order].cumsum(0)[:-1])
    clear = (noise - bounds).abs().amin(-1) > 0.02
    expected = order[torch.searchsorted(bounds, noise[:, 0])]
    assert torch.equal(mapped(noise, chances, codes)[clear], expected[clear])


def test_impossible_codes_are_never_drawn_and_velocities_carry_noise_along():
    codes = torch.eye(3, dtype=torch.float64)
    chances = torch.tensor([0.0, 0.5, 0.5], dtype=torch.float64)
    noise = torch.randn(50, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert int(mapped(noise, chances, codes).min()) >= 1
    logprob = chances.log().expand(50, -1)
    time, ahead = 0.3, 1e-4
    ends = [-torch.log(torch.tensor(1.0 - t, dtype=torch.float64)) for t in (time, time + ahead)]
    now, then = (walk(noise, logprob, codes, float(end)) for end in ends)
    moved = velocity(now, time, logprob, codes) * ahead
    torch.testing.assert_close(then - now, moved, rtol=1e-2, atol=1e-6)
