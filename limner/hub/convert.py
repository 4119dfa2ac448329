"""Official weights into limner's own format."""

from __future__ import annotations

import argparse
import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner.core.errors import CheckpointError, unknown
from limner.hub.build import check_fits, parameter_count, shown
from limner.hub.official import Converter, converters
from limner.hub.remote import resolve_file
from limner.hub.save import cast, read_header, read_json, read_tensors, write_part

WRAPPERS = (
    "model",
    "module",
    "state_dict",
    "model_state_dict",
    "trainer",
    "ema_parameters",
    "var_wo_ddp",
    "gpt_fsdp",
    "vae",
    "sd",
)
INDEX = ".index.json"
_PREFIXES = ("module.", "_orig_mod.")
_HARMLESS = (argparse.Namespace,)  # training arguments, kept beside the weights in some files


@dataclass(frozen=True)
class Converted:
    """What a conversion made.

    Args:
        directory: where it was written.
        system: whose official weights these are.
        kind: "model" or "tokenizer".
        family: of the part.
        variant: published name of its configuration, if it has one.
        parameters: how many.
        source: the official file.
        sha256: of the official file.
        licence: of the official weights.
    """

    directory: str
    system: str
    kind: str
    family: str
    variant: str | None
    parameters: int
    source: str
    sha256: str
    licence: str


def convert(
    source: str | Path,
    destination: str | Path,
    system: str | None = None,
    given: Mapping[str, Any] | None = None,
    ema: bool = False,
    dtype: torch.dtype | None = None,
) -> Converted:
    """Turn a file of official weights into a part in limner's format.

    Args:
        source: a .pt, .pth, .ckpt, .bin or .safetensors file, or "user/name/file" on the hub; of
            weights in shards, their index (.index.json), beside which they lie.
        destination: directory to be written.
        system: whose weights these are; None: told by the names of the tensors.
        given: fields of the configuration that the weights do not tell, {"heads": 16}.
        ema: take the averaged weights of a training file.
        dtype: of floating-point weights; None: as they are stored.

    Raises:
        CheckpointError: the file is missing, broken, unsafe or of no known system.
        ConfigError: a field can neither be inferred nor was given.
    """
    path = resolve_file(source)
    state = read_official(path, ema)
    converter = detect(state) if system is None else _by_name(system)
    config = converter.config(state, given)
    module = converter.blank(config)
    tensors = converter.ours(config, state)
    check_fits(module.state_dict(), tensors, str(path))
    write_part(module, {name: cast(t, dtype) for name, t in tensors.items()}, destination)
    header = read_header(destination)
    return Converted(
        directory=str(destination),
        system=converter.system,
        kind=header["kind"],
        family=converter.family,
        variant=header["variant"],
        parameters=parameter_count(module),
        source=str(source),
        sha256=sha256(path),
        licence=converter.licence,
    )


def read_official(path: Path, ema: bool = False) -> dict[str, Tensor]:
    """Return the state dict of an official file; no code of the file is ever run.

    Raises:
        CheckpointError: the file is missing or broken, or wants to load more than tensors.
    """
    if path.name.endswith(INDEX):
        shards = [read_official(shard) for shard in shards_of(path)]
        return {name: tensor for shard in shards for name, tensor in shard.items()}
    if path.suffix == ".safetensors":
        return _without_prefix(read_tensors(path))
    try:
        # mapped into memory where the format allows it: big files are then read only once
        with torch.serialization.safe_globals(list(_HARMLESS)):
            content = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(path, str(error))) from None
    except (RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        first = str(error).splitlines()[:1] or [type(error).__name__]
        raise CheckpointError(f"{path} cannot be read: {first[0]}") from None
    return _without_prefix(_unwrapped(path, content, ema))


def shards_of(index: Path) -> list[Path]:
    """Return the files that an index of sharded weights names; they lie beside it.

    Raises:
        CheckpointError: the index is broken, or a file is missing or lies elsewhere.
    """
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise CheckpointError(f"{index} is broken: weight_map must name the file of every tensor")
    files = [index.parent / name for name in sorted(set(shards.values()))]
    lost = [file.name for file in files if file.parent != index.parent or not file.is_file()]
    if lost:
        raise CheckpointError(f"{index} names files that are not beside it: {shown(lost)}")
    return files


def detect(state: Mapping[str, Tensor]) -> Converter:
    """Return the converter whose marks all occur; among several the one with the most marks.

    Raises:
        CheckpointError: no system is known by these names.
    """
    fits = [c for c in converters().values() if all(mark in state for mark in c.marks)]
    if not fits:
        raise CheckpointError(
            f"no known system has tensors like {shown(state)}; "
            f"known systems: {', '.join(sorted(converters()))}"
        )
    return max(fits, key=lambda converter: len(converter.marks))


def sha256(path: Path) -> str:
    """Return the SHA-256 checksum of a file, or of all the shards of an index, in hexadecimal."""
    digest = hashlib.sha256()
    for part in shards_of(path) if path.name.endswith(INDEX) else [path]:
        with part.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _by_name(system: str) -> Converter:
    known = converters()
    if system not in known:
        raise unknown("system", system, known)
    return known[system]


def _refusal(path: Path, reason: str) -> str:
    wanted = re.search(r"GLOBAL ([\w.]+)", reason)
    if wanted is None:
        return f"{path} is refused: it is broken, or holds more than tensors"
    return (
        f"{path} is refused: it wants to load {wanted.group(1)}, and a file of weights must hold "
        "tensors only (anything else may run code)"
    )


def _unwrapped(path: Path, content: Any, ema: bool) -> dict[str, Tensor]:
    if ema:
        if not isinstance(content, Mapping) or "ema" not in content:
            raise CheckpointError(f"{path} holds no averaged weights (no 'ema')")
        content = content["ema"]
    while isinstance(content, Mapping):
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return dict(content)
        inner = next((name for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            break
        content = content[inner]
    raise CheckpointError(
        f"{path} holds no state dict, neither bare nor under {', '.join(WRAPPERS)}"
    )


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove what data-parallel and compiled modules put before every name."""
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            return _without_prefix({name[len(prefix) :]: t for name, t in state.items()})
    return state
