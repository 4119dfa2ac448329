"""Mamba's layers against their equations, in one pass and in many."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import ConfigError
from limner.core.memory import PassReading
from limner.layers import fused_scans, mamba
from limner.layers.mamba import STEPS, Mamba, Mamba2, state_space
from limner.layers.selective_scan import selective_scan

WIDTH, LENGTH = 8, 9


def layer(kind: str) -> Mamba | Mamba2:
    torch.manual_seed(0)
    if kind == "Mamba":
        made: Mamba | Mamba2 = Mamba(WIDTH, 0, state=3, rank=2)
    else:
        made = Mamba2(WIDTH, 0, state=3, head_width=4, groups=2, kernel=3)
    torch.nn.init.normal_(made.skip)
    return made.double()


every_kind = pytest.mark.parametrize("kind", ["Mamba", "Mamba2"])


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, LENGTH, WIDTH, generator=torch.Generator().manual_seed(1)).double()


@torch.no_grad()
def test_mamba2_follows_its_equations(x: Tensor) -> None:
    made = layer("Mamba2")
    assert isinstance(made, Mamba2)
    inner, heads, groups, size, columns = 16, 4, 2, 3, 4
    gate, mixed, raw = (x @ made.into.weight.T).split([inner, inner + 2 * groups * size, heads], -1)
    padded = functional.pad(mixed, (0, 0, 2, 0))
    convolved = made.convolution.bias + sum(
        made.convolution.weight[:, tap] * padded[:, tap : tap + LENGTH] for tap in range(3)
    )
    values, keys, queries = functional.silu(convolved).split(
        [inner, groups * size, groups * size], dim=-1
    )
    steps = (1 + (raw + made.step_bias).exp()).log()
    out = torch.zeros(2, LENGTH, heads, columns).double()
    for head in range(heads):
        group = slice(head // 2 * size, (head // 2 + 1) * size)
        own = slice(head * columns, (head + 1) * columns)
        state = torch.zeros(2, columns, size).double()
        for slot in range(LENGTH):
            step = steps[:, slot, head, None, None]
            written = values[:, slot, own, None] * keys[:, slot, None, group]
            state = (-step * made.log_rates[head].exp()).exp() * state + step * written
            read = (state @ queries[:, slot, group, None]).squeeze(-1)
            out[:, slot, head] = read + made.skip[head] * values[:, slot, own]
    gated = out.flatten(2) * gate * gate.sigmoid()
    grouped = gated.unflatten(-1, (groups, -1))
    normed = (grouped / (grouped.square().mean(-1, keepdim=True) + 1e-5).sqrt()).flatten(-2)
    wanted = (normed * made.norm.weight) @ made.out.weight.T
    torch.testing.assert_close(made(x, PassReading()), wanted, rtol=0, atol=1e-12)


@every_kind
@pytest.mark.parametrize("cuts", [[1] * LENGTH, [4, 5], [1, 2, 6]])
@torch.no_grad()
def test_many_passes_equal_one(kind: str, cuts: list[int], x: Tensor) -> None:
    made = layer(kind)
    state, outs = None, []
    for part in x.split(cuts, dim=1):
        out, state = made.recurrence(part, state)
        outs.append(out)
    whole, last = made.recurrence(x)
    torch.testing.assert_close(torch.cat(outs, dim=1), whole, rtol=0, atol=1e-13)
    assert state is not None
    for found, wanted in zip(state, last, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-13)


@every_kind
@torch.no_grad()
def test_padding_leaves_the_state_as_it_is(kind: str, x: Tensor) -> None:
    made = layer(kind)
    _, begun = made.recurrence(x.flip(1))
    counts = torch.tensor([1, 6])
    out, state = made.recurrence(x, begun, counts)
    for row, count in enumerate(counts.tolist()):
        before = tuple(part[row : row + 1] for part in begun)
        wanted, last = made.recurrence(x[row : row + 1, :count], before)
        torch.testing.assert_close(out[row : row + 1, :count], wanted, rtol=0, atol=1e-13)
        for found, part in zip(state, last, strict=True):
            torch.testing.assert_close(found[row : row + 1], part, rtol=0, atol=1e-13)


@every_kind
@torch.no_grad()
def test_the_state_does_not_grow(kind: str, x: Tensor) -> None:
    made = layer(kind)
    shapes = {tuple(part.shape for part in made.recurrence(x[:, :n])[1]) for n in (1, 3, LENGTH)}
    assert len(shapes) == 1


@every_kind
@torch.no_grad()
def test_later_slots_change_no_earlier_output(kind: str, x: Tensor) -> None:
    made = layer(kind)
    before = made(x, PassReading())
    x[:, 5] += 1
    after = made(x, PassReading())
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5], after[:, 5])


@every_kind
def test_training_begins_with_steps_of_the_published_sizes(kind: str) -> None:
    torch.manual_seed(0)
    made = Mamba(64, 0) if kind == "Mamba" else Mamba2(64, 0, head_width=1)
    bias = made.steps.bias if isinstance(made, Mamba) else made.step_bias
    steps = functional.softplus(bias)
    assert STEPS[0] * 0.99 <= steps.min() and steps.max() <= STEPS[1] * 1.01
    rates = made.log_rates.exp()
    assert rates.min() >= 0.99 and rates.max() <= 16.01


@pytest.mark.parametrize(("field", "value"), [("head_width", 5), ("groups", 3)])
def test_sizes_that_do_not_fit_are_named(field: str, value: int) -> None:
    with pytest.raises(ConfigError, match=field):
        Mamba2(WIDTH, 0, **{"head_width": 4, field: value})


def test_bfloat16_is_as_near_as_its_digits(x: Tensor) -> None:
    made, x = layer("Mamba2").float(), x.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, state = made.recurrence(x)
    assert found.dtype == torch.bfloat16 and state[1].dtype == torch.float32
    torch.testing.assert_close(found.float(), made.recurrence(x)[0], rtol=0.1, atol=0.05)


def random_scan(heads: int, *widths: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(2)
    x = torch.randn(2, LENGTH, heads, *widths, generator=rng)
    steps = torch.rand(2, LENGTH, heads, generator=rng)
    keys, queries = torch.randn(2, 2, LENGTH, 2, 3, generator=rng)
    return [x, steps, keys, queries]


def test_mamba_ssm_is_given_what_it_takes_for_the_state_space(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Shapes and order of arguments as `mamba_chunk_scan_combined` has them."""
    x, steps, keys, queries = random_scan(4, 5)
    rates, state = -torch.rand(4) - 0.1, torch.randn(2, 4, 3, 5)
    wanted = state_space(x, steps, rates, keys, queries, state)

    def kernel(
        x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk_size: int, **named: Any
    ) -> tuple[Tensor, Tensor]:
        assert named.keys() == {"initial_states", "return_final_states"} and chunk_size == 256
        held = named["initial_states"]  # [batch, heads, head width, state]
        out = torch.empty_like(x)
        for slot in range(x.shape[1]):
            key, query = (y[:, slot].repeat_interleave(2, 1).unsqueeze(-2) for y in (B, C))
            dts = dt[:, slot, :, None, None]
            held = (dts * A[:, None, None]).exp() * held + dts * x[:, slot].unsqueeze(-1) * key
            out[:, slot] = (held * query).sum(-1)
        return out, held

    monkeypatch.setattr(mamba, "state_space_kernel", lambda x: kernel)
    for found, each in zip(state_space(x, steps, rates, keys, queries, state), wanted, strict=True):
        torch.testing.assert_close(found, each)


def test_mamba_ssm_is_given_what_it_takes_for_the_selective_scan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Shapes and order of arguments as `selective_scan_fn` has them."""
    u, steps, keys, queries = random_scan(4)
    rates, skip = -torch.rand(4, 3) - 0.1, torch.randn(4)
    wanted = selective_scan(u, steps, rates, keys, queries, skip)

    def kernel(
        u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, return_last_state: bool
    ) -> tuple[Tensor, Tensor]:
        assert return_last_state
        held, outs = torch.zeros(2, 4, 3), []
        for slot in range(u.shape[-1]):
            key, query = (y[..., slot].repeat_interleave(2, 1) for y in (B, C))
            step = delta[..., slot].unsqueeze(-1)
            held = (step * A).exp() * held + step * u[..., slot].unsqueeze(-1) * key
            outs.append((held * query).sum(-1))
        return torch.stack(outs, dim=-1), held

    monkeypatch.setattr("limner.layers.selective_scan.selective_scan_kernel", lambda u: kernel)
    found = selective_scan(u, steps, rates, keys, queries, skip)
    for each, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(each, other)


def test_without_a_gpu_no_kernel_is_asked_for() -> None:
    assert fused_scans.state_space_kernel(torch.zeros(1, dtype=torch.bfloat16)) is None
    assert fused_scans.selective_scan_kernel(torch.zeros(1)) is None
