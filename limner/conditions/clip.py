"""CLIP text features, from weights the user has (Meissonic reads CLIP-ViT-H-14)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limner.conditions.frozen_text import FrozenTextEncoder


class CLIPTextEncoder(FrozenTextEncoder):
    """A frozen CLIP text encoder of the `transformers` package, and its projection.

    Features are those before the last layer, of padding too, as Meissonic's pipeline takes them.
    """

    KIND, MODEL, LENGTH = "CLIP", "CLIPTextModelWithProjection", 77

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return float32 [B, length, width] and bool [B, length]: all places hold something."""
        features = self._read(prompts).hidden_states[-2].float().cpu()
        return features, torch.ones(features.shape[:2], dtype=torch.bool)

    def pooled(self, prompts: Sequence[str]) -> Tensor:
        """Return the projected vector of each prompt, float32 [B, D]."""
        vectors: Tensor = self._read(prompts).text_embeds.float().cpu()
        return vectors

    @torch.no_grad()
    def _read(self, prompts: Sequence[str]) -> Any:
        return self.model(self.tokens(prompts)["input_ids"], output_hidden_states=True)
