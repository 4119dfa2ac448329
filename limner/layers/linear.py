"""A linear layer whose float32 products are quicker on CPUs than PyTorch's own.

PyTorch's CPU builds hold two libraries of matrix products. Its float32 layers call MKL; oneDNN,
which its convolutions call, is faster at the shapes of transformers, and more so on several cores.
`functional.linear` offers no choice between them.

Drawing token by token, products of a few rows only read the weight: what counts is how many cores
read it. On processors of Intel `functional.linear` shares up to three rows among cores; on others
it leaves up to four to one core, and MKL has to be asked for weight x^T.

Without gradients, bias and activation are added while oneDNN has the outputs at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.cpu import is_intel

_SMALL = 2**24  # multiplications of a product below which calling oneDNN costs more than it saves
_LIGHT = 2**18  # numbers of a weight that caches hold: below, the same
_FEW_ROWS, _FEW_NUMBERS = range(2, 5), 4096  # of x, where MKL shares weight x^T among cores
_INTEL_ROWS = 3  # of x, up to which MKL is quicker on processors of Intel
_INTEL_LIGHT, _INTEL_LIGHT_ROWS = 2**20, 8  # the same where a weight has no more numbers
_HAS_ONEDNN = (
    torch.backends.mkldnn.is_available()
    and torch.backends.mkl.is_available()
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)


@dataclass(frozen=True)
class Activation:
    """What may follow a product.

    Args:
        alone: the function.
        fused: its names in oneDNN, which computes it while outputs are at hand.
    """

    alone: Callable[[Tensor], Tensor]
    fused: tuple[str, str]


ACTIVATIONS = {
    "none": Activation(lambda x: x, ("none", "")),
    "gelu": Activation(functional.gelu, ("gelu", "none")),
    "gelu-tanh": Activation(partial(functional.gelu, approximate="tanh"), ("gelu", "tanh")),
    "silu": Activation(functional.silu, ("swish", "")),
}
"""By the names that configurations give them; "gelu" is the exact one."""


class Linear(nn.Linear):
    """`torch.nn.Linear`, through `linear`."""

    _packed: Tensor | None = None  # the weight while it is, see `packed`

    def forward(self, x: Tensor, then: str = "none") -> Tensor:
        """Map float [..., in] to [..., out]; then an activation, see `ACTIVATIONS`."""
        if self._packed is not None:
            return _fused(x, self._packed, self.bias, then)
        return linear(x, self.weight, self.bias, then)


@contextmanager
def packed(network: nn.Module, rows: int) -> Iterator[None]:
    """Hold a second copy of a network's weights, in the order in which oneDNN reads them.

    A product of a hundred rows spends a tenth of its time on bringing the weight into this order;
    so this is for a network that runs many times in a row, as denoisers do. Weights must not change
    meanwhile. Without effect where nothing is gained: on other devices, with gradients, and in
    compiled blocks.

    Args:
        network: its large `Linear` layers are packed.
        rows: of what they will map, about.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, Linear)]
    compiled = any(module._compiled_call_impl is not None for module in network.modules())
    if compiled or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        layers = []
    try:
        for layer in layers:
            if _can_pack(layer.weight):
                layer._packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight, rows)
        yield
    finally:
        for layer in layers:
            layer._packed = None


def _can_pack(weight: Tensor) -> bool:
    plain = weight.dtype == torch.float32 and weight.device.type == "cpu"
    return _HAS_ONEDNN and plain and weight.numel() >= _LIGHT


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    """Return x weight^T + bias, as `torch.nn.functional.linear` does; then an activation.

    Args:
        x: float [..., in].
        weight: float [out, in].
        bias: float [out], or None.
        then: name of the activation, see `ACTIVATIONS`.
    """
    if not _is_worth_it(x, weight):
        return ACTIVATIONS[then].alone(functional.linear(x, weight, bias))
    if torch.is_grad_enabled():
        product: Tensor = _product(x, weight)
        return ACTIVATIONS[then].alone(product if bias is None else product + bias)
    if torch.compiler.is_compiling():
        whole: Tensor = torch.ops.limner.layer(x, weight, bias, then)
        return whole
    # calling an operator of Python's own takes a tenth of such a product's time
    return _quickest(x, weight, bias, then)


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
    """x weight^T, with gradients; as an operator that `torch.compile` leaves alone."""
    return _quickest(x, weight)


def _quickest(x: Tensor, weight: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    """Return what `linear` does, by that one of both libraries which is quicker."""
    rows, activation = x.numel() // x.shape[-1], ACTIVATIONS[then]
    if is_intel():
        light = weight.numel() <= _INTEL_LIGHT
        if rows <= (_INTEL_LIGHT_ROWS if light else _INTEL_ROWS):
            return activation.alone(functional.linear(x, weight, bias))
    elif rows in _FEW_ROWS and x.numel() <= _FEW_NUMBERS and weight.is_contiguous():
        product = torch.mm(weight, x.reshape(rows, -1).T).T.contiguous()
        product = product.view(*x.shape[:-1], len(weight))
        return activation.alone(product if bias is None else product + bias)
    return _fused(x, weight, bias, then)


def _fused(x: Tensor, weight: Tensor, bias: Tensor | None, then: str) -> Tensor:
    """Return what oneDNN does; the weight may be packed."""
    name, kind = ACTIVATIONS[then].fused
    mapped: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], kind)
    return mapped


@_product.register_fake
def _empty_product(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], len(weight)))


# `_quickest` as an operator that `torch.compile` leaves alone; it has no gradients, and so spends
# nothing on them as `custom_op` does
_operators = torch.library.Library("limner", "FRAGMENT")
_operators.define("layer(Tensor x, Tensor weight, Tensor? bias, str then) -> Tensor")
_operators.impl("layer", _quickest, "CPU")


@torch.library.register_fake("limner::layer")
def _empty_layer(x: Tensor, weight: Tensor, bias: Tensor | None, then: str) -> Tensor:
    return _empty_product(x, weight)


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
