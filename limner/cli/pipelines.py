"""Pipelines as the drawing verbs hold them: loaded, and known by a fingerprint of their weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from limner.conditions.t5 import T5TextEncoder
from limner.hub.convert import sha256
from limner.pipeline import Pipeline, find
from limner.pipeline.device import choose_device


@dataclass(frozen=True)
class Loaded:
    """A pipeline and where it comes from.

    Args:
        pipeline: ready to draw.
        source: its folder, or its name on the hub.
        weights: fingerprint.
        text_encoder: T5 weights that prompts are read with, or None.
    """

    pipeline: Pipeline
    source: str
    weights: str
    text_encoder: str | None = None

    @property
    def dtype(self) -> str:
        """Type of the generator's weights, "float32"."""
        return str(next(self.pipeline.generator.parameters()).dtype).removeprefix("torch.")

    @property
    def device(self) -> str:
        """Where the generator's weights are, "cpu" or "cuda:0"."""
        return str(self.pipeline.generator.device)


def load(
    source: str, device: str | None, dtype: str | None, text_encoder: str | None = None
) -> Loaded:
    """Load a pipeline.

    Args:
        source: a folder, or a name on the hub.
        device: None: the fastest there is.
        dtype: of the generator's weights; None: as saved.
        text_encoder: T5 weights, for models that read their features.

    Raises:
        LimnerError: there is none, it is broken, or there is no such device.
    """
    chosen = choose_device(device or "auto")
    directory = find(source)
    pipeline = Pipeline.from_pretrained(
        directory,
        dtype=None if dtype is None else getattr(torch, dtype),
        device=chosen,
        text_encoder=T5TextEncoder(text_encoder, device=chosen) if text_encoder else None,
    )
    return Loaded(pipeline, _absolute(source), fingerprint(directory), text_encoder)


def _absolute(source: str) -> str:
    """Return the full path of a folder; a name on the hub stays as it is."""
    local = Path(source).expanduser()
    return str(local.resolve()) if local.is_dir() else source


def fingerprint(directory: Path) -> str:
    """Return the SHA-256 over the names and checksums of a pipeline's files of weights."""
    digest = hashlib.sha256()
    for file in sorted(directory.glob("*/*.safetensors")):
        digest.update(f"{file.relative_to(directory).as_posix()} {sha256(file)}\n".encode())
    return digest.hexdigest()
