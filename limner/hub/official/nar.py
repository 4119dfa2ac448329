"""NAR's official weights: the decoders of pictures (class or text) and of clips.

Facts from NAR-images/autoregressive/models/{gpt,generate}.py and NAR-videos/models/larp_ar.py of
ThisisBillhe/NAR. Files of pictures (`c2i_B.pt`, ...) hold state dicts as LlamaGen's do, whose
tokenizer they share (`llamagen-vq`); those of clips hold them under "model", "sd", or bare.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limner.core.guidance import Unguided
from limner.core.layout import Layout, grid
from limner.core.registry import MODELS
from limner.core.row import Options
from limner.heads.guidance import UntilDrawn
from limner.hub.official import llamagen
from limner.hub.official.converter import UNKNOWN_LICENCE, Converter, Shapes
from limner.hub.official.tables import KeyTable, Squeeze, rename
from limner.models.nar import NARConfig

CLIP_HEADS = 6
"""Heads of the smallest size of clips, whose width LlamaGen has not."""

_PICTURES = KeyTable(
    [
        *llamagen.GPT_TRUNK,
        rename("norm.weight", "norm.weight"),
        rename("output.weight", "output.weight"),
        rename("medusa_norm.weight", "further_norms.0.weight"),
        rename("medusa_output.weight", "further_outputs.0.weight"),
    ],
    ignored=llamagen.GPT_IGNORED,
)
_CLIPS = KeyTable(
    [
        *llamagen.GPT_TRUNK,
        rename("norm_R.weight", "norm.weight"),
        rename("output_R.weight", "output.weight"),
        rename("norm_D.weight", "further_norms.0.weight"),
        rename("output_D.weight", "further_outputs.0.weight"),
        rename("norm_B.weight", "further_norms.1.weight"),
        rename("output_B.weight", "further_outputs.1.weight"),
        rename("abs_pe", "table", Squeeze((0,))),
    ],
    ignored=llamagen.GPT_IGNORED,
)


def picture_config(arguments: Mapping[str, Any]) -> NARConfig:
    """Return our configuration of the official `ModelArgs` of pictures."""
    shared = vars(llamagen.gpt_config(arguments))
    return NARConfig(**shared, deeper=(arguments.get("medusa_attention_num", 1),))


def clip_config(arguments: Mapping[str, Any]) -> NARConfig:
    """Return our configuration of the official `ModelArgs` of clips."""
    shared = vars(llamagen.gpt_config({"num_classes": 101, **arguments}))
    return NARConfig(
        **shared,
        deeper=(arguments.get("attn_num_down", 1), arguments.get("attn_num_back", 1)),
        places="sines" if arguments.get("use_fixed_pe", False) else "learned",
        tokens=arguments["max_seq_len"],
    )


def clip_layout(arguments: Mapping[str, Any]) -> Layout:
    """Return the volume of the official `latent_shape`."""
    frames, rows, columns = arguments["latent_shape"]
    return grid(rows, columns, frames)


def sampling_options(arguments: Mapping[str, Any]) -> Options:
    """Return our options of the official `generate`'s arguments.

    Guidance is off at a scale of 1 or less, and ends once more than `cfg_interval` tokens, if that
    is above -1, are drawn.
    """
    scale, interval = arguments.get("guidance_scale", 1.0), arguments.get("cfg_interval", -1)
    guidance = UntilDrawn(scale, None if interval < 0 else interval)
    greedy = "greedy" in str(arguments.get("sampling", ""))
    return Options(
        guidance=guidance if scale > 1 else Unguided(),
        temperature=0.0 if greedy else arguments.get("temperature", 1.0),
        top_k=arguments.get("top_k", 0),
        top_p=arguments.get("top_p", 1.0),
    )


def _infer_pictures(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    values = llamagen.infer_gpt(shapes, given)
    return {**values, "depth": values["depth"] - sum(given.get("deeper", (1,)))}


def _infer_clips(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    length, width = shapes["abs_pe"][1:]
    known = {"heads": CLIP_HEADS, **given} if width == 384 else given
    values = llamagen.infer_gpt(shapes, known)
    deeper = given.get("deeper", (1, 1))
    return {
        **values,
        "depth": values["depth"] - sum(deeper),
        "heads": values["heads"] or known.get("heads"),
        "deeper": deeper,
        "places": "learned",
        "tokens": length - 1,
    }


CONVERTERS = (
    Converter(
        system="nar",
        registry=MODELS,
        family="nar",
        marks=(
            "tok_embeddings.weight",
            "layers.0.attention.wqkv.weight",
            "output.weight",
            "medusa_output.weight",
        ),
        infer=_infer_pictures,
        table=lambda config: _PICTURES,
        licence=UNKNOWN_LICENCE,
    ),
    Converter(
        system="nar-clip",
        registry=MODELS,
        family="nar",
        marks=("tok_embeddings.weight", "abs_pe", "output_R.weight", "output_B.weight"),
        infer=_infer_clips,
        table=lambda config: _CLIPS,
        licence=UNKNOWN_LICENCE,
    ),
)
PICTURES, CLIPS = CONVERTERS
