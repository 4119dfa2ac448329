"""What frozen text encoders of the `transformers` package have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from limner.core.errors import CheckpointError, load_extra


class FrozenTextEncoder:
    """Base: a tokenizer and an encoder, read from weights the user has.

    Args:
        path_or_name: directory (or hub name) with the tokenizer and the encoder's weights.
        length: tokens a prompt is padded or cut to; None: as many as its models read.
        device: where it runs.
        dtype: of its weights.

    Attributes:
        KIND: what messages call it.
        MODEL: the encoder's class in `transformers`.
        LENGTH: tokens that its models read.

    Raises:
        MissingExtra: transformers is not installed.
        CheckpointError: the weights cannot be loaded.
    """

    KIND: ClassVar[str]
    MODEL: ClassVar[str]
    LENGTH: ClassVar[int]

    def __init__(
        self,
        path_or_name: str,
        length: int | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        transformers = load_extra("transformers", "text", f"a {self.KIND} text encoder")
        try:
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(path_or_name)
            encoder = getattr(transformers, self.MODEL)
            model: Any = encoder.from_pretrained(path_or_name, dtype=dtype)
        except Exception as error:  # of the network, the hub or any file: none can be told apart
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(
                f"text_encoder={path_or_name!r} cannot be loaded: {first}"
            ) from error
        self.model = model.eval().to(device)
        self.length = self.LENGTH if length is None else length
        self.device = device

    def tokens(self, prompts: Sequence[str]) -> Any:
        """Return the prompts' tokens, "input_ids", and which are text, "attention_mask"."""
        return self.tokenizer(
            list(prompts),
            max_length=self.length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
