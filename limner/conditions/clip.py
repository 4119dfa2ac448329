"""CLIP text features, from weights the user has (Meissonic reads CLIP-ViT-H-14)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limner.core.errors import CheckpointError, MissingExtra


class CLIPTextEncoder:
    """A frozen CLIP text encoder of the `transformers` package, and its projection.

    Features are those before the last layer, of padding too, as Meissonic's pipeline takes them.

    Args:
        path_or_name: directory (or hub name) with the tokenizer and the encoder's weights.
        length: tokens a prompt is padded or cut to.
        device: where it runs.
        dtype: of its weights.

    Raises:
        MissingExtra: transformers is not installed.
        CheckpointError: the weights cannot be loaded.
    """

    def __init__(
        self,
        path_or_name: str,
        length: int = 77,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        try:
            from transformers import AutoTokenizer, CLIPTextModelWithProjection
        except ImportError:
            raise MissingExtra("transformers", "text", "a CLIP text encoder") from None
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(path_or_name)
            model: Any = CLIPTextModelWithProjection.from_pretrained(path_or_name, dtype=dtype)
        except Exception as error:  # of the network, the hub or any file: none can be told apart
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(
                f"text_encoder={path_or_name!r} cannot be loaded: {first}"
            ) from error
        self.model = model.eval().to(device)
        self.length = length
        self.device = device

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
        ids = self.tokenizer(
            list(prompts),
            max_length=self.length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        )["input_ids"]
        return self.model(ids.to(self.device), output_hidden_states=True)
