"""The selective scan is the recurrence, exactly, whatever the chunks are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.layers.selective_scan import frozen, selective_scan, step_sizes

ROWS, LENGTH, CHANNELS, GROUPS, STATE = 2, 11, 6, 3, 4


def inputs() -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    return {
        "u": normal(ROWS, LENGTH, CHANNELS),
        "steps": normal(ROWS, LENGTH, CHANNELS).abs(),
        "rates": -normal(CHANNELS, STATE).exp(),
        "keys": normal(ROWS, LENGTH, GROUPS, STATE),
        "queries": normal(ROWS, LENGTH, GROUPS, STATE),
    }


def step_by_step(
    u: Tensor, steps: Tensor, rates: Tensor, keys: Tensor, queries: Tensor
) -> tuple[Tensor, Tensor]:
    state, out = torch.zeros(ROWS, CHANNELS, STATE).double(), torch.zeros_like(u)
    for slot in range(LENGTH):
        for channel in range(CHANNELS):
            group = channel * GROUPS // CHANNELS
            step = steps[:, slot, channel, None]
            written = step * keys[:, slot, group] * u[:, slot, channel, None]
            state[:, channel] = (step * rates[channel]).exp() * state[:, channel] + written
            out[:, slot, channel] = (state[:, channel] * queries[:, slot, group]).sum(-1)
    return out, state


@pytest.mark.parametrize("chunk", [1, 2, 3, 8, 11, 32])
def test_chunks_are_the_recurrence(chunk: int) -> None:
    given = inputs()
    for found, wanted in zip(selective_scan(**given, chunk=chunk), step_by_step(**given)):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-13)


def test_skip_and_gate() -> None:
    given = inputs()
    plain, _ = selective_scan(**given)
    skip, gate = torch.randn(CHANNELS).double(), torch.randn(ROWS, LENGTH, CHANNELS).double()
    out, _ = selective_scan(**given, skip=skip, gate=gate)
    wanted = (plain + skip * given["u"]) * gate * gate.sigmoid()  # the gate comes after the skip
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("chunk", [1, 4])
def test_a_carried_state_goes_on(chunk: int) -> None:
    given = inputs()
    whole, last = selective_scan(**given, chunk=chunk)
    parts: list[Tensor] = []
    state = None
    for part in (slice(0, 3), slice(3, LENGTH)):
        cut = {name: x if name == "rates" else x[:, part] for name, x in given.items()}
        out, state = selective_scan(**cut, state=state, chunk=chunk)
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-13)
    torch.testing.assert_close(state, last, rtol=0, atol=1e-13)


@pytest.mark.parametrize("chunk", [1, 4])
def test_gradients(chunk: int) -> None:
    given = [x[:, :5] if x.dim() > 2 else x for x in inputs().values()]
    for x in given:
        x.requires_grad_()
    assert torch.autograd.gradcheck(lambda *x: selective_scan(*x, chunk=chunk), given)


def test_later_slots_change_no_earlier_output() -> None:
    given = inputs()
    before, _ = selective_scan(**given, chunk=4)
    given["u"] = given["u"].clone()
    given["u"][:, 6] += 1
    after, _ = selective_scan(**given, chunk=4)
    assert torch.equal(before[:, :6], after[:, :6]) and not torch.equal(before[:, 6], after[:, 6])


def test_frozen_steps_leave_the_state_as_it_is() -> None:
    given = inputs()
    counts = torch.tensor([4, 9])
    _, state = selective_scan(**{**given, "steps": frozen(given["steps"], counts)})
    for row, count in enumerate(counts.tolist()):
        cut = {n: x if n == "rates" else x[row : row + 1, :count] for n, x in given.items()}
        assert torch.equal(selective_scan(**cut)[1][0], state[row])


def test_step_sizes_are_computed_in_float32() -> None:
    steps = step_sizes(torch.zeros(1, dtype=torch.bfloat16), torch.tensor([0.3]))
    torch.testing.assert_close(steps, torch.tensor([1 + torch.e**0.3]).log())
