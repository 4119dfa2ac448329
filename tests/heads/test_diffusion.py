"""The diffusion head: what it learns, and what guidance, temperature and noise do to it."""

import pytest
import torch
from torch import nn

from limner.core.errors import ConfigError
from limner.core.head import Outputs
from limner.heads.diffusion import DiffusionConfig, DiffusionHead
from limner.layers.timestep import sinusoid

OFF = float("nan")


def make_head(token=2, condition=3, **fields):
    """A head whose outputs are not zero, as fresh ones are; "ddim" keeps its samples small."""
    torch.manual_seed(0)
    config = DiffusionConfig(**{"width": 16, "depth": 2, "steps": "ddim10", **fields})
    head = DiffusionHead(token, condition, config).double()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.2)
    return head.requires_grad_(False)


def outputs(rows=2, tokens=3, guided=True, scales=2.0):
    lead, null = torch.randn(
        2, rows, tokens, 3, generator=torch.Generator().manual_seed(1)
    ).double()
    return Outputs(lead, null if guided else None, torch.full((rows,), scales).double())


def noise(seed=0, rows=2, tokens=3):
    """A source whose numbers depend on what they are for alone."""

    def source(purpose, inner):
        rng = torch.Generator().manual_seed(1000 * seed + inner + (purpose == "start") * 500)
        return torch.randn(rows, tokens, 2, generator=rng, dtype=torch.float64)

    return source


def sample(head, given, temperature=1.0, source=None, respacing="ddim10"):
    heat = torch.full((len(given.lead),), temperature)
    return head.sample(given, heat, respacing, source or noise())


def test_guidance_off_or_of_scale_one_is_no_guidance():
    head, plain = make_head(), outputs(guided=False)
    torch.testing.assert_close(sample(head, outputs(scales=1.0)), sample(head, plain))
    torch.testing.assert_close(sample(head, outputs(scales=OFF)), sample(head, plain))
    assert not torch.allclose(sample(head, outputs(scales=2.0)), sample(head, plain), atol=1e-3)


def test_every_row_has_its_own_scale():
    head, given = make_head(), outputs()
    mixed = Outputs(given.lead, given.null, torch.tensor([OFF, 3.0]).double())
    drawn = sample(head, mixed)
    torch.testing.assert_close(drawn[:1], sample(head, outputs(guided=False))[:1])
    torch.testing.assert_close(drawn[1:], sample(head, outputs(scales=3.0))[1:])


def test_the_null_changes_noise_and_never_variance():
    head, given = make_head(), outputs()
    x, time = noise()("start", 0), torch.tensor(400)
    lead, null = head.denoiser.condition(given.lead), head.denoiser.condition(given.null)
    told, code = head.guided(x, time, lead, null, given.scales)
    lead_noise, lead_code = head.predict(x, time, lead)
    null_noise, _ = head.predict(x, time, null)
    torch.testing.assert_close(told, null_noise + 2 * (lead_noise - null_noise))
    torch.testing.assert_close(code, lead_code)


def test_temperature_scales_step_noise_but_not_the_start():
    head, given = make_head(), outputs(guided=False)
    start, other = noise(seed=0), noise(seed=1)

    def mixed(purpose, inner):
        return start(purpose, inner) if purpose == "start" else other(purpose, inner)

    cold = sample(head, given, temperature=0.0, source=start)
    assert torch.equal(cold, sample(head, given, temperature=0.0, source=mixed))
    assert not torch.allclose(cold, sample(head, given, temperature=0.0, source=other))
    assert not torch.allclose(sample(head, given, source=start), sample(head, given, source=mixed))


def test_a_half_precision_network_walks_in_float32():
    head, given = make_head().bfloat16(), outputs()
    half = Outputs(given.lead.bfloat16(), given.null.bfloat16(), given.scales)
    drawn = sample(head, half)
    assert drawn.dtype == torch.float32
    torch.testing.assert_close(drawn.double(), sample(make_head(), given), atol=0.1, rtol=0.1)


def test_the_last_step_adds_no_noise():
    asked = []

    def source(purpose, inner):
        asked.append((purpose, inner))
        return noise()(purpose, inner)

    sample(make_head(), outputs(), source=source)
    assert asked == [("start", 0), *(("solver", inner) for inner in range(9))]


def test_tokens_without_weight_do_not_count():
    head = make_head().requires_grad_(True)
    z = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.randn(2, 4, 2, dtype=torch.float64)
    weight = torch.tensor([[1, 0, 1, 0], [0, 0, 1, 1]])
    time, noises = torch.randint(1000, (16,)), torch.randn(16, 2).double()
    loss = head.loss_at(z, targets, time, noises, weight)
    loss.total.backward()
    assert torch.equal(z.grad.abs().sum(-1) > 0, weight.bool())
    mse, bound = head.terms(z, targets, time, noises)
    each = (mse + bound).reshape(2, 2, 4).mean(0)
    torch.testing.assert_close(loss.total, (each * weight).sum() / weight.sum())


def test_the_bound_teaches_the_variance_alone():
    head = make_head().requires_grad_(True)
    z, targets = torch.randn(1, 50, 3).double(), torch.randn(1, 50, 2).double()
    _, bound = head.terms(z, targets, torch.arange(0, 1000, 20), torch.randn(50, 2).double())
    bound.sum().backward()
    grad = head.denoiser.out.weight.grad
    assert torch.all(grad[:2] == 0) and torch.all(grad[2:] != 0)


def test_a_fresh_head_predicts_nothing():
    head = DiffusionHead(2, 3, DiffusionConfig(width=16, depth=2))
    told, code = head.predict(torch.randn(5, 2), torch.tensor(3), torch.randn(5, 16))
    assert torch.all(told == 0) and torch.all(code == 0)
    loss = head.loss(torch.randn(1, 500, 3), torch.randn(1, 500, 2))
    assert loss.parts["mse"].item() == pytest.approx(1.0, abs=0.05)


def test_losses_without_a_generator_agree():
    head, z, targets = make_head(), torch.randn(2, 3, 3).double(), torch.randn(2, 3, 2).double()
    first, again = head.loss(z, targets), head.loss(z, targets)
    other = head.loss(z, targets, torch.Generator().manual_seed(7))
    assert torch.equal(first.total, again.total) and first.total != other.total


def test_times_are_embedded_cosine_first():
    waves = sinusoid(torch.tensor([0, 3]), 256)
    assert torch.equal(waves[0], torch.cat([torch.ones(128), torch.zeros(128)]))
    frequency = 10000 ** (-5 / 128)
    expected = (
        torch.tensor([3 * frequency]).cos().item(),
        torch.tensor([3 * frequency]).sin().item(),
    )
    assert (waves[1, 5].item(), waves[1, 133].item()) == pytest.approx(expected, abs=1e-5)


def test_impossible_configurations_are_refused():
    with pytest.raises(ConfigError, match="respacing='1001'"):
        DiffusionConfig(steps="1001")
    with pytest.raises(ConfigError, match="depth=0"):
        DiffusionConfig(depth=0)


MODES = torch.tensor([[[1.5, 0.5], [-1.5, 0.5]], [[0.5, 1.5], [0.5, -1.5]]])
"""Where tokens lie, by condition and mode."""


def toy(count, rng):
    """Draw conditions and tokens, [1, count, 2] each: a token lies near one of two modes."""
    kind, mode = torch.randint(2, (2, count), generator=rng)
    tokens = MODES[kind, mode] + 0.1 * torch.randn(count, 2, generator=rng)
    return torch.eye(2)[kind].unsqueeze(0), tokens.unsqueeze(0)


def fit(parameters, loss, steps):
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    rng = torch.Generator().manual_seed(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        value = loss(*toy(256, rng), rng)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()


def test_a_head_learns_a_distribution_of_which_regression_learns_the_mean():
    torch.manual_seed(0)
    head = DiffusionHead(2, 2, DiffusionConfig(width=48, depth=2, steps="ddim50", repeats=1))
    fit(head.parameters(), lambda z, x, rng: head.loss(z, x, rng).total, 300)
    z = torch.eye(2).unsqueeze(1).expand(2, 500, 2)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        drawn = head.sample(
            Outputs(z, None, torch.tensor([OFF, OFF])),
            torch.ones(2),
            "ddim50",
            lambda purpose, inner: torch.randn(2, 500, 2, generator=rng),
        )
    nearest = torch.cdist(drawn, MODES).argmin(-1)
    for kind in range(2):
        for mode in range(2):
            hit = drawn[kind][nearest[kind] == mode]
            assert 0.3 < len(hit) / 500 < 0.7
            assert (hit.mean(0) - MODES[kind, mode]).norm() < 0.1
            assert hit.std(0).max() < 0.2

    regression = nn.Sequential(nn.Linear(2, 48), nn.SiLU(), nn.Linear(48, 2))
    fit(regression.parameters(), lambda z, x, rng: (regression(z) - x).square().mean(), 200)
    told = regression(torch.eye(2)).detach()
    assert (told - MODES.mean(1)).norm(dim=-1).max() < 0.2
    assert torch.cdist(told.unsqueeze(1), MODES).min() > 1.2
