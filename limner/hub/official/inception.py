"""The official weights of FID's Inception network, as torch-fidelity and pytorch-fid have them.

Facts from toshas/torch-fidelity `feature_extractor_inceptionv3.py`. The files
(`weights-inception-2015-12-05-6726825d.pth`, `pt_inception-2015-12-05-6726825d.pth`) hold bare
state dicts.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from limner.hub.build import fill, weightless
from limner.hub.official.tables import KeyTable, Rule, nested, rename
from limner.layers.inception import Inception

_CONVOLUTION = [
    rename("conv.weight", "conv.weight"),
    rename("bn.{parameter}", "{parameter}"),
    rename("bn.running_mean", "mean"),
    rename("bn.running_var", "variance"),
]

_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
_FINE = {
    "branch1x1": "0.0",
    "branch5x5_1": "1.0",
    "branch5x5_2": "1.1",
    "branch3x3dbl_1": "2.0",
    "branch3x3dbl_2": "2.1",
    "branch3x3dbl_3": "2.2",
    "branch_pool": "3.1",
}
_REDUCE_FINE = {
    "branch3x3": "0.0",
    "branch3x3dbl_1": "1.0",
    "branch3x3dbl_2": "1.1",
    "branch3x3dbl_3": "1.2",
}
_MIDDLE = {
    "branch1x1": "0.0",
    **{f"branch7x7_{place + 1}": f"1.{place}" for place in range(3)},
    **{f"branch7x7dbl_{place + 1}": f"2.{place}" for place in range(5)},
    "branch_pool": "3.1",
}
_REDUCE_MIDDLE = {
    "branch3x3_1": "0.0",
    "branch3x3_2": "0.1",
    **{f"branch7x7x3_{place + 1}": f"1.{place}" for place in range(4)},
}
_COARSE = {
    "branch1x1": "0.0",
    "branch3x3_1": "1.0",
    "branch3x3_2a": "1.1.0",
    "branch3x3_2b": "1.1.1",
    "branch3x3dbl_1": "2.0",
    "branch3x3dbl_2": "2.1",
    "branch3x3dbl_3a": "2.2.0",
    "branch3x3dbl_3b": "2.2.1",
    "branch_pool": "3.1",
}
_BLOCKS = {
    **dict.fromkeys(("5b", "5c", "5d"), _FINE),
    "6a": _REDUCE_FINE,
    **dict.fromkeys(("6b", "6c", "6d", "6e"), _MIDDLE),
    "7a": _REDUCE_MIDDLE,
    **dict.fromkeys(("7b", "7c"), _COARSE),
}


def _rules() -> list[Rule]:
    rules = [rename("fc.{parameter}", "classes.{parameter}")]
    for place, name in enumerate(_STEM):
        rules += nested(name, f"stem.{place}", _CONVOLUTION)
    for place, (name, branches) in enumerate(_BLOCKS.items()):
        for official, ours in branches.items():
            rules += nested(f"Mixed_{name}.{official}", f"blocks.{place}.{ours}", _CONVOLUTION)
    return rules


TABLE = KeyTable(_rules(), ignored=["{rest}.num_batches_tracked"])


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the official names of all tensors, with their shapes."""
    with weightless():
        state = Inception().state_dict()
    return {name: tuple(tensor.shape) for name, tensor in TABLE.to_official(state).items()}


def inception(state: Mapping[str, Tensor], source: str = "the weights") -> Inception:
    """Return the network with official weights, in evaluation mode.

    Raises:
        CheckpointError: the weights are those of something else.
    """
    with weightless():
        module = Inception()
    fill(module, TABLE.to_ours(state), source)
    return module.requires_grad_(False).eval()
