"""Replays of DiSA: step counts and chains, annealed runs of MAR, the flow solvers with guidance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from limner.core.guidance import mix
from limner.core.head import Outputs
from limner.core.layout import Layout, grid
from limner.core.noise import ReplayedNoise
from limner.core.order import Partition, Step
from limner.core.row import Options, Row
from limner.core.tokens import empty
from limner.decoding import steps
from limner.heads.annealing import StepAnnealing
from limner.heads.diffusion import SameSteps
from limner.heads.flow import FlowConfig, FlowHead
from limner.heads.gaussian import gaussian_tables, kept_timesteps
from limner.heads.guidance import schedule
from limner.heads.solvers import SOLVERS, TIMES, flowar_times
from limner.hub.official import mar as official
from limner.layers.flow_transformer import TokenPlaces
from limner.layers.patchify import unpatchify
from limner.models.mar import MAR
from limner.verify.case import Case
from limner.verify.compare import SAMPLING_RUN
from limner.verify.registry import replay

STRATEGIES = ("linear", "cosine", "constant", "two-stage")


@replay("disa/schedule*")
def schedules(case: Case) -> None:
    """Solver steps and guidance scales by step of drawing, and the chains that are walked."""
    hyper = case.hyper
    for strategy in STRATEGIES:
        written = strategy.replace("-", "_")
        for name, run in case.match(f"mar_{{upper}}_{{lower}}_{written}_T{{T}}"):
            case.check(name, _counts(StepAnnealing(run["upper"], run["lower"], strategy), run["T"]))
    for system, total in (("flowar", len(hyper["flowar_scales"])), ("xar", hyper["xar_cells"])):
        for name, run in case.match(f"{system}_{{upper}}_{{lower}}"):
            case.check(name, _counts(StepAnnealing(run["upper"], run["lower"]), total))
        for name, run in case.match(f"{system}_cfg_{{scale}}"):
            case.check(name, _scales(run["scale"], total))
    for name, run in case.match("flowar_grid_{steps}"):
        case.check(name, flowar_times(run["steps"])[:-1])
    chain, noise = hyper["diffusion_steps"], hyper["noise_schedule"]
    for name, run in case.match("kept_{steps}"):
        kept = kept_timesteps(chain, f"{run['steps']}@{hyper['clip_timesteps']}")
        case.check(name, torch.tensor(kept))
    for name, run in case.match("betas_{steps}"):
        respacing = f"{run['steps']}@{hyper['clip_timesteps']}"
        case.check(name, gaussian_tables(noise, chain, respacing).betas, tolerance=1e-12)
    for name, run in case.match("kept_ddim{steps}"):
        kept = kept_timesteps(chain, f"ddim{run['steps']}@{hyper['ddim_clip_timesteps']}")
        case.check(name, torch.tensor(kept))


def _steps(total: int) -> tuple[Step, ...]:
    return Partition(torch.arange(total)).steps


def _counts(annealing: StepAnnealing, total: int) -> Tensor:
    return torch.tensor([annealing.count(step) for step in _steps(total)])


def _scales(scale: float, total: int) -> Tensor:
    row = Row(empty(grid(1, total), width=1), Partition(torch.arange(total)), ReplayedNoise({}), {})
    scales = [schedule("ramp", scale).scale(row, step) for step in _steps(total)]
    return torch.tensor([1.0 if scale is None else scale for scale in scales])


@replay("disa/mar-sampling*")
@torch.no_grad()
def mar_sampling(case: Case) -> None:
    """Whole annealed runs with given orders and noise, and the head's calls at every step."""
    hyper = case.hyper
    named = {"num_sampling_steps": str(hyper["diff_upper_steps"]), "diffusion_batch_mul": 1}
    config = official.mar_config({**hyper, **named, "label_drop_prob": 0.0})
    model: MAR = official.MAR.build(config, case.weights())
    side = round(config.tokens**0.5)
    for run, arguments in hyper["runs"].items():
        options = _options(hyper, arguments)
        model.head.inner_steps = SameSteps(str(hyper["diff_upper_steps"]))
        values, calls = _draw(case, run, model, options, grid(side, side, kind="values"))
        case.check(f"{run}_calls", torch.tensor(calls))
        latents = unpatchify(values, side, side, hyper["patch_size"])
        case.check(f"{run}_latents", latents, SAMPLING_RUN)


def _options(hyper: Mapping[str, Any], arguments: Mapping[str, Any]) -> Options:
    """Return our options of a run; the sampler "default" is not annealed."""
    options = official.sampling_options(arguments)
    if arguments["diff_sampler"] != "DiSA":
        return options
    bounds = hyper["diff_upper_steps"], hyper["diff_lower_steps"]
    strategy = arguments["diff_annealing_strategy"]
    annealing = StepAnnealing(*bounds, strategy, hyper["clip_timesteps"])
    return replace(options, annealing=annealing)


def _draw(
    case: Case, run: str, model: MAR, options: Options, layout: Layout
) -> tuple[Tensor, list[int]]:
    """Return what a run draws, float [B, N, D], and the calls of the denoiser at each step."""
    labels, rows = case.input(f"{run}_labels"), []
    given = {"order": f"{run}_orders", "start": f"{run}_init_noise", "solver": f"{run}_step_noise"}
    for index in range(len(labels)):
        noise = case.noise(given, index, per_inner=("solver",))
        noise.given["order"] = noise.given["order"].argsort()
        blank = empty(layout, width=model.config.token_width)
        rows += model.begin(blank, {"label": labels[index : index + 1]}, options, noise)
    seen: list[int] = []
    hook = model.head.denoiser.register_forward_hook(lambda *_: seen.append(1))
    calls = []
    for _ in steps(model, rows):
        calls.append(len(seen))
        seen.clear()
    hook.remove()
    leads = [row for row in rows if row.lead is None]
    values = torch.cat([row.tokens.values for row in leads if row.tokens.values is not None])
    return values, calls


class _ToyVelocity(nn.Module):
    """tanh(x w + z u + t tb), the case's stand-in for a network."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.w, self.u, self.tb = case.input("w"), case.input("u"), case.input("tb")

    def forward(
        self, noisy: Tensor, time: Tensor, condition: Tensor, places: TokenPlaces | None = None
    ) -> Tensor:
        return torch.tanh(noisy @ self.w + condition @ self.u + time.unsqueeze(-1) * self.tb)


class _Turn:
    """A turn of rows that draw all their tokens now; see `limner.core.head.Turn`."""

    def __init__(self, outputs: Outputs, start: Tensor, noises: Tensor) -> None:
        rows, count, width = start.shape
        order = Partition(torch.zeros(count, dtype=torch.int64))
        blank = empty(grid(1, count, kind="values"), width=width, dtype=start.dtype)
        self.rows: Sequence[Row] = [Row(blank, order, ReplayedNoise({}), {})] * rows
        self.steps: Sequence[Step] = [order.steps[0]] * rows
        self.tokens = torch.arange(count).expand(rows, count)
        self.device = start.device
        self.outputs, self.start, self.noises = outputs, start, noises

    def evaluate(self, draft: Tensor | None = None, level: Tensor | None = None) -> Outputs:
        return self.outputs

    def noise(self, kind: str, purpose: str, inner: int = 0, shape: tuple[int, ...] = ()) -> Tensor:
        return self.start if purpose == "start" else self.noises[inner]


@replay("disa/flow-samplers*")
@torch.no_grad()
def flow_samplers(case: Case) -> None:
    """The flow head's solvers, deterministic and stochastic, with guidance in an interval."""
    for index, run in enumerate(case.hyper["runs"]):
        limit = run["guidance_high"]
        if f"euler{index}" in case:
            flow = FlowConfig(run["num_steps"], "euler", "flowar", limit, 1.0, whole_clock=False)
            _check_flow(case, f"euler{index}", flow, run["cfg"])
        if f"em{index}" in case:
            flow = FlowConfig(run["num_steps"], "euler-maruyama", "late", limit, 1.0, False)
            _check_flow(case, f"em{index}", flow, run["cfg"])


def _check_flow(case: Case, name: str, flow: FlowConfig, scale: float) -> None:
    """Draw by the head; of guided runs the case also tells where the null rows end."""
    network, start, outputs = _ToyVelocity(case), case.input("x").double(), case.input("z")
    stochastic = flow.solver == "euler-maruyama"
    noises = case.input(f"{name}_noise") if stochastic else start.unsqueeze(0)
    guided = scale > 1
    count = len(start) // 2 if guided else len(start)
    given = Outputs(
        outputs[:count],
        outputs[count:] if guided else None,
        torch.full((count,), scale if guided else torch.nan),
    )
    turn = _Turn(given, start[:count], noises[:, :count])
    drawn = FlowHead(start.shape[2], network, flow).draw(turn).values
    assert drawn is not None
    if guided:
        null = _null_rows(network, flow, start, given, noises)
        drawn = torch.cat([drawn, null])
    case.check(name, drawn, tolerance=1e-5)


def _null_rows(
    network: nn.Module, flow: FlowConfig, start: Tensor, given: Outputs, noises: Tensor
) -> Tensor:
    """Return where null rows end, which the product has no use for and does not walk.

    Outside of the guided interval they walk by themselves, inside they take the lead's drift.
    """
    assert given.null is not None
    conditions, count = torch.cat([given.lead, given.null]), len(given.lead)

    def velocity(x: Tensor, time: Tensor) -> Tensor:
        now = float(time[0])
        lead, null = x[:count], x[count:]
        guided = now <= flow.guided_from
        told: Tensor = network(
            (torch.cat([lead, lead]) if guided else x).float(),
            time.float().unsqueeze(-1),
            conditions,
        )
        if not guided:
            return told.double()
        with_class, without = told.double().chunk(2)
        mixed = mix(with_class, without, given.scales)
        # the stochastic drift is (2 - t) v + x, of the lead's x here
        stray = (lead - null) / (2 - now) if flow.solver == "euler-maruyama" else 0.0
        return torch.cat([mixed, mixed + stray])

    times = TIMES[flow.times](flow.steps).unsqueeze(1).expand(-1, len(start))
    return SOLVERS[flow.solver](velocity, start, times, lambda inner: noises[inner])[count:]
