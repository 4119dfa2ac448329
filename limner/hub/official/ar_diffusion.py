"""AR-Diffusion's official weights: the transformer over frames, and its tokenizers.

Facts from src/ardiff/base.py and src/ardiff/modules/ of iva-mzsun/AR-Diffusion. The files
(`model.safetensors`) hold the moving averages, tables of the chain, which are computed here, and
with the tokenizer attached its weights under "vae.", which are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from limner.core.errors import ConfigError, check
from limner.core.registry import MODELS
from limner.core.row import Options
from limner.heads.guidance import Constant
from limner.hub.official.converter import UNKNOWN_LICENCE, Converter, Shapes
from limner.hub.official.tables import KeyTable, Reorder, Rule, rename
from limner.layers.vision_transformer import StackConfig
from limner.models.ar_diffusion import ARDiffusionConfig

HEADS = {1152: 16}
"""Heads of the published size, by width: the weights alone do not tell them."""


class _OneContext:
    """The official context of a model without classes has no dimension for them."""

    def to_ours(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Add the dimension."""
        return [tensor.unsqueeze(0) for tensor in tensors]

    def to_official(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Take it away."""
        return [tensor.squeeze(0) for tensor in tensors]


def _each(official: str, ours: str, change: Reorder | None = None) -> Rule:
    official = f"diffusion_model.model.{official}"
    return rename(f"{official}.{{parameter}}", f"{ours}.{{parameter}}", change)


_NETWORK = [
    _each("x_embedder", "into"),
    _each("c_embedder", "context"),
    _each("t_embedder.mlp.0", "time.into"),
    _each("t_embedder.mlp.2", "time.out"),
    _each("blocks.{i}.attn.qkv", "blocks.{i}.attention.qkv"),
    _each("blocks.{i}.attn.q_norm", "blocks.{i}.attention.query_norm"),
    _each("blocks.{i}.attn.k_norm", "blocks.{i}.attention.key_norm"),
    _each("blocks.{i}.attn.proj", "blocks.{i}.attention.out"),
    _each("blocks.{i}.mlp.fc1", "blocks.{i}.mlp.into"),
    _each("blocks.{i}.mlp.fc2", "blocks.{i}.mlp.out"),
    # official chunks: shift, scale and gate of the attention, then of the MLP
    _each(
        "blocks.{i}.adaLN_modulation.1",
        "blocks.{i}.modulation.linear",
        Reorder((2, 5, 1, 4, 0, 3)),
    ),
    _each("final_layer.1", "output"),
]
_IGNORED = (
    "diffusion_model.model.pos_embed",
    "diffusion_model.model.rotary_emb.freqs",
    "diffusion_model.model.blocks.{i}.attn.rotary_emb.freqs",
    "diffusion_model.betas",
    "diffusion_model.logvar",
    "diffusion_model.lvlb_weights",
    "vae.{rest}",
    *(
        f"diffusion_model.{name}"
        for name in (
            "alphas_cumprod",
            "alphas_cumprod_prev",
            "sqrt_alphas_cumprod",
            "sqrt_one_minus_alphas_cumprod",
            "log_one_minus_alphas_cumprod",
            "sqrt_recip_alphas_cumprod",
            "sqrt_recipm1_alphas_cumprod",
            "posterior_variance",
            "posterior_log_variance_clipped",
            "posterior_mean_coef1",
            "posterior_mean_coef2",
        )
    ),
)


def _table(config: ARDiffusionConfig) -> KeyTable:
    if config.classes:
        context = rename("class_emb", "condition.table")
    else:
        context = rename("context_emb", "condition.table", _OneContext())
    return KeyTable([context, *_NETWORK], _IGNORED)


def ar_diffusion_config(arguments: Mapping[str, Any]) -> ARDiffusionConfig:
    """Return our configuration of the official arguments."""
    known = {"learn_sigma": False, "merge_mode": "share_norm", "parameterization": "x0"}
    for name, value in known.items():
        check(arguments.get(name, value) == value, name, arguments.get(name), repr(value))
    modes = ("video_temporal_causal", "temporal_causal")
    mode = arguments["causal_attn_mode"]
    check(mode in modes, "causal_attn_mode", mode, " or ".join(modes))
    return ARDiffusionConfig(
        StackConfig(
            arguments["hidden_size"],
            arguments["depth"],
            arguments["num_heads"],
            arguments["mlp_ratio"],
        ),
        frames=arguments["num_frames"],
        frame_tokens=arguments["n_token_per_frame"],
        token_width=arguments["in_channels"],
        classes=arguments["num_class"] if arguments["condition_mode"] == "class_cond" else 0,
        context=arguments["context_token"],
        context_width=arguments["context_dim"],
        rotary=arguments.get("use_rotary_emb", False),
        head_norm=arguments.get("qk_norm", False),
        open_context=mode == modes[0],
        steps=arguments["ddim_steps"],
        lag=0,
        finish=False,
        betas=(arguments["linear_start"], arguments["linear_end"]),
    )


def sampling_options(arguments: Mapping[str, Any]) -> Options:
    """Return our options of the official sampler's arguments; a guidance of 1 is off."""
    return Options(Constant(arguments["guidance"]))


def tokens_of(frames: Tensor, factor: float, normalise: bool) -> Tensor:
    """Return the tokens of the tokenizer's latents [B, F, D, 1, L], float [B, F L, D].

    Args:
        factor: on the latents.
        normalise: tokens have length 1.
    """
    tokens = factor * frames.squeeze(3).transpose(2, 3).flatten(1, 2)
    return functional.normalize(tokens, dim=-1) if normalise else tokens


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    prefix = "diffusion_model.model"
    width, token_width = shapes[f"{prefix}.x_embedder.weight"]
    heads = given.get("stack.heads", HEADS.get(width))
    if heads is None:
        raise ConfigError(
            f"heads cannot be told from weights of width {width}: give stack.heads "
            f"(known by width: {', '.join(map(str, HEADS))})"
        )
    depth = sum(name.endswith(".attn.qkv.weight") for name in shapes)
    ratio = shapes[f"{prefix}.blocks.0.mlp.fc1.weight"][0] / width
    asked = "class_emb" in shapes
    context = shapes["class_emb" if asked else "context_emb"]
    rotary = f"{prefix}.pos_embed" not in shapes
    values: dict[str, Any] = {
        "stack": {"width": width, "depth": depth, "heads": heads, "ratio": ratio},
        "token_width": token_width,
        "classes": context[0] - 1 if asked else 0,
        "context": context[-2],
        "context_width": context[-1],
        "rotary": rotary,
        "head_norm": f"{prefix}.blocks.0.attn.q_norm.weight" in shapes,
    }
    if not rotary:
        values["frames"] = given.get("frames", 16)
        values["frame_tokens"] = shapes[f"{prefix}.pos_embed"][1] // values["frames"]
    return values


CONVERTERS = (
    Converter(
        system="ar-diffusion",
        registry=MODELS,
        family="ar-diffusion",
        marks=(
            "diffusion_model.model.c_embedder.weight",
            "diffusion_model.model.final_layer.1.weight",
        ),
        infer=_infer,
        table=_table,
        licence=UNKNOWN_LICENCE,
    ),
)
(AR_DIFFUSION,) = CONVERTERS
