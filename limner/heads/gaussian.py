"""Gaussian diffusion in discrete steps: the tables of a chain, and what follows from them.

A chain x_0 .. x_T adds noise step by step: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise, where
abar_t is the product of 1 - beta over the steps up to t (Ho et al., arXiv:2006.11239). Sampling
walks it backwards, along all steps or along some of them ("respacing"; Nichol and Dhariwal,
"Improved Denoising Diffusion Probabilistic Models", arXiv:2102.09672).

Tables are float64 on the CPU and are cast only after indexing, so a respaced chain is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from limner.core.errors import ConfigError, check


def linear_betas(steps: int) -> Tensor:
    """Return betas rising linearly, float64 [steps]: 1e-4 to 0.02 for 1000 steps."""
    scale = 1000 / steps
    return torch.linspace(scale * 1e-4, scale * 0.02, steps, dtype=torch.float64)


def cosine_betas(steps: int) -> Tensor:
    """Return the betas of abar(u) = cos^2((u + 0.008) / 1.008 pi / 2), float64 [steps]."""

    def kept(share: float) -> float:
        return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - kept((i + 1) / steps) / kept(i / steps), 0.999) for i in range(steps)]
    return torch.tensor(betas, dtype=torch.float64)


def squared_linear_betas(steps: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Return betas whose roots rise linearly, float64 [steps], as latent diffusion has them."""
    return torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64).square()


SCHEDULES: dict[str, Callable[[int], Tensor]] = {"linear": linear_betas, "cosine": cosine_betas}


@lru_cache(maxsize=64)
def gaussian_tables(schedule: str, steps: int = 1000, respacing: str = "") -> GaussianTables:
    """Return the tables of a named chain, made once.

    Args:
        schedule: "linear" or "cosine".
        steps: T, length of the full chain.
        respacing: which of its steps are walked, see `kept_timesteps`.
    """
    check(schedule in SCHEDULES, "schedule", schedule, f"one of {', '.join(SCHEDULES)}")
    full = GaussianTables(SCHEDULES[schedule](steps))
    return full.respaced(respacing) if respacing else full


class GaussianTables:
    """One chain of S steps; `index` below counts its own steps, 0 .. S - 1, noisiest last.

    Args:
        betas: float64 [S].
        timesteps: int64 [S], step of the full chain that each step is, as the network knows it;
            None: the chain is the full one.
    """

    def __init__(self, betas: Tensor, timesteps: Tensor | None = None) -> None:
        self.betas = betas.to("cpu", torch.float64)
        self.timesteps = torch.arange(len(betas)) if timesteps is None else timesteps

    def __len__(self) -> int:
        return len(self.betas)

    def respaced(self, respacing: str | int) -> GaussianTables:
        """Return the chain that walks only some steps of this one, see `kept_timesteps`."""
        kept = torch.tensor(kept_timesteps(len(self), respacing))
        share = self.share[kept]
        before = torch.cat([share.new_ones(1), share[:-1]])
        return GaussianTables(1 - share / before, self.timesteps[kept])

    @cached_property
    def share(self) -> Tensor:
        """abar, float64 [S]: share of the data's variance that is left at each step."""
        return torch.cumprod(1 - self.betas, 0)

    @cached_property
    def _share_before(self) -> Tensor:
        return torch.cat([self.share.new_ones(1), self.share[:-1]])

    @cached_property
    def posterior_clean(self) -> Tensor:
        """Weight of x_0 in the mean of q(x_{t-1} | x_t, x_0), float64 [S]."""
        return self.betas * self._share_before.sqrt() / (1 - self.share)

    @cached_property
    def posterior_noisy(self) -> Tensor:
        """Weight of x_t in the mean of q(x_{t-1} | x_t, x_0), float64 [S]."""
        return (1 - self._share_before) * (1 - self.betas).sqrt() / (1 - self.share)

    @cached_property
    def posterior_log_variance(self) -> Tensor:
        """Log-variance of q(x_{t-1} | x_t, x_0), float64 [S]; step 0 takes that of step 1."""
        variance = self.betas * (1 - self._share_before) / (1 - self.share)
        return torch.cat([variance[1:2], variance[1:]]).log() if len(self) > 1 else self.betas.log()

    def add_noise(self, clean: Tensor, index: Tensor, noise: Tensor) -> Tensor:
        """Return x_t of x_0.

        Args:
            clean: float [..., D], x_0.
            index: int64 [...], or [] for all alike; on the CPU.
            noise: float [..., D], standard normal.
        """
        kept = _at(self.share.sqrt(), index, clean)
        return kept * clean + _at((1 - self.share).sqrt(), index, clean) * noise

    def clean(self, noisy: Tensor, index: Tensor, noise: Tensor) -> Tensor:
        """Return the x_0, float [..., D], that x_t and its noise tell."""
        kept = _at((1 / self.share).sqrt(), index, noisy)
        return kept * noisy - _at((1 / self.share - 1).sqrt(), index, noisy) * noise

    def noise(self, noisy: Tensor, index: Tensor, clean: Tensor) -> Tensor:
        """Return the noise, float [..., D], that x_t and its x_0 tell."""
        kept = _at((1 / self.share).sqrt(), index, noisy)
        return (kept * noisy - clean) / _at((1 / self.share - 1).sqrt(), index, noisy)

    def posterior_mean(self, clean: Tensor, noisy: Tensor, index: Tensor) -> Tensor:
        """Return the mean of q(x_{t-1} | x_t, x_0), float [..., D]."""
        of_clean = _at(self.posterior_clean, index, clean)
        return of_clean * clean + _at(self.posterior_noisy, index, noisy) * noisy

    def learned_log_variance(self, code: Tensor, index: Tensor) -> Tensor:
        """Return log-variances between the smallest and the largest sensible one.

        Args:
            code: float [..., D], a network's output: -1 the posterior's, 1 log beta; not clamped.
        """
        share = (code + 1) / 2
        largest = _at(self.betas.log(), index, code)
        return share * largest + (1 - share) * _at(self.posterior_log_variance, index, code)

    def backward(self, noisy: Tensor, index: Tensor, noise: Tensor, code: Tensor) -> Gaussian:
        """Return p(x_{t-1} | x_t) of a network that tells noise and variance.

        Args:
            noisy: float [..., D], x_t.
            noise: float [..., D], as predicted.
            code: float [..., D], see `learned_log_variance`.
        """
        mean = self.posterior_mean(self.clean(noisy, index, noise), noisy, index)
        return Gaussian(mean, self.learned_log_variance(code, index))

    def bound(self, clean: Tensor, noisy: Tensor, index: Tensor, model: Gaussian) -> Tensor:
        """Return the terms of the variational bound in bits, float [...], mean over D.

        KL(q(x_{t-1} | x_t, x_0) || p), and at step 0 the negative log-likelihood of x_0 under p
        with bins of 1/255 to either side.

        Args:
            clean: float [..., D], x_0.
            noisy: float [..., D], x_t.
            index: int64 [...], on the CPU.
            model: p(x_{t-1} | x_t), see `backward`.
        """
        log_variance = _at(self.posterior_log_variance, index, clean)
        true = Gaussian(self.posterior_mean(clean, noisy, index), log_variance)
        divergence = true.divergence(model).mean(-1)
        likelihood = model.log_likelihood(clean).mean(-1)
        first = (index == 0).to(clean.device)
        return torch.where(first, -likelihood, divergence) / math.log(2.0)


class Gaussian:
    """A diagonal Gaussian.

    Args:
        mean: float [..., D].
        log_variance: float, broadcastable to the mean.
    """

    def __init__(self, mean: Tensor, log_variance: Tensor) -> None:
        self.mean = mean
        self.log_variance = log_variance

    def sample(self, noise: Tensor) -> Tensor:
        """Return a sample, float [..., D], from standard normal (or tempered) noise."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def divergence(self, other: Gaussian) -> Tensor:
        """Return KL(self || other) of every component in nats, float [..., D]."""
        wider = other.log_variance - self.log_variance
        apart = (self.mean - other.mean).square() * (-other.log_variance).exp()
        return 0.5 * (wider - 1 + (-wider).exp() + apart)

    def log_likelihood(self, data: Tensor, bin_width: float = 2 / 255) -> Tensor:
        """Return the log-probability of every component's bin in nats, float [..., D].

        Args:
            data: float [..., D]; the first and the last bin of [-1, 1] reach to infinity.
        """
        centred = data - self.mean
        precision = (-0.5 * self.log_variance).exp()
        above = _normal_cdf(precision * (centred + bin_width / 2))
        below = _normal_cdf(precision * (centred - bin_width / 2))
        inside = _safe_log(above - below)
        inside = torch.where(data > 0.999, _safe_log(1 - below), inside)
        return torch.where(data < -0.999, _safe_log(above), inside)


def kept_timesteps(steps: int, respacing: str | int) -> list[int]:
    """Return which of `steps` timesteps are walked, ascending.

    Args:
        respacing: "100": so many, evenly from the first to the last; "10,20,30": the chain is cut
            into equal sections and each keeps so many; "ddim50": every k-th from 0, for the k that
            keeps exactly 50. "...@950": those behind 950 become one there, and a chain that no k
            fits is shortened until one does.

    Raises:
        ConfigError: not of such a form, or more than there are.

    Source: `space_timesteps` in diffusion/respace.py of LTH14/mar; the limit, of
    MAR_DiSA/diffusion/respace.py of Qinyu-Allen-Zhao/DiSA.
    """
    accepted = f"'S', 'S1,S2,...' or 'ddimS' with whole numbers that {steps} steps can give"
    text, limited, latest = str(respacing).partition("@")
    if limited and not (latest.isdecimal() and int(latest) > 0):
        raise _refused(respacing, f"{accepted}, and '@T' behind it with a whole number")
    if text.startswith("ddim") and text[4:].isdecimal():
        kept = _strided(steps, int(text[4:]), shortest=1 if limited else steps)
    else:
        kept = _sections(steps, text.split(","))
    if not kept:
        raise _refused(respacing, accepted)
    return sorted({min(step, int(latest)) for step in kept}) if limited else kept


def _strided(steps: int, count: int, shortest: int) -> list[int]:
    """Every k-th timestep of as many as possible, `steps` to `shortest`; [] if no k gives count."""
    for length in range(steps, shortest - 1, -1):
        for stride in range(1, length):
            if len(range(0, length, stride)) == count:
                return list(range(0, length, stride))
    return []


def _sections(steps: int, counts: list[str]) -> list[int]:
    """So many timesteps of each of equal sections; [] where a section has fewer."""
    if not all(count.strip().isdecimal() and int(count) > 0 for count in counts):
        return []
    kept: list[int] = []
    start = 0
    for section, count in enumerate(map(int, counts)):
        size = steps // len(counts) + (section < steps % len(counts))
        if count > size:
            return []
        kept += [start + offset for offset in _spread(size, count)]
        start += size
    return sorted(set(kept))


def _spread(size: int, count: int) -> list[int]:
    """`count` whole numbers from 0 to size - 1; summed and rounded as the released code does."""
    stride = (size - 1) / (count - 1) if count > 1 else 1.0
    offsets, position = [], 0.0
    for _ in range(count):
        offsets.append(round(position))
        position += stride
    return offsets


def _refused(respacing: str | int, accepted: str) -> ConfigError:
    return ConfigError(f"respacing={respacing!r} is not accepted: respacing must be {accepted}")


def _at(table: Tensor, index: Tensor, like: Tensor) -> Tensor:
    """Return table[index] with a last dimension of 1, in the dtype and place of `like`."""
    return table[index].to(like.dtype).to(like.device).unsqueeze(-1)


def _normal_cdf(x: Tensor) -> Tensor:
    """The tanh approximation, which the released losses are computed with."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _safe_log(x: Tensor) -> Tensor:
    return x.clamp(min=1e-12).log()
