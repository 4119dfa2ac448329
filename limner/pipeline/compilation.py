"""Compiling a network block by block."""

from __future__ import annotations

from typing import Any

from torch import nn

from limner.layers.scale_memory import keep_budgets_out_of_compilation
from limner.layers.state_memory import compile_around_states


def compile_blocks(network: nn.Module, **options: Any) -> None:
    """Compile the blocks of a network, or the whole of one without blocks, when they are called.

    Args:
        network: whose `blocks` are compiled.
        **options: of `torch.compile`.
    """
    from torch._dynamo import config  # the compiler is slow to load

    # blocks that differ in the numbers of their layers alone are compiled once
    config.allow_unspec_int_on_nn_module = True
    keep_budgets_out_of_compilation()
    compile_around_states()
    for block in getattr(network, "blocks", [network]):
        block.compile(**options)
