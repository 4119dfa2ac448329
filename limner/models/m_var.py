"""M-VAR: VAR whose attention stays inside a scale, while a Mamba-2 scan runs from coarse to fine.

Ren et al., "M-VAR: Decoupled Scale-wise Autoregressive Modeling for High-Quality Image
Generation", arXiv:2411.10433; facts from models/{mvar,basic_mvar}.py of OliverRensu/MVAR.

A block attends within the scale that is drawn, then mixes all tokens so far, scale after scale and
row by row inside a scale, by a recurrence in linear time. So sampling remembers a state of
constant size instead of keys and values. The released sampler reads all earlier scales again at
every step instead; its results are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from limner.core.errors import check
from limner.core.memory import Memory
from limner.core.registry import MODELS
from limner.core.row import Row
from limner.core.slots import within
from limner.layers.adaln import AdaLNBlock, AdaLNMixerBlock
from limner.layers.causal_convolution import CausalConvolution
from limner.layers.mamba import Mamba2
from limner.layers.state_memory import StateMemory
from limner.models.var import VAR, VARConfig


@dataclass(frozen=True)
class MVARConfig(VARConfig):
    """Configuration of M-VAR: that of VAR, and the size of its Mamba-2 layers.

    Args:
        mixer_state: rows of the state of every head.
        mixer_expand: inner width by the width.
        mixer_head_width: columns of the state of every head; divides the inner width.
        mixer_groups: of successive heads with keys and queries in common.
        mixer_kernel: values that the convolution reads.
    """

    mixer_state: int = 64
    mixer_expand: int = 2
    mixer_head_width: int = 64
    mixer_groups: int = 1
    mixer_kernel: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check(not self.shared_adaln, "shared_adaln", self.shared_adaln, "off in M-VAR")
        for name in ("state", "expand", "head_width", "groups", "kernel"):
            value = getattr(self, f"mixer_{name}")
            check(value > 0, f"mixer_{name}", value, "above 0")
        heads, left = divmod(self.mixer_expand * self.width, self.mixer_head_width)
        accepted = f"a divisor of the inner width, {self.mixer_expand * self.width}"
        check(left == 0, "mixer_head_width", self.mixer_head_width, accepted)
        fits = heads % self.mixer_groups == 0
        check(fits, "mixer_groups", self.mixer_groups, f"a divisor of the {heads} mixer heads")


@MODELS.family("m-var", MVARConfig)
class MVAR(VAR):
    """The decoupled next-scale transformer. Its canvas is a multi-scale quantiser.

    Args:
        config: see `MVARConfig`.
    """

    config: MVARConfig
    visible = staticmethod(within)

    def _block(self, layer: int) -> AdaLNMixerBlock:
        config, plain = self.config, super()._block(layer)
        mixer = Mamba2(
            config.width,
            layer,
            config.mixer_state,
            config.mixer_expand,
            config.mixer_head_width,
            config.mixer_groups,
            config.mixer_kernel,
        )
        share = plain.drop_path.share
        return AdaLNMixerBlock(
            config.width, plain.attention, mixer, plain.mlp, config.norm_eps, share
        )

    @torch.no_grad()
    def _initialise(self, blocks: Sequence[AdaLNBlock]) -> None:
        # gates of attention and mixer begin near zero, that of the MLP at a half: as released
        super()._initialise(blocks)
        for module in self.modules():
            if isinstance(module, CausalConvolution):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def memory(self, rows: Sequence[Row]) -> Memory:
        """Return states of all blocks; attention needs no memory."""
        return StateMemory(self.config.depth)


def _register_variants() -> None:
    sizes: dict[
        int, tuple[int | str, bool, float]
    ] = {  # depth: counted parameters, cosine attention, gate gain
        12: ("198.4M", False, 1e-3),
        16: (464_157_184, False, 1e-3),
        20: (900_528_736, False, 1e-3),
        24: (1_550_067_136, True, 1e-4),
        30: (3_017_065_756, True, 1e-5),
        32: (3_658_707_968, True, 1e-5),
    }
    for depth, (published, cosine, gain) in sizes.items():
        config = MVARConfig(
            64 * depth, depth, depth, cosine=cosine, drop_path=0.1 * depth / 24, gate_gain=gain
        )
        MODELS.variant(f"m-var-d{depth}", "m-var", config, published)


_register_variants()
