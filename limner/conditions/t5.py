"""T5 text features, from weights the user has (LlamaGen's text models read flan-t5-xl)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limner.core.errors import CheckpointError, MissingExtra


class T5TextEncoder:
    """A frozen T5 encoder of the `transformers` package.

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
        length: int = 120,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        try:
            from transformers import AutoTokenizer, T5EncoderModel
        except ImportError:
            raise MissingExtra("transformers", "text", "a T5 text encoder") from None
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(path_or_name)
            model: Any = T5EncoderModel.from_pretrained(path_or_name, dtype=dtype)
        except Exception as error:  # of the network, the hub or any file: none can be told apart
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(
                f"text_encoder={path_or_name!r} cannot be loaded: {first}"
            ) from error
        self.model = model.eval().to(device)
        self.length = length
        self.device = device

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return float32 [B, length, width] and bool [B, length], text first."""
        batch = self.tokenizer(
            list(prompts),
            max_length=self.length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        states = self.model(batch["input_ids"], attention_mask=batch["attention_mask"])
        return states.last_hidden_state.float().cpu(), batch["attention_mask"].bool().cpu()
