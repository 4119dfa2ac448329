"""Linear attention in chunks is the recurrence, exactly, whatever the chunks are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.layers.linear_attention import decaying_attention

ROWS, LENGTH, GROUPS, HEADS, KEYS, VALUES = 2, 13, 2, 4, 3, 5


def inputs(length: int = LENGTH, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, ROWS, length, GROUPS, KEYS, generator=rng, dtype=torch.float64)
    value = torch.randn(ROWS, length, HEADS, VALUES, generator=rng, dtype=torch.float64)
    decay = -torch.rand(ROWS, length, HEADS, generator=rng, dtype=torch.float64)
    return [x.to(dtype) for x in (query, key, value, decay)]


def step_by_step(
    query: Tensor, key: Tensor, value: Tensor, decay: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    state = torch.zeros(ROWS, HEADS, KEYS, VALUES).double() if state is None else state.clone()
    out = torch.empty_like(value)
    for slot in range(value.shape[1]):
        for head in range(HEADS):
            group = head * GROUPS // HEADS
            written = torch.einsum("rk,rv->rkv", key[:, slot, group], value[:, slot, head])
            kept = decay[:, slot, head].exp()[:, None, None] * state[:, head]
            state[:, head] = kept + written
            out[:, slot, head] = torch.einsum("rk,rkv->rv", query[:, slot, group], state[:, head])
    return out, state


@pytest.mark.parametrize("chunk", [1, 2, 4, 5, 13, 64])
def test_chunks_are_the_recurrence(chunk: int) -> None:
    given = inputs()
    for found, wanted in zip(decaying_attention(*given, chunk=chunk), step_by_step(*given)):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("cut", [1, 6, 12])
def test_a_carried_state_goes_on_where_the_first_part_ended(cut: int) -> None:
    given = inputs()
    whole, last = decaying_attention(*given, chunk=4)
    first, state = decaying_attention(*(x[:, :cut] for x in given), chunk=4)
    second, state = decaying_attention(*(x[:, cut:] for x in given), state, chunk=4)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=0, atol=1e-13)
    torch.testing.assert_close(state, last, rtol=0, atol=1e-13)


def test_gradients_are_those_of_the_recurrence() -> None:
    given = [x.requires_grad_() for x in inputs(5)]
    state = torch.randn(ROWS, HEADS, KEYS, VALUES, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: decaying_attention(*x, chunk=2), (*given, state))


def test_strong_decay_neither_overflows_nor_spoils_gradients() -> None:
    query, key, value, decay = inputs(dtype=torch.float32)
    decay = (decay * 1000).requires_grad_()
    out, state = decaying_attention(query, key, value, decay, chunk=8)
    (out.sum() + state.sum()).backward()
    wanted, _ = step_by_step(*(x.double() for x in (query, key, value, decay.detach())))
    torch.testing.assert_close(out.detach().double(), wanted, rtol=1e-5, atol=1e-5)
    assert decay.grad is not None and bool(decay.grad.isfinite().all())


def test_no_decay_is_plain_linear_attention() -> None:
    query, key, value, decay = inputs()
    out, _ = decaying_attention(query, key, value, torch.zeros_like(decay), chunk=4)
    scores = torch.einsum("ragk,rbgk->rgab", query, key).tril()
    grouped = value.unflatten(2, (GROUPS, -1))
    wanted = torch.einsum("rgab,rbgpv->ragpv", scores, grouped).flatten(2, 3)
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-12)


def test_products_stay_in_float32_under_autocast() -> None:
    given = inputs(dtype=torch.float32)
    plain, _ = decaying_attention(*given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under, state = decaying_attention(*given)
    assert torch.equal(under, plain) and state.dtype == torch.float32
