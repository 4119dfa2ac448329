"""Checkpoints by name: on this machine, or on the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from limner.core.errors import CheckpointError, load_extra
from limner.hub.shipped import shipped

INDEX = "limner.json"
_REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_REPOSITORY_FILE = re.compile(r"([\w][\w.-]*/[\w][\w.-]*)/(.+)")
_FILES = ["*.json", "*.safetensors", "*.md", "*.txt"]


def resolve(path_or_name: str | Path, revision: str | None = None) -> Path:
    """Return the local directory of a checkpoint; one on the hub is downloaded first.

    Args:
        path_or_name: a directory, the name of what comes with the package ("emoji"), or a hub id
            "user/name".
        revision: branch, tag or commit on the hub.

    Raises:
        CheckpointError: there is no such directory, or the download failed.
        MissingExtra: huggingface_hub is not installed.
    """
    local = Path(path_or_name).expanduser()
    if local.is_dir():
        return local
    name = str(path_or_name)
    in_package = shipped(name)
    if in_package is not None:
        return in_package
    if local.exists() or not _REPOSITORY.fullmatch(name):
        raise CheckpointError(
            f"{name!r} is neither a directory nor the id of a checkpoint on the hub (user/name)"
        )
    return _downloaded(
        name,
        lambda hub: hub.snapshot_download(name, revision=revision, allow_patterns=_FILES),
    )


def resolve_file(path_or_name: str | Path, revision: str | None = None) -> Path:
    """Return the local path of a file; "user/name/path/in/repository" is downloaded first.

    Raises:
        CheckpointError: there is no such file, or the download failed.
        MissingExtra: huggingface_hub is not installed.
    """
    local = Path(path_or_name).expanduser()
    if local.is_file():
        return local
    name = str(path_or_name)
    remote = _REPOSITORY_FILE.fullmatch(name)
    if local.exists() or remote is None:
        raise CheckpointError(
            f"{name!r} is neither a file nor the name of one on the hub (user/name/file)"
        )
    repository, file = remote.groups()
    return _downloaded(name, lambda hub: hub.hf_hub_download(repository, file, revision=revision))


def push(
    directory: str | Path,
    repository: str,
    private: bool = False,
    message: str = "Upload with limner",
    revision: str | None = None,
) -> str:
    """Upload a checkpoint to the hub, making the repository if there is none; return its address.

    Args:
        directory: a saved pipeline or part.
        repository: hub id "user/name".
        private: who may see a repository that is made now.
        message: of the commit.
        revision: branch to write to; None: the main one.

    Raises:
        CheckpointError: the directory holds no checkpoint, or the upload failed.
        MissingExtra: huggingface_hub is not installed.
    """
    directory = Path(directory)
    if not any((directory / name).is_file() for name in (INDEX, "config.json")):
        raise CheckpointError(f"{directory} holds no checkpoint: neither {INDEX} nor config.json")
    if not _REPOSITORY.fullmatch(repository):
        raise CheckpointError(f"repository={repository!r} is not accepted: it must be user/name")
    hub = _hub("uploading")
    try:
        api = hub.HfApi()
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            folder_path=str(directory),
            repo_id=repository,
            commit_message=message,
            revision=revision,
            ignore_patterns=["*.tmp", ".*"],
        )
    except Exception as error:  # of the network, the server or the account: none can be told apart
        raise CheckpointError(f"{repository} could not be uploaded: {_first(error)}") from error
    return str(address)


def _downloaded(name: str, download: Callable[[Any], str]) -> Path:
    hub = _hub("downloading")
    try:
        return Path(download(hub))
    except Exception as error:  # of the network, the server or the account: none can be told apart
        raise CheckpointError(
            f"{name!r} does not exist here, and could not be downloaded: {_first(error)}"
        ) from error


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _hub(purpose: str) -> Any:
    return load_extra("huggingface_hub", "hub", f"{purpose} checkpoints")
