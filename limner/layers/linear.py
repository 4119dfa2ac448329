"""A linear layer whose float32 products are quicker on CPUs than PyTorch's own.

PyTorch's CPU builds hold two libraries of matrix products. Its float32 layers call MKL; oneDNN,
which its convolutions call, is faster at the shapes of transformers, and more so on several cores.
`functional.linear` offers no choice between them.

Drawing token by token, products of a few rows only read the weight: what counts is how many cores
read it. `functional.linear` leaves up to four rows to one core.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_SMALL = 2**24  # multiplications of a product below which calling oneDNN costs more than it saves
_LIGHT = 2**18  # numbers of a weight that caches hold: below, the same
_FEW_ROWS, _FEW_NUMBERS = range(2, 5), 4096  # of x, where MKL shares weight x^T among cores
_HAS_ONEDNN = (
    torch.backends.mkldnn.is_available()
    and torch.backends.mkl.is_available()
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)


class Linear(nn.Linear):
    """`torch.nn.Linear`, through `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map float [..., in] to [..., out]."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x weight^T + bias, as `torch.nn.functional.linear` does.

    Args:
        x: float [..., in].
        weight: float [out, in].
        bias: float [out], or None.
    """
    if _is_worth_it(x, weight):
        # calling an operator of Python's own takes a tenth of such a product's time
        watched = torch.is_grad_enabled() or torch.compiler.is_compiling()
        product: Tensor = _product(x, weight) if watched else _quickest(x, weight)
        return product if bias is None else product + bias
    return functional.linear(x, weight, bias)


def _is_worth_it(x: Tensor, weight: Tensor) -> bool:
    return (
        _HAS_ONEDNN
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and (weight.numel() >= _LIGHT or x.numel() * len(weight) >= _SMALL)
        and not torch.is_autocast_enabled("cpu")
    )


@torch.library.custom_op("limner::product", mutates_args=(), device_types="cpu")
def _product(x: Tensor, weight: Tensor) -> Tensor:
    """x weight^T; as an operator of its own, so that `torch.compile` leaves it alone."""
    return _quickest(x, weight)


def _quickest(x: Tensor, weight: Tensor) -> Tensor:
    """Return x weight^T, by that one of both libraries which is quicker."""
    few = x.numel() <= _FEW_NUMBERS and x.numel() // x.shape[-1] in _FEW_ROWS
    if few and weight.is_contiguous():
        rows = x.reshape(-1, x.shape[-1])
        return torch.mm(weight, rows.T).T.contiguous().view(*x.shape[:-1], len(weight))
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return product


@_product.register_fake
def _empty_product(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], len(weight)))


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
    x, weight = ctx.saved_tensors
    of_x, of_weight = ctx.needs_input_grad
    return (
        linear(gradient, weight.T) if of_x else None,
        # MKL is as fast here
        gradient.flatten(0, -2).T @ x.flatten(0, -2) if of_weight else None,
    )


_product.register_autograd(_gradients, setup_context=_remember)
