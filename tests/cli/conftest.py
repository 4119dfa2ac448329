"""The command, called within the test's own process or as a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from limner.cli import main
from limner.core.registry import MODELS, TOKENIZERS


class Ran(NamedTuple):
    """What a call of the command did."""

    code: int
    out: str
    err: str


Command = Callable[..., Ran]


@pytest.fixture
def limner(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    """Call the command in an empty folder; a mistake must be said in one line, without a trace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIMNER_DEBUG", raising=False)

    def run(*words: object) -> Ran:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        if code == 2:
            assert captured.err.startswith("limner: error: ")
            assert captured.err.count("\n") == 1
        assert "Traceback" not in captured.err
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def few_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one model and one tokenizer are known: counting the big ones takes seconds."""
    for registry, name in ((MODELS, "llamagen-b"), (TOKENIZERS, "llamagen-vq-16")):
        monkeypatch.setattr(registry, "_variants", {name: registry.get_variant(name)})


def pixels(path: Path) -> tuple[tuple[int, int], bytes]:
    """Return size and bytes of a picture's file."""
    with Image.open(path) as image:
        return image.size, image.tobytes()
