"""Diffusion head: a small denoiser draws each token's vector from the network's output for it.

Li et al., "Autoregressive Image Generation without Vector Quantization", arXiv:2406.11838; facts
from models/diffloss.py and diffusion/ of LTH14/mar. The network runs once a step; the denoiser then
walks a respaced chain for all tokens of the step at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from limner.core.errors import check
from limner.core.guidance import mix
from limner.core.head import Drawn, LossBreakdown, Outputs, Turn
from limner.core.order import Step
from limner.core.row import Row
from limner.heads.annealing import StepAnnealing
from limner.heads.gaussian import Gaussian, GaussianTables, gaussian_tables, kept_timesteps
from limner.layers.denoiser import Denoiser
from limner.layers.linear import packed

InnerSteps = Callable[[Row, Step], str]
"""Which denoising steps a row walks at one of its steps, see `gaussian.kept_timesteps`."""

NoiseSource = Callable[[str, int], Tensor]
"""(purpose, inner step) -> standard normal noise, float64 [R, n, D]."""

Watch = Callable[[int, Gaussian, Tensor], None]
"""(index of a step, 0 the last, what it draws from, the noisy tokens that it begins with)."""

Kernel = Callable[[Tensor, int], Gaussian]
"""(noisy tokens, number of a walk's step, 0 the noisiest) -> what the next ones are drawn from."""

EVALUATION_SEED = 0


@dataclass(frozen=True)
class SameSteps:
    """The same denoising steps at every step.

    Args:
        respacing: see `gaussian.kept_timesteps`.
    """

    respacing: str

    def __call__(self, row: Row, step: Step) -> str:
        """Return the respacing."""
        return self.respacing


@dataclass(frozen=True)
class LastStep:
    """What the last denoising step of every token draws from, and what led there.

    Args:
        mean: float [R, n, D].
        deviation: float [R, n, D], times the temperature; samplers may leave this noise out.
        log_deviations: float [R, n, D], logarithms of the deviations of all steps before, added up,
            without the temperature.
    """

    mean: Tensor
    deviation: Tensor
    log_deviations: Tensor

    def record(
        self, rows: list[int], temperature: Tensor, index: int, before: Gaussian, noisy: Tensor
    ) -> None:
        """Take note of a step of some rows, of temperature [rows]; see `Watch`."""
        logarithm = 0.5 * before.log_variance
        if index > 0:
            self.log_deviations[rows] += logarithm
        else:
            self.mean[rows] = before.mean
            self.deviation[rows] = logarithm.exp() * temperature.to(logarithm).reshape(-1, 1, 1)

    def fields(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return all three tensors."""
        return self.mean, self.deviation, self.log_deviations

    def to(self, like: Tensor) -> LastStep:
        """Return the same in the dtype and place of another tensor."""
        return LastStep(*(field.to(like) for field in self.fields()))


@dataclass(frozen=True)
class DiffusionConfig:
    """Configuration of a diffusion head.

    Args:
        width: of the denoiser.
        depth: blocks of the denoiser.
        steps: denoising steps in sampling, see `gaussian.kept_timesteps`. "100" begins at the end
            of the full chain, where a cosine chain has hardly any data left and enlarges the
            network's errors some hundred times; "ddim50" begins earlier, which a head that was
            trained for minutes needs.
        schedule: of the noise.
        chain: T, steps of the full chain.
        repeats: times and noises that every token is taught with per training step.
    """

    width: int = 1024
    depth: int = 6
    steps: str = "100"
    schedule: Literal["cosine", "linear"] = "cosine"
    chain: int = 1000
    repeats: int = 4

    def __post_init__(self) -> None:
        for name in ("width", "depth", "chain", "repeats"):
            check(getattr(self, name) > 0, name, getattr(self, name), "1 or more")
        kept_timesteps(self.chain, self.steps)


class DiffusionHead(nn.Module):
    """Tells noise and variance of a noisy token, given the network's output for it.

    Args:
        token: D, width of a token.
        condition: Z, width of the network's outputs.
        config: see `DiffusionConfig`.

    Attributes:
        inner_steps: how many denoising steps a row takes that is not annealed; by default the
            configuration's number.
        solver_steps: least and most that an annealed row may take.
    """

    def __init__(self, token: int, condition: int, config: DiffusionConfig) -> None:
        super().__init__()
        self.token = token
        self.config = config
        self.denoiser = Denoiser(token, condition, 2 * token, config.width, config.depth)
        self.inner_steps: InnerSteps = SameSteps(config.steps)
        self.solver_steps = (2, config.chain)

    def tables(self, respacing: str = "") -> GaussianTables:
        """Return the chain, or some steps of it."""
        return gaussian_tables(self.config.schedule, self.config.chain, respacing)

    def predict(self, noisy: Tensor, time: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return the noise in a noisy token and the code of its variance, float [..., D] each.

        Args:
            noisy: float [..., D].
            time: int64 [...] or [], step of the full chain.
            condition: float [..., W], `denoiser.condition` of the network's outputs.
        """
        guide = self.denoiser.time(time.to(condition.device)) + condition
        told = self.denoiser(noisy.to(condition.dtype), guide).to(noisy.dtype)
        noise, code = told.chunk(2, dim=-1)
        return noise, code

    def loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        rng: torch.Generator | None = None,
        weight: Tensor | None = None,
    ) -> LossBreakdown:
        """Return the loss at random times and noises.

        Args:
            outputs: float [B, n, Z].
            targets: float [B, n, D].
            rng: None: a fixed seed.
            weight: [B, n], which tokens count; None: all alike.
        """
        rng = rng or torch.Generator().manual_seed(EVALUATION_SEED)
        count = self.config.repeats * targets.shape[:-1].numel()
        time = torch.randint(self.config.chain, (count,), generator=rng, device=rng.device)
        noise = torch.randn(count, self.token, generator=rng, device=rng.device)
        return self.loss_at(outputs, targets, time, noise, weight)

    def loss_at(
        self,
        outputs: Tensor,
        targets: Tensor,
        time: Tensor,
        noise: Tensor,
        weight: Tensor | None = None,
    ) -> LossBreakdown:
        """Return the loss at given times and noises; its parts are "mse" and "vb" (bits).

        Args:
            outputs: float [B, n, Z].
            targets: float [B, n, D].
            time: int64 [repeats * B * n], all tokens for the first repetition, then again.
            noise: float [repeats * B * n, D].
            weight: [B, n], which tokens count; None: all alike.
        """
        mse, bound = self.terms(outputs, targets, time, noise)
        if weight is None:
            share = torch.full_like(mse, 1 / len(mse))
        else:
            share = weight.to(mse).flatten().repeat(len(mse) // weight.numel())
            share = share / share.sum().clamp(min=1e-12)
        parts = {"mse": (mse * share).sum(), "vb": (bound * share).sum()}
        total = parts["mse"] + parts["vb"]
        return LossBreakdown(total, {name: part.detach() for name, part in parts.items()})

    def terms(
        self, outputs: Tensor, targets: Tensor, time: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the squared error of the noise and the bound in bits, float [repeats * B * n].

        The bound teaches the variance alone: it sees the predicted noise as given.

        Args: as of `loss_at`.
        """
        clean = targets.flatten(0, 1).to(_wide(targets.dtype))
        repeats = len(time) // len(clean)
        clean = clean.repeat(repeats, 1)
        condition = self.denoiser.condition(outputs).flatten(0, 1).repeat(repeats, 1)
        tables, index, noise = self.tables(), time.cpu(), noise.to(clean)
        noisy = tables.add_noise(clean, index, noise)
        told, code = self.predict(noisy, time, condition)
        model = tables.backward(noisy, index, told.detach(), code)
        return (noise - told).square().mean(-1), tables.bound(clean, noisy, index, model)

    def draw(self, turn: Turn) -> Drawn:
        """Draw every token's vector; rows that walk the same denoising steps do so together."""
        return Drawn(values=self._walk(turn, watched=False)[0])

    def draw_watched(self, turn: Turn) -> tuple[Tensor, LastStep]:
        """Draw, and tell what every token's last denoising step drew from: float [R, n, D]."""
        values, last = self._walk(turn, watched=True)
        assert last is not None
        return values, last

    def _walk(self, turn: Turn, watched: bool) -> tuple[Tensor, LastStep | None]:
        outputs = turn.evaluate()
        temperature = torch.tensor([row.options.temperature for row in turn.rows])
        kept = torch.tensor([float(row.options.last_noise) for row in turn.rows])
        walks: dict[str, list[int]] = {}
        for index, (row, step) in enumerate(zip(turn.rows, turn.steps, strict=True)):
            walks.setdefault(self.respacing(row, step), []).append(index)
        shape, dtype = (*turn.tokens.shape, self.token), _wide(outputs.lead.dtype)
        values = outputs.lead.new_empty(shape, dtype=dtype)
        last = LastStep(*(torch.zeros_like(values) for _ in range(3))) if watched else None
        for respacing, rows in walks.items():

            def noise(purpose: str, inner: int, rows: list[int] = rows) -> Tensor:
                return turn.noise("normal", purpose, inner, (self.token,))[rows]

            null = None if outputs.null is None else outputs.null[rows]
            part = Outputs(outputs.lead[rows], null, outputs.scales[rows])
            warmth = torch.stack([temperature[rows], (temperature * kept)[rows]])
            watch = None if last is None else partial(last.record, rows, temperature[rows])
            values[rows] = self.sample(part, warmth, respacing, noise, watch)
        return values, last

    def respacing(self, row: Row, step: Step) -> str:
        """Return which denoising steps a row walks, see `gaussian.kept_timesteps`."""
        annealing: StepAnnealing | None = row.options.annealing
        return self.inner_steps(row, step) if annealing is None else annealing.respacing(step)

    def sample(
        self,
        outputs: Outputs,
        temperature: Tensor,
        respacing: str,
        noise: NoiseSource,
        watch: Watch | None = None,
    ) -> Tensor:
        """Return vectors for the network's outputs, float [R, n, D]: ancestral sampling.

        Args:
            outputs: lead and null outputs [R, n, Z], and guidance scales [R].
            temperature: float [R], factor on the noise of every step but not on the first noise;
                the last step adds none. Or float [2, R], the factor of the last step behind it.
            respacing: see `gaussian.kept_timesteps`.
            noise: "start", then "solver" for every step that adds noise.
            watch: told of every step.
        """
        kernel = self.kernel(outputs, respacing)
        x = noise("start", 0).to(outputs.lead.device, _wide(outputs.lead.dtype))
        if temperature.dim() == 1:
            temperature = torch.stack([temperature, torch.zeros_like(temperature)])
        with_last = bool(temperature[1].any())
        warmth, last_warmth = temperature.to(x).reshape(2, -1, 1, 1)
        count = len(self.tables(respacing))
        with packed(self.denoiser, x.shape[:-1].numel()):
            for inner in range(count):
                index, before = count - 1 - inner, kernel(x, inner)
                if watch is not None:
                    watch(index, before, x)
                if index > 0:
                    x = before.sample(warmth * noise("solver", inner).to(x))
                elif with_last:
                    x = before.sample(last_warmth * noise("solver", inner).to(x))
                else:
                    x = before.mean
        return x

    def kernel(self, outputs: Outputs, respacing: str) -> Kernel:
        """Return what the steps of a walk draw from, under the network's outputs.

        Args: as of `sample`.
        """
        tables = self.tables(respacing)
        condition = self.denoiser.condition(outputs.lead)
        null = None if outputs.null is None else self.denoiser.condition(outputs.null)

        def kernel(x: Tensor, inner: int) -> Gaussian:
            index = torch.tensor(len(tables) - 1 - inner)
            time = tables.timesteps[index]
            return tables.backward(x, index, *self.guided(x, time, condition, null, outputs.scales))

        return kernel

    def guided(
        self, noisy: Tensor, time: Tensor, condition: Tensor, null: Tensor | None, scales: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return guided noise, and the variance code of the lead alone.

        Lead and null read the lead's token, so the null row needs no token of its own.

        Args:
            noisy, time, condition: see `predict`.
            null: as `condition`, of the null outputs; None: no guidance.
            scales: float [R]; NaN: off.
        """
        if null is None:
            return self.predict(noisy, time, condition)
        told, code = self.predict(torch.cat([noisy, noisy]), time, torch.cat([condition, null]))
        lead, without = told.chunk(2)
        return mix(lead, without, scales), code.chunk(2)[0]


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Diffusion is computed in float32, or in float64 where the network is."""
    return torch.promote_types(dtype, torch.float32)
