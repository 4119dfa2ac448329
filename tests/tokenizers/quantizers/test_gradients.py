"""How gradients pass a quantiser."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cosine_similarity

from limner.tokenizers.quantizers.gradients import rotated, straight_through


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), width=st.integers(2, 8))
def test_the_rotation_keeps_angles_and_stretches_alike(seed: int, width: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    vectors, codes, upstream = (
        torch.randn(5, width, generator=rng, dtype=torch.float64) for _ in range(3)
    )
    vectors.requires_grad_()
    values = rotated(vectors, codes)
    torch.testing.assert_close(values.detach(), codes)
    (gradient,) = torch.autograd.grad(values, vectors, upstream)
    stretch = codes.norm(dim=1) / vectors.detach().norm(dim=1)
    torch.testing.assert_close(gradient.norm(dim=1), stretch * upstream.norm(dim=1))
    torch.testing.assert_close(
        cosine_similarity(gradient, vectors.detach()), cosine_similarity(upstream, codes)
    )


def test_straight_through_changes_values_only() -> None:
    vectors = torch.randn(4, 3, requires_grad=True)
    codes = torch.randn(4, 3, requires_grad=True)
    values = straight_through(vectors, codes)
    torch.testing.assert_close(values, codes)
    values.sum().backward()
    assert torch.equal(vectors.grad, torch.ones(4, 3)) and codes.grad is None  # type: ignore[arg-type]


def test_opposite_and_zero_vectors_stay_finite() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    values = rotated(vectors, torch.tensor([[-1.0, 0.0], [1.0, 1.0]]))
    values.sum().backward()
    assert values.isfinite().all() and vectors.grad.isfinite().all()  # type: ignore[union-attr]
