"""NFIG: next-frequency prediction; VAR's transformer draws one band of frequencies a step.

Huang et al., "NFIG: Autoregressive Image Generation with Next-Frequency Prediction",
arXiv:2503.07076. No code is published. The transformer is VAR's, unchanged (a choice, as are its
sizes): what differs is the tokenizer's canvas (`limner.tokenizers.nfig`), which adds bands from low
to high frequencies and is read at the size of the next one, without aliasing.
"""

from __future__ import annotations

from dataclasses import dataclass

from limner.core.registry import MODELS
from limner.models.var import VAR, VARConfig


@dataclass(frozen=True)
class NFIGConfig(VARConfig):
    """Configuration of NFIG; its `scales` are the sizes of the bands, low to high."""


@MODELS.family("nfig", NFIGConfig)
class NFIG(VAR):
    """The next-frequency transformer. Its canvas is a multi-scale quantiser of bands.

    Args:
        config: see `NFIGConfig`.
    """

    config: NFIGConfig


# the paper's own count, about 310M, is that of VAR-d16
MODELS.variant("nfig-d16", "nfig", NFIGConfig(drop_path=0.1 * 16 / 24), published="310M")
