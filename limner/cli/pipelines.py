"""Pipelines as the drawing verbs hold them: loaded, and known by a fingerprint of their weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from limner.conditions.text_encoders import load_text_encoder
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
        draft: the folder or name of the pipeline that drafts its steps, or None.
    """

    pipeline: Pipeline
    source: str
    weights: str
    text_encoder: str | None = None
    draft: str | None = None

    @property
    def dtype(self) -> str:
        """Type of the generator's weights, "float32"."""
        return str(next(self.pipeline.generator.parameters()).dtype).removeprefix("torch.")

    @property
    def device(self) -> str:
        """Where the generator's weights are, "cpu" or "cuda:0"."""
        return str(self.pipeline.generator.device)


def load(
    source: str,
    device: str | None,
    dtype: str | None,
    text_encoder: str | None = None,
    draft: str | None = None,
) -> Loaded:
    """Load a pipeline.

    Args:
        source: a folder, or a name on the hub.
        device: None: the fastest there is.
        dtype: of the generator's weights; None: as saved.
        text_encoder: T5 or CLIP weights, for models that read their features.
        draft: a pipeline that drafts its steps, see `Pipeline.with_draft`.

    Raises:
        LimnerError: there is none, it is broken, or there is no such device; or the draft does not
            fit.
    """
    if draft is not None:
        return _with_draft(*(load(each, device, dtype, text_encoder) for each in (source, draft)))
    chosen = choose_device(device or "auto")
    directory = find(source)
    pipeline = Pipeline.from_pretrained(
        directory,
        dtype=None if dtype is None else getattr(torch, dtype),
        device=chosen,
        text_encoder=load_text_encoder(text_encoder, chosen) if text_encoder else None,
    )
    return Loaded(pipeline, _absolute(source), fingerprint(directory), text_encoder)


def _with_draft(target: Loaded, draft: Loaded) -> Loaded:
    weights = hashlib.sha256(f"{target.weights} {draft.weights}".encode()).hexdigest()
    pipeline = target.pipeline.with_draft(draft.pipeline)
    return replace(target, pipeline=pipeline, weights=weights, draft=draft.source)


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
