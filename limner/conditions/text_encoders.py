"""Frozen text encoders by what their folder says they are."""

from __future__ import annotations

import torch

from limner.conditions.clip import CLIPTextEncoder
from limner.conditions.t5 import T5TextEncoder
from limner.core.errors import load_extra


def load_text_encoder(
    path_or_name: str, device: torch.device | str = "cpu"
) -> T5TextEncoder | CLIPTextEncoder:
    """Load a text encoder: CLIP's where the configuration beside the weights says so, else T5.

    Args:
        path_or_name: directory (or hub name) with the tokenizer and the encoder's weights.
        device: where it runs.

    Raises:
        MissingExtra: transformers is not installed.
        CheckpointError: the weights cannot be loaded.
    """
    transformers = load_extra("transformers", "text", "a text encoder")
    try:
        kind = str(transformers.AutoConfig.from_pretrained(path_or_name).model_type)
    except Exception:  # which loading the weights then says in one line
        kind = ""
    encoder = CLIPTextEncoder if kind.startswith("clip") else T5TextEncoder
    return encoder(path_or_name, device=device)
