"""limner's own checkpoint format: one directory a part, `config.json` and `model.safetensors`.

`config.json` is `{"limner": 1, "kind": "model" or "tokenizer", "family": ..., "variant": published
name or null, "config": {...}}`. A tensor that two modules share is stored once.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from limner.core.config import from_dict, to_dict
from limner.core.errors import CheckpointError, ConfigError, DataError
from limner.core.files import replaced
from limner.core.registry import MODELS, TOKENIZERS, Registry
from limner.core.tokenizer import Tokenizer
from limner.hub.build import blank, fill, tied
from limner.hub.files import written_whole

FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def save_part(module: nn.Module, directory: str | Path) -> None:
    """Write a model or a tokenizer, whole or not at all.

    Args:
        module: built by a registered family.
        directory: new, empty, or holding an older save of a part.

    Raises:
        ConfigError: the module's class is not registered.
        CheckpointError: the directory cannot be written, or holds other files.
    """
    write_part(module, module.state_dict(), directory)


def write_part(module: nn.Module, tensors: Mapping[str, Tensor], directory: str | Path) -> None:
    """Write a part whose weights are `tensors`; the module itself may be a blank one.

    Raises:
        ConfigError: the module's class is not registered.
        CheckpointError: the directory cannot be written, or holds other files.
    """
    registry = TOKENIZERS if isinstance(module, Tokenizer) else MODELS
    family = registry.family_of(module)
    header = {
        "limner": FORMAT,
        "kind": registry.kind,
        "family": family.name,
        "variant": variant_of(registry, family.name, module.config),
        "config": to_dict(module.config),
    }
    with written_whole(directory) as temporary:
        text = json.dumps(header, indent=2, ensure_ascii=False) + "\n"
        (temporary / CONFIG).write_text(text, encoding="utf-8")
        try:
            save_file(_stored(module, tensors), temporary / WEIGHTS, metadata={"format": "pt"})
        except SafetensorError as error:
            raise CheckpointError(f"{directory} cannot be written: {error}") from None
        # safetensors makes files that only their owner can read
        shutil.copymode(temporary / CONFIG, temporary / WEIGHTS)


def replace_weights(module: nn.Module, tensors: Mapping[str, Tensor], directory: Path) -> None:
    """Write other weights of a part that `save_part` wrote; a reader finds the old or the new.

    Raises:
        CheckpointError: they cannot be written; the old ones are as they were.
    """
    try:
        with replaced(directory / WEIGHTS) as temporary:
            save_file(_stored(module, tensors), temporary, metadata={"format": "pt"})
            shutil.copymode(directory / CONFIG, temporary)
    except (SafetensorError, DataError) as error:
        raise CheckpointError(f"{directory} cannot be written: {error}") from None


def fingerprint(module: nn.Module) -> str:
    """Return a text that changes whenever the configuration or a weight of a part does."""
    digest = hashlib.sha256(json.dumps(to_dict(module.config), sort_keys=True).encode())
    for name, tensor in sorted(module.state_dict().items()):
        content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(content.data)
    return digest.hexdigest()[:32]


def load_part(
    directory: str | Path,
    registry: Registry,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Any:
    """Read a part, in evaluation mode; its weights are in memory only once.

    Args:
        registry: `MODELS` or `TOKENIZERS`.
        dtype: of floating-point weights; None: as stored, but float32 instead of float16 on the
            CPU, where half precision is slow and coarse.
        device: None: the CPU.

    Raises:
        CheckpointError: files are missing or broken, come from a newer limner, name an unknown
            family, or do not fit the configuration.
    """
    directory = Path(directory)
    header = read_header(directory, registry.kind)
    try:
        family = registry.get_family(header["family"])
        config: Any = from_dict(family.config, header["config"], "config")
        module = blank(family, config)
    except ConfigError as error:
        raise CheckpointError(f"{directory / CONFIG}: {error}") from None
    tensors = read_tensors(directory / WEIGHTS, dtype, device)
    if dtype is None and torch.device(device or "cpu").type == "cpu":
        halves = {name: t for name, t in tensors.items() if t.dtype == torch.float16}
        tensors |= {name: tensor.float() for name, tensor in halves.items()}
    fill(module, tensors, str(directory / WEIGHTS))
    if device is not None:
        module.to(device)
    return module.eval()


def read_header(directory: str | Path, kind: str | None = None) -> dict[str, Any]:
    """Return a part's `config.json` as a mapping.

    Args:
        kind: "model" or "tokenizer", where only that will do.

    Raises:
        CheckpointError: it is missing, broken, of another kind or from a newer limner.
    """
    path = Path(directory) / CONFIG
    header = read_json(path)
    version = header.get("limner")
    if not isinstance(version, int):
        raise CheckpointError(
            f"{path} was not written by limner (convert official weights with `limner convert`)"
        )
    if version > FORMAT:
        raise CheckpointError(
            f"{path} was written by a newer limner (format {version}, this one reads up to "
            f"{FORMAT}): upgrade limner"
        )
    for field, accepted in (("kind", str), ("family", str), ("config", dict)):
        if not isinstance(header.get(field), accepted):
            raise CheckpointError(f"{path}: the field {field!r} is missing or broken")
    if kind is not None and header["kind"] != kind:
        raise CheckpointError(f"{directory} holds a {header['kind']}, and a {kind} is needed")
    return header


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON file that holds a mapping.

    Raises:
        CheckpointError: it is missing or broken.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is broken: it must hold a mapping")
    return content


def read_tensors(
    path: Path, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, mapped into memory where nothing is converted.

    Raises:
        CheckpointError: it is missing, truncated or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt", device=str(device or "cpu")) as file:
            return {name: cast(file.get_tensor(name), dtype) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path} is truncated or no safetensors file: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None


def variant_of(registry: Registry, family: str, config: Any) -> str | None:
    """Return the published name of a configuration, or None if it is not a published one."""
    for variant in registry.variants():
        if variant.family == family and variant.config == config:
            return variant.name
    return None


def cast(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Return a tensor in another dtype if it is of floating point and one is given."""
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def _stored(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors that share no memory, a tied one under its first name only."""
    stored: dict[str, Tensor] = {}
    storages: set[int] = set()
    for first, *_ in tied(module):
        tensor = tensors[first].detach().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in storages or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        storages.add(tensor.untyped_storage().data_ptr())
        stored[first] = tensor
    return stored
