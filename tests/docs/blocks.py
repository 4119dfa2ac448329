"""Blocks of code in pages, and how they are run.

A comment before a block says what is done with it; readers never see it:

    <!-- run -->            the block is run, in the order of the page, in one folder
    <!-- run: NAME -->      so are its commands, with the small settings of that name behind them
    <!-- file: NAME -->     the block is written to a file

Python blocks of a page share their names; of shell blocks, only `limner` is run.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from limner.cli import main
from limner.core.registry import MODELS, TOKENIZERS

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"^<!-- (?P<verb>run|file)(?:: (?P<name>[^>]+?))? -->\n+"
    r"```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A marked block.

    Args:
        page: relative to the root of the repository.
        line: of its first line of code, from 1.
        verb: "run" or "file".
        name: of the small settings, or of the file; "" where there is none.
        language: as written behind the fence.
        text: the code.
    """

    page: str
    line: int
    verb: str
    name: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str) -> Iterator[Block]:
    """Yield the marked blocks of a page of the repository, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("text")) + 1
        parts = found["verb"], found["name"] or "", found["language"], found["text"]
        yield Block(page, line, *parts)


def commands_of(block: Block) -> list[list[str]]:
    """Return the words of every command of a shell block."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run_page(page: str, small: Mapping[str, Sequence[str]]) -> None:
    """Run the marked blocks of a page in the current folder.

    Args:
        small: name -> options that make a command small.
    """
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks_of(page):
        if block.verb == "file":
            Path(block.name).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            # as many lines before the code as in the page: errors then name the page's line
            code = compile("\n" * (block.line - 1) + block.text, str(ROOT / page), "exec")
            exec(code, names)
        else:
            for words in commands_of(block):
                assert words[0] == "limner", f"{block}: only limner is run, not {words[0]}"
                options = small[block.name] if block.name else ()
                code = main([*words[1:], *options])
                assert code == 0, f"{block}: {shlex.join(words)} ended with {code}"


@contextmanager
def workplace(folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """Enter a folder whose modules can be imported; what is registered there is forgotten after."""
    for registry in (MODELS, TOKENIZERS):
        registry.families()  # all that comes along is known before
    with pytest.MonkeyPatch.context() as patch:
        for registry in (MODELS, TOKENIZERS):
            for known in ("_families", "_variants"):
                patch.setattr(registry, known, dict(getattr(registry, known)))
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        yield patch
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
