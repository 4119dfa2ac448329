"""T5 text features, from weights the user has (LlamaGen's text models read flan-t5-xl)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from limner.conditions.frozen_text import FrozenTextEncoder
from limner.core.errors import CheckpointError

PLACEHOLDER = "<extra_id_0>"
"""A token of every T5 that texts do not use: it stands where a word is that T5 does not know."""


class T5TextEncoder(FrozenTextEncoder):
    """A frozen T5 encoder of the `transformers` package."""

    KIND, MODEL, LENGTH = "T5", "T5EncoderModel", 120

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
        batch = self.tokens(prompts)
        ids, present = batch["input_ids"], batch["attention_mask"]
        states = self.model(ids, attention_mask=present)
        return states.last_hidden_state.float().cpu(), present.bool().cpu(), ids.cpu()
