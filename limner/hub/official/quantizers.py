"""Quantisers as vector-quantize-pytorch and bsq-vit hold them: tables of names and arguments.

Facts from `VectorQuantize`, `ResidualVQ`, `FSQ` and `LFQ` of vector-quantize-pytorch 1.32.0, and
from transcoder/models/quantizer/bsq.py of zhaoyue-zephyrus/bsq-vit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from limner.hub.build import fill
from limner.hub.official.tables import KeyTable, Rule, Squeeze, nested, rename
from limner.tokenizers.quantizers.bsq import BSQConfig
from limner.tokenizers.quantizers.build import VQConfig, build_quantizer
from limner.tokenizers.quantizers.codebook import Codebook
from limner.tokenizers.quantizers.lfq import LFQ, LFQConfig
from limner.tokenizers.quantizers.projected import Projected
from limner.tokenizers.quantizers.quantizer import Quantizer
from limner.tokenizers.quantizers.residual import ResidualVQ, ResidualVQConfig
from limner.tokenizers.quantizers.upkeep import Upkeep, UpkeepConfig

Arguments = Mapping[str, Any]
State = Mapping[str, Tensor]

_CODES = [rename("_codebook.embed", "weight", Squeeze((0,)))]
_AVERAGES = [
    rename("_codebook.cluster_size", "counts", Squeeze((0,))),
    rename("_codebook.embed_avg", "sums", Squeeze((0,))),
]
_PROJECTIONS = [
    rename("project_in.{parameter}", "into.{parameter}"),
    rename("project_out.{parameter}", "out.{parameter}"),
]
_STATISTICS = ["_codebook.initted", "_codebook.cluster_size", "_codebook.embed_avg"]
_REST = ["_codebook.initted", "_codebook.embed"]

CODEBOOK_TABLE = KeyTable(_CODES, ignored=_STATISTICS)
RESIDUAL_TABLE = KeyTable(
    [*nested("layers.{k}", "inner.tables.{k}", _CODES), *_PROJECTIONS],
    ignored=[f"layers.{{k}}.{name}" for name in _STATISTICS],
)
LFQ_TABLE = KeyTable(_PROJECTIONS, ignored=["mask"])
_CODEBOOK_AVERAGES = KeyTable(
    [Rule(rule.official, (f"0.{rule.ours[0]}",), rule.change) for rule in _AVERAGES], ignored=_REST
)
_RESIDUAL_AVERAGES = KeyTable(
    nested("layers.{k}", "{k}", _AVERAGES),
    ignored=[
        *(f"layers.{{k}}.{name}" for name in _REST),
        "project_in.{parameter}",
        "project_out.{parameter}",
    ],
)


def codebook(arguments: Arguments, state: State) -> Codebook:
    """Return the codebook of a `VectorQuantize`; moving averages, not gradients, move its codes."""
    config = VQConfig(
        codebook_size=arguments["codebook_size"],
        width=arguments["dim"],
        normalize=arguments["use_cosine_sim"],
        commitment=arguments["commitment_weight"],
        pull=0.0,
        rotation=arguments.get("rotation_trick", True),
    )
    module = build_quantizer(config)
    assert isinstance(module, Codebook)
    fill(module, CODEBOOK_TABLE.to_ours(state), "the codebook")
    return module


def residual(arguments: Arguments, state: State, shared: bool = False) -> Projected:
    """Return a `ResidualVQ` with its projections, if it has any.

    Args:
        shared: every level uses the table of level 0.
    """
    config = ResidualVQConfig(
        levels=arguments["num_quantizers"],
        codebook_size=arguments["codebook_size"],
        width=arguments["codebook_dim"],
        shared=shared,
        commitment=arguments["commitment_weight"],
        pull=0.0,
    )
    module = Projected(ResidualVQ(config), arguments["dim"])
    tensors = RESIDUAL_TABLE.to_ours(state)
    if shared:
        kept = ("inner.tables.0.", "into.", "out.")
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith(kept)}
    fill(module, tensors, "the residual quantiser")
    return module


def upkeep(quantizer: Quantizer, arguments: Arguments, state: State) -> Upkeep:
    """Return what moves the codes of a `VectorQuantize` or a `ResidualVQ`, as its state has it."""
    keeper = Upkeep(quantizer, upkeep_config(arguments))
    table = _CODEBOOK_AVERAGES if isinstance(quantizer, Codebook) else _RESIDUAL_AVERAGES
    fill(keeper.averages, table.to_ours(state), "the moving averages")
    return keeper


def upkeep_config(arguments: Arguments) -> UpkeepConfig:
    """Return our configuration of moving averages without revival."""
    epsilon = arguments.get("eps", 1e-5)
    return UpkeepConfig(
        fit=False, patience=0.0, decay=arguments["decay"], average=True, epsilon=epsilon
    )


def lfq_config(arguments: Arguments) -> LFQConfig:
    """Return our configuration of `LFQ`'s arguments."""
    return LFQConfig(
        bits=arguments["codebook_size"].bit_length() - 1,
        groups=arguments.get("num_codebooks", 1),
        spherical=arguments.get("spherical", False),
        commitment=arguments.get("commitment_loss_weight", 0.0),
        entropy=arguments.get("entropy_loss_weight", 0.1),
        diversity=arguments.get("diversity_gamma", 1.0),
        sharpness=arguments.get("inv_temperature", 100.0),
    )


def projected_lfq(arguments: Arguments, state: State) -> Projected:
    """Return an `LFQ` with its projections."""
    module = Projected(LFQ(lfq_config(arguments)), arguments["dim"])
    fill(module, LFQ_TABLE.to_ours(state), "the quantiser")
    return module


def bsq_config(arguments: Arguments) -> BSQConfig:
    """Return our configuration of `BinarySphericalQuantizer`'s arguments."""
    group = arguments.get("group_size", arguments.get("embed_group_size"))
    by = {"analytical": "bit", "group": "group"}[arguments["persample_entropy_compute"]]
    return BSQConfig(
        bits=arguments["embed_dim"],
        group=arguments["embed_dim"] if group is None else group,
        entropy_by="bit" if by == "bit" else "group",
        normalize=False,
        commitment=arguments["beta"],
        entropy=arguments["zeta"],
        certainty=arguments["gamma0"],
        diversity=arguments["gamma"],
        sharpness=arguments["inv_temperature"],
    )
