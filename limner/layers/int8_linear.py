"""Linear layers whose weights are held as 8-bit integers, for drawing.

Drawing token by token, all weights are read for every token; with a quarter of the bytes that takes
less time. Weights alone are rounded, each output's by a scale of its own; inputs are not, and rows
do not depend on each other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.layers.linear import ACTIVATIONS, Linear

_MANY = 32  # rows from which on it is quicker to compute with the rounded weights as floats
_LARGEST = 127


class Int8Linear(nn.Module):
    """A linear layer with rounded weights.

    Args:
        layer: whose weights are rounded, float [out, in], and whose bias is kept.
    """

    scale: Tensor
    codes: Tensor
    units: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach()
        scale = weight.abs().amax(1).clamp(min=torch.finfo(weight.dtype).tiny) / _LARGEST
        self.register_buffer("scale", scale)
        self.register_buffer("codes", (weight / scale.unsqueeze(1)).round().to(torch.int8))
        self.register_buffer("units", torch.ones_like(scale, dtype=torch.bfloat16), False)
        self.bias = layer.bias

    @property
    def weight(self) -> Tensor:
        """What is multiplied with, float [out, in]; computed when it is asked for."""
        return self.codes.to(self.scale.dtype) * self.scale.unsqueeze(1)

    def forward(self, x: Tensor, then: str = "none") -> Tensor:
        """Map float [..., in] to [..., out]; then an activation, see `linear`."""
        return ACTIVATIONS[then].alone(self._product(x))

    def _product(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2)
        if x.device.type != "cpu" or len(rows) >= _MANY:
            return functional.linear(x, self.weight, self.bias)
        product = torch._weight_int8pack_mm(rows.bfloat16(), self.codes, self.units)
        out = (product * self.scale).view(*x.shape[:-1], -1)
        return out if self.bias is None else out + self.bias


def round_to_int8(network: nn.Module) -> None:
    """Replace the linear layers of a network, in place, for drawing only."""
    for name, part in network.named_children():
        if type(part) is Linear:
            setattr(network, name, Int8Linear(part))
        else:
            round_to_int8(part)
