"""What a drawn picture's file says of itself: enough to draw it again, bit for bit.

Matrix products differ in their last digits with the batch size, so a record names the whole batch
that a picture was drawn in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from limner.cli.asking import Picture
from limner.cli.edited import Edit
from limner.core.config import from_dict, to_dict
from limner.core.errors import ConfigError, DataError
from limner.show.png import read_settings

ASKED = ("class", "prompt", "style", "seed")
"""Settings of one picture alone; the others are those of its batch."""


@dataclass(frozen=True)
class Record:
    """How a picture was drawn.

    Args:
        limner: version.
        pipeline: folder or name on the hub.
        weights: their fingerprint, see `limner.cli.pipelines.fingerprint`.
        dtype: of the generator's weights.
        device: where it was drawn.
        settings: of this picture, as `Result.settings` has them.
        batch: all pictures that were drawn together.
        index: of this picture in its batch.
        text_encoder: weights that the prompts were read with, or None.
        edited: the edit that it is; None: drawn from nothing.
        draft: folder or name of the pipeline that drafted its steps, or None.
    """

    limner: str
    pipeline: str
    weights: str
    dtype: str
    device: str
    settings: dict[str, Any]
    batch: tuple[Picture, ...]
    index: int
    text_encoder: str | None = None
    edited: Edit | None = None
    draft: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.index < len(self.batch):
            raise ConfigError(f"index={self.index} is outside a batch of {len(self.batch)}")

    def shared_settings(self) -> dict[str, Any]:
        """Return the settings of the whole batch."""
        return {name: value for name, value in self.settings.items() if name not in ASKED}

    def as_json(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return {name: value for name, value in to_dict(self).items() if value is not None}


def read_record(path: str | os.PathLike[str]) -> Record:
    """Return the record of a drawn picture's file.

    Raises:
        DataError: the file cannot be read or holds no sound record.
    """
    values: Mapping[str, Any] = read_settings(path)
    try:
        return from_dict(Record, values)
    except ConfigError as error:
        raise DataError(f"{path}: its settings are broken: {error}") from None
