"""T5 text features, from weights the user has (LlamaGen's text models read flan-t5-xl)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limner.core.errors import CheckpointError, MissingExtra

PLACEHOLDER = "<extra_id_0>"
"""A token of every T5 that texts do not use: it stands where a word is that T5 does not know."""


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

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return float32 [B, length, width] and bool [B, length], text first."""
        features, present, _ = self._read(prompts)
        return features, present

    def encode_around(self, prompts: Sequence[str], word: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `encode` does, and where the first of a word stands that T5 does not know.

        Args:
            word: read as `PLACEHOLDER`.

        Returns:
            The places are int64 [B], -1 where the word is absent.

        Raises:
            CheckpointError: the tokenizer knows no placeholder.
        """
        placeholder = self.tokenizer.convert_tokens_to_ids(PLACEHOLDER)
        if placeholder in (None, self.tokenizer.unk_token_id):
            raise CheckpointError(f"the text encoder's tokenizer has no token {PLACEHOLDER}")
        marked = [prompt.replace(word, PLACEHOLDER) for prompt in prompts]
        features, present, ids = self._read(marked)
        here = ids == placeholder
        places = torch.where(here.any(1), here.long().argmax(1), -1)
        return features, present, places

    @torch.no_grad()
    def _read(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Return features, which are present, and the prompts' tokens, on the CPU."""
        batch = self.tokenizer(
            list(prompts),
            max_length=self.length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        ids, present = batch["input_ids"], batch["attention_mask"]
        states = self.model(ids, attention_mask=present)
        return states.last_hidden_state.float().cpu(), present.bool().cpu(), ids.cpu()
