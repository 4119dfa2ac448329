"""Checkpoints on the hub, with the hub played by a fake."""

import sys
from types import SimpleNamespace

import pytest

from limner.core.errors import CheckpointError, MissingExtra
from limner.hub.remote import push, resolve, resolve_file


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that holds one repository, "ann/model", and remembers what was uploaded."""
    repository = tmp_path / "cache"
    repository.mkdir()
    (repository / "vq.pt").write_text("weights")
    calls = []

    class Api:
        def create_repo(self, name, private, exist_ok):
            calls.append(("create", name, private))
            return f"https://hub/{name}"

        def upload_folder(self, **arguments):
            calls.append(("upload", arguments))

    def snapshot_download(name, revision, allow_patterns):
        if name != "ann/model":
            raise ConnectionError("the hub is out of reach\nRequest ID: 7")
        calls.append(("download", revision))
        return str(repository)

    def hf_hub_download(name, file, revision):
        return str(repository / file)

    fake = SimpleNamespace(
        HfApi=Api, snapshot_download=snapshot_download, hf_hub_download=hf_hub_download
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return SimpleNamespace(repository=repository, calls=calls, api=Api)


def test_a_directory_is_itself(hub, tmp_path):
    assert resolve(tmp_path) == tmp_path
    assert hub.calls == []


def test_a_name_is_downloaded(hub):
    assert resolve("ann/model", revision="v1") == hub.repository
    assert hub.calls == [("download", "v1")]
    assert resolve_file("ann/model/vq.pt").read_text() == "weights"


def test_failures_are_one_line(hub):
    with pytest.raises(CheckpointError, match="could not be downloaded: ConnectionError") as error:
        resolve("ann/other")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["nowhere", "./nowhere/there", "/nowhere", "a/b/c", ""])
def test_neither_directory_nor_name(hub, name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if name == "":
        name = tmp_path / "file.txt"
        name.write_text("")
    with pytest.raises(CheckpointError, match="neither a directory nor"):
        resolve(name)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"limner\[hub\]"):
        resolve("ann/model")


def test_push_uploads_the_directory(hub, tmp_path):
    part = tmp_path / "part"
    part.mkdir()
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        push(part, "ann/new")
    (part / "limner.json").write_text("{}")
    with pytest.raises(CheckpointError, match="user/name"):
        push(part, "new")
    assert push(part, "ann/new", private=True, message="first") == "https://hub/ann/new"
    (create, (upload, arguments)) = hub.calls
    assert create == ("create", "ann/new", True) and upload == "upload"
    assert arguments["folder_path"] == str(part) and arguments["repo_id"] == "ann/new"
    assert arguments["commit_message"] == "first"


def test_a_failed_upload_is_explained(hub, tmp_path, monkeypatch):
    def refuse(self, **arguments):
        raise PermissionError("no write token")

    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(hub.api, "upload_folder", refuse)
    with pytest.raises(CheckpointError, match="could not be uploaded: PermissionError: no write"):
        push(tmp_path, "ann/new")
