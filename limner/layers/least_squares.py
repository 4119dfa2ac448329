"""Convolutions fitted in closed form: the weights that least squares would reach by training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_BATCH = 128  # maps unfolded at once


@torch.no_grad()
def fit_convolution(
    conv: nn.Conv2d, inputs: Tensor, targets: Tensor, penalty: float = 1e-4
) -> None:
    """Set a convolution to the one that best maps inputs to targets, by ridge regression.

    Args:
        conv: of stride 1 that keeps the size of its input, with a bias; changed in place.
        inputs: float [B, C, H, W].
        targets: float [B, K, H, W].
        penalty: of the squared weights, relative to the mean square of the inputs.
    """
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    rows, columns = (size // 2 for size in conv.kernel_size)
    count = conv.weight[0].numel() + 1
    gram = inputs.new_zeros(count, count)
    cross = inputs.new_zeros(count, conv.out_channels)
    for part, wanted in zip(inputs.split(_BATCH), targets.split(_BATCH)):
        padded = functional.pad(part, (columns, columns, rows, rows), mode=mode)
        windows = functional.unfold(padded, conv.kernel_size)  # [b, count - 1, HW]
        seen = functional.pad(windows, (0, 0, 0, 1), value=1.0).transpose(0, 1).flatten(1)
        gram += seen @ seen.T
        cross += seen @ wanted.movedim(1, -1).flatten(0, 2)
    # float64 on the CPU: neighbouring inputs are nearly alike, and some devices lack it
    gram, cross = gram.cpu().double(), cross.cpu().double()
    # inputs that are 0 everywhere get weights of 0
    gram.diagonal()[:-1] += (penalty * gram.diagonal()[:-1].mean()).clamp(min=1e-12)
    solution = torch.linalg.solve(gram, cross)
    conv.weight.copy_(solution[:-1].T.reshape(conv.weight.shape))
    assert conv.bias is not None
    conv.bias.copy_(solution[-1])
