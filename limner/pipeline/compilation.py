"""Compiling a network block by block."""

from __future__ import annotations

from typing import Any

from torch import nn

from limner.layers.key_value_memory import keep_out_of_compilation
from limner.layers.state_memory import compile_around_states


def compile_blocks(network: nn.Module, **options: Any) -> None:
    """Compile the blocks of a network, or the whole of one without blocks, when they are called.

    Args:
        network: whose `blocks` are compiled.
        **options: of `torch.compile`.
    """
    keep_out_of_compilation()
    compile_around_states()
    for block in getattr(network, "blocks", [network]):
        block.compile(**options)
