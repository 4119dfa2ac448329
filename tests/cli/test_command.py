"""The command as a whole: start-up, mistakes on the command line, exit codes."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from limner import __version__


def python(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=60, **options
    )


def test_help_is_quick_and_loads_neither_torch_nor_rich() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = (
        "import sys\n"
        "from limner.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print(sorted({'torch', 'numpy', 'rich', 'PIL'} & set(sys.modules)))"
    )
    done = python("-c", code)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    assert done.stdout.endswith("[]\n")
    for verb in ("train", "sample", "edit", "convert", "verify", "models", "quickstart"):
        assert verb in done.stdout
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < 0.5


def test_module_is_the_command() -> None:
    done = python("-m", "limner", "--version")
    assert (done.returncode, done.stdout) == (0, f"limner {__version__}\n")
    done = python("-m", "limner", "smaple")
    assert done.returncode == 2
    assert "did you mean 'sample'?" in done.stderr and "Traceback" not in done.stderr


def test_a_reader_that_stops_early_is_no_mistake() -> None:
    command = f"{sys.executable} -m limner recipes | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 141)  # 0 where all was written before the reader stopped
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "required: VERB"),
        (["trian"], "unknown verb of `limner` 'trian': did you mean 'train'?"),
        (["edit"], "required: VERB"),
        (["edit", "inpaint"], "did you mean 'in-paint'?"),
        (["sample", "x", "--guidence", "2"], "did you mean '--guidance'?"),
        (["sample", "x", "--temp", "2"], "unknown option of `limner sample` '--temp'"),
        (["sample", "x", "--seed"], "--seed"),
        (["sample", "x", "--seed", "one"], "invalid int value: 'one'"),
        (["sample", "x", "--size", "32by32"], "write HEIGHTxWIDTH"),
        (["sample", "x", "--dtype", "flaot32"], "did you mean 'float32'?"),
        (["sample", "x", "--count", "0"], "count=0 is not accepted"),
        (["sample", "./x", "--class", *"abc", "--prompt", *"de"], "as many as classes, 3"),
        (["sample"], "say what to draw"),
        (["train"], "required: RECIPE"),
        (["convert", "file", "folder", "--set", "heads"], "write NAME=VALUE"),
        (["models", "--plugin", "nowhere.py"], "plugin='nowhere.py' is not accepted"),
    ],
)
def test_wrong_words(limner, words: list[str], expected: str) -> None:
    ran = limner(*words)
    assert ran.code == 2
    assert expected in ran.err


def test_mistakes_of_limner_are_one_line_and_a_hint(
    limner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("first\nsecond")

    monkeypatch.setattr("limner.recipes.list_recipes", broken)
    ran = limner("recipes")
    assert ran.code == 70
    hint = "(set LIMNER_DEBUG=1 for the trace)"
    assert ran.err == f"limner: error: ZeroDivisionError: first second {hint}\n"


def test_the_trace_is_shown_when_asked_for(
    limner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from limner.cli import main

    monkeypatch.setenv("LIMNER_DEBUG", "1")
    assert main(["train", "no/such"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_plugin_is_known_by_name(limner, few_variants: None, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from limner.core.registry import MODELS\n"
        "from limner.models.llamagen import LlamaGenConfig\n"
        "MODELS.variant('my-own', 'llamagen', LlamaGenConfig(32, 1, 2))\n"
    )
    assert "my-own" not in limner("models").out
    assert "my-own" in limner("models", "--plugin", plugin).out


def test_a_broken_plugin_is_named(limner, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text("import no_such_module\n")
    ran = limner("models", "--plugin", plugin)
    assert ran.code == 2
    assert "mine.py" in ran.err and "no_such_module" in ran.err
    note = tmp_path / "mine.txt"
    note.write_text("not Python")
    assert limner("models", "--plugin", note).code == 2
