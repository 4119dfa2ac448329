"""Step annealing: its counts, its chains, and that heads take exactly so many steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from limner.core.errors import ConfigError
from limner.core.layout import grid
from limner.core.noise import SeededNoise
from limner.core.order import Partition
from limner.core.row import Options
from limner.core.tokens import empty
from limner.decoding import advance, generate, steps
from limner.heads.annealing import STRATEGIES, StepAnnealing
from limner.heads.categorical import CategoricalHead
from limner.heads.diffusion import DiffusionConfig, DiffusionHead, SameSteps
from limner.heads.flow import FlowConfig, FlowHead, TokenVelocity
from limner.heads.gaussian import kept_timesteps
from limner.layers.vision_transformer import StackConfig
from limner.models.mar import MAR, MARConfig

from .turns import GivenTurn

LAYOUT = grid(3, 4, kind="values")
CASES = Path(__file__).parents[1] / "fixtures" / "parity" / "disa"


@pytest.fixture(scope="module")
def model() -> MAR:
    torch.manual_seed(0)
    head = DiffusionConfig(width=16, depth=1, steps="9@950")
    stack = StackConfig(16, 1, 2)
    model = MAR(MARConfig(stack, stack, head, len(LAYOUT), 3, classes=2, buffer=2, steps=6))
    model = model.double().eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def begin(model: MAR, annealing: StepAnnealing | None, seed: int = 0) -> list:
    blank = empty(LAYOUT, width=3, dtype=torch.float64)
    condition = {"label": torch.tensor([1])}
    return model.begin(blank, condition, Options(annealing=annealing), SeededNoise(seed))


def values(rows: list) -> Tensor:
    return torch.cat([row.tokens.values for row in rows])


def counts(annealing: StepAnnealing, total: int) -> list[int]:
    return [annealing.count(step) for step in Partition(torch.arange(total)).steps]


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize("total", [2, 3, 8, 64, 256])
def test_counts_fall_from_upper_to_lower(strategy: str, total: int) -> None:
    taken = counts(StepAnnealing(50, 5, strategy), total)
    assert taken[0] == (5 if strategy == "constant" else 50) and taken[-1] == 5
    assert taken == sorted(taken, reverse=True)


def test_published_counts() -> None:
    assert counts(StepAnnealing(25, 15), 5) == [25, 22, 20, 17, 15]
    assert counts(StepAnnealing(50, 15), 4) == [50, 38, 26, 15]
    assert counts(StepAnnealing(50, 5), 1) == [50]
    assert sum(counts(StepAnnealing(50, 5), 64)) < 0.56 * 64 * 50


def test_no_step_lies_behind_the_latest() -> None:
    for count, calls in ((50, 48), (25, 24), (40, 39), (60, 58), (19, 19), (5, 5)):
        kept = kept_timesteps(1000, f"{count}@950")
        assert len(kept) == calls and kept[-1] == 950
    assert kept_timesteps(1000, "ddim300@980") == list(range(0, 900, 3))


def test_a_row_calls_the_denoiser_as_often_as_its_chains_are_long(model: MAR) -> None:
    annealing = StepAnnealing(12, 3)
    seen: list[int] = []
    hook = model.head.denoiser.register_forward_hook(lambda *_: seen.append(1))
    calls = []
    for _ in steps(model, begin(model, annealing)):
        calls.append(len(seen))
        seen.clear()
    hook.remove()
    order = model.order(empty(LAYOUT, width=3), Options(), SeededNoise(0))
    assert isinstance(order, Partition)
    chains = [len(model.head.tables(annealing.respacing(step))) for step in order.steps]
    assert calls == chains and calls[0] > calls[-1] == 3


def test_fifty_to_five_over_64_steps_take_about_half_of_the_calls() -> None:
    """Calls that the denoiser is seen to take, beside the case's own counts."""
    case = load_file(CASES / "schedule" / "io.safetensors")
    published = [
        len(kept_timesteps(1000, f"{count}@950")) for count in case["mar_50_5_linear_T64"].tolist()
    ]
    torch.manual_seed(0)
    head, stack = DiffusionConfig(width=8, depth=1), StackConfig(8, 1, 2)
    small = MAR(MARConfig(stack, stack, head, 64, 2, classes=1, buffer=1, steps=64)).eval()
    seen: list[int] = []
    small.head.denoiser.register_forward_hook(lambda *_: seen.append(1))
    calls = []
    for annealing, count in ((StepAnnealing(50, 5), 64), (StepAnnealing(50, 50), 4)):
        blank = empty(grid(8, 8, kind="values"), width=2)
        options, given = Options(annealing=annealing, steps=count), {"label": torch.tensor([0])}
        with torch.no_grad():
            generate(small, small.begin(blank, given, options, SeededNoise(0)))
        calls.append(len(seen) * 64 // count)  # the second takes as many at every step
        seen.clear()
    assert calls == [sum(published), 64 * 48] == [1681, 3072]
    assert 0.5 < calls[0] / calls[1] < 0.56


def test_the_same_number_at_both_ends_is_no_annealing(model: MAR) -> None:
    plain = values(list(generate(model, begin(model, None))))
    for annealing in (StepAnnealing(9, 9), StepAnnealing(40, 9, "constant")):
        assert torch.equal(values(list(generate(model, begin(model, annealing)))), plain)
    unlimited = values(list(generate(model, begin(model, StepAnnealing(9, 9, latest=999)))))
    assert not torch.allclose(unlimited, plain)


def test_rows_are_annealed_each_by_itself(model: MAR) -> None:
    kinds = [None, StepAnnealing(10, 4), StepAnnealing(7, 2, "cosine")]
    alone = [values(list(generate(model, begin(model, kind, i)))) for i, kind in enumerate(kinds)]
    rows = [row for index, kind in enumerate(kinds) for row in begin(model, kind, index)]
    memory = model.memory(rows)
    memory.admit(rows)
    while advance(model, rows, memory):
        pass
    torch.testing.assert_close(values(rows), torch.cat(alone), rtol=1e-9, atol=1e-9)


def test_flow_heads_are_annealed_too() -> None:
    torch.manual_seed(0)
    network = TokenVelocity(3, 4, width=8, depth=1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    head = FlowHead(3, network, FlowConfig(steps=6))
    outputs = torch.randn(2, 5, 4)
    for row, annealing in enumerate((None, StepAnnealing(9, 4))):
        turn = GivenTurn(outputs[row : row + 1], [Options(annealing=annealing)])
        for each in turn.rows:
            each.tokens = replace(each.tokens, ids=None, values=torch.zeros(1, 5, 3))
        seen: list[int] = []
        hook = network.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        head.draw(turn)
        hook.remove()
        assert len(seen) == (6 if annealing is None else 9)  # its only step is the first


@pytest.mark.parametrize("text", ["50-5", "50-5-cosine", "12-3-two-stage@900"])
def test_what_is_written_is_read(text: str) -> None:
    annealing = StepAnnealing.read(text)
    assert str(annealing).startswith(text) and StepAnnealing.read(str(annealing)) == annealing


@pytest.mark.parametrize(
    ("text", "field"),
    [("50", "annealing"), ("5-50", "upper"), ("50-0", "lower"), ("50-5-steep", "strategy")],
)
def test_impossible_annealing_is_refused(text: str, field: str) -> None:
    with pytest.raises(ConfigError, match=f"{field}="):
        StepAnnealing.read(text)


def test_heads_refuse_what_they_cannot_walk() -> None:
    diffusion = DiffusionHead(3, 4, DiffusionConfig(width=8, depth=1))
    assert isinstance(diffusion.inner_steps, SameSteps)
    StepAnnealing(50, 2).check_fits(diffusion)
    for annealing in (StepAnnealing(50, 1), StepAnnealing(2000, 5)):
        with pytest.raises(ConfigError, match="within 2 to 1000 steps"):
            annealing.check_fits(diffusion)
    flow = FlowHead(3, None, FlowConfig(times="flowar"))
    with pytest.raises(ConfigError, match="within 2 to"):
        StepAnnealing(5, 1).check_fits(flow)
    with pytest.raises(ConfigError, match="head takes no solver steps"):
        StepAnnealing(50, 5).check_fits(CategoricalHead())
