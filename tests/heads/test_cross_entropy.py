"""The chunked cross-entropy and its gradients are those of the definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from limner.heads import cross_entropy
from limner.heads.cross_entropy import projected_cross_entropy

TOKENS, WIDTH, CODES = 23, 8, 17


def given(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, generator=rng).to(dtype).requires_grad_()
    weight = torch.randn(CODES, WIDTH, generator=rng).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(CODES, (TOKENS,), generator=rng)


@pytest.mark.parametrize("rows", [1, 5, TOKENS, 100])
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_and_gradients(rows: int, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "_CHUNK_ON_CPU", rows * CODES)
    hidden, weight, targets = given()
    counts = torch.arange(TOKENS) % 3 if weighted else torch.ones(TOKENS)
    each = functional.cross_entropy(hidden @ weight.T, targets, reduction="none")
    wanted = (each * counts).sum() / counts.sum()
    found = projected_cross_entropy(hidden, weight, targets, counts if weighted else None)
    torch.testing.assert_close(found, wanted)
    gradients = torch.autograd.grad(3 * wanted, (hidden, weight))
    for ours, theirs in zip(torch.autograd.grad(3 * found, (hidden, weight)), gradients):
        torch.testing.assert_close(ours, theirs)


def test_what_needs_no_gradient_gets_none() -> None:
    hidden, weight, targets = given()
    (wanted,) = torch.autograd.grad(functional.cross_entropy(hidden @ weight.T, targets), hidden)
    loss = projected_cross_entropy(hidden, weight.detach(), targets)
    torch.testing.assert_close(torch.autograd.grad(loss, hidden)[0], wanted)
    assert not projected_cross_entropy(hidden.detach(), weight.detach(), targets).requires_grad


def test_large_logits_do_not_overflow() -> None:
    hidden, weight, targets = given(torch.float32)
    found = projected_cross_entropy(1000 * hidden, weight, targets)
    wanted = functional.cross_entropy(1000 * hidden @ weight.T, targets)
    torch.testing.assert_close(found, wanted)
    assert torch.autograd.grad(found, hidden)[0].isfinite().all()


def test_tokens_that_do_not_count_leave_no_trace() -> None:
    hidden, weight, targets = given()
    loss = projected_cross_entropy(hidden, weight, targets, torch.zeros(TOKENS))
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, weight)[0].any()


def test_autocast_computes_products_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "_CHUNK_ON_CPU", 5 * CODES)
    hidden, weight, targets = given(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = projected_cross_entropy(hidden, weight, targets)
    assert found.dtype == torch.float32
    wanted = functional.cross_entropy(hidden @ weight.T, targets)
    torch.testing.assert_close(found, wanted, rtol=1e-2, atol=0)
    assert found.item() != wanted.item()
    gradients = torch.autograd.grad(wanted, (hidden, weight))
    for ours, theirs in zip(torch.autograd.grad(found, (hidden, weight)), gradients):
        assert ours.dtype == torch.float32
        assert (ours - theirs).abs().max() < 0.02 * theirs.abs().max()
