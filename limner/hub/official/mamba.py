"""Mamba's and Mamba-2's official layers, as parts of published systems.

Facts from mamba_ssm/modules/{mamba_simple,mamba2}.py of state-spaces/mamba.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from limner.hub.build import fill
from limner.hub.official.converter import Shapes
from limner.hub.official.tables import KeyTable, Squeeze, rename
from limner.layers.mamba import Mamba

_BOTH = [
    rename("in_proj.weight", "into.weight"),
    rename("conv1d.weight", "convolution.weight", Squeeze((1,))),
    rename("conv1d.bias", "convolution.bias"),
    rename("A_log", "log_rates"),
    rename("D", "skip"),
    rename("out_proj.weight", "out.weight"),
]

MAMBA_RULES = [
    *_BOTH,
    rename("x_proj.weight", "select.weight"),
    rename("dt_proj.{parameter}", "steps.{parameter}"),
]

MAMBA2_RULES = [
    *_BOTH,
    rename("dt_bias", "step_bias"),
    rename("norm.weight", "norm.weight"),
]


def mamba(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Mamba:
    """Return Mamba's layer with official weights, from the arguments of the official `Mamba`."""
    module = Mamba(
        arguments["d_model"],
        layer=0,
        state=arguments["d_state"],
        expand=arguments["expand"],
        kernel=arguments["d_conv"],
        rank=arguments["dt_rank"],
    )
    fill(module, KeyTable(MAMBA_RULES).to_ours(state), "the layer")
    return module.eval()


def infer_mamba2(shapes: Shapes, prefix: str, groups: int) -> dict[str, int]:
    """Return the sizes of a Mamba-2 layer with weights of these shapes.

    Args:
        prefix: of the layer's official names.
        groups: which the weights do not tell.
    """
    inner, width = shapes[f"{prefix}norm.weight"][0], shapes[f"{prefix}in_proj.weight"][1]
    channels, _, kernel = shapes[f"{prefix}conv1d.weight"]
    return {
        "state": (channels - inner) // (2 * groups),
        "expand": inner // width,
        "head_width": inner // shapes[f"{prefix}A_log"][0],
        "groups": groups,
        "kernel": kernel,
    }
