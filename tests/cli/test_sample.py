"""Drawing from the command line, and drawing a picture again from its file."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file

from limner.show import read_settings, save_png

from .conftest import pixels


def test_every_picture_is_saved_with_what_it_was_drawn_with(
    limner, tiny_pipeline, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    name = tiny_pipeline.classes[1]
    ran = limner(
        *("sample", tiny_pipeline_folder, "--class", 0, name, "--count", 2, "--seed", 5),
        *("--guidance", 1.5, "--top-k", 9, "--size", "16x24", "--output", "out", "--batch", 3),
        *("--grid", "--animation", "--device", "cpu"),
    )
    assert ran.code == 0
    word = name.casefold().replace(" & ", "-")
    names = ["activities-5", "activities-6", f"{word}-7", f"{word}-8"]
    files = [f"out/{name}.png" for name in names]
    assert ran.out.split() == [*files, "out/grid.png", "out/drawing.gif"]
    assert not list(tmp_path.glob("out/.*"))

    direct = tiny_pipeline(
        classes=[0, 0, 1, 1], seed=5, guidance=1.5, top_k=9, size=(16, 24)
    ).images
    for file, expected in zip(files, direct):
        assert pixels(Path(file)) == (expected.size, expected.tobytes())
    values = read_settings(files[2])
    assert values["settings"]["class"] == name
    assert values["settings"]["seed"] == 7
    assert values["settings"]["guidance"] == 1.5
    assert values["pipeline"] == str(tiny_pipeline_folder)
    assert len(values["weights"]) == 64
    with Image.open("out/drawing.gif") as film:
        assert film.n_frames > 4
    with Image.open("out/grid.png") as page:
        assert page.width > 2 * 4 * 24 and page.height > 2 * 4 * 16  # magnified to be seen


def test_settings_left_out_are_the_pipelines_own(
    limner, tiny_pipeline, tiny_pipeline_folder: Path
) -> None:
    assert limner("sample", tiny_pipeline_folder, "--output", ".").code == 0
    expected = tiny_pipeline()
    assert pixels(Path("picture-0.png"))[1] == expected.images[0].tobytes()
    assert read_settings("picture-0.png")["settings"] == expected.settings[0]


@pytest.mark.parametrize("preview", [True, False])
def test_a_terminal_shows_a_bar_and_the_pictures(
    limner, tiny_pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch, preview: bool
) -> None:
    screen = io.StringIO()
    terminal = partial(
        Console, file=screen, force_terminal=True, color_system="truecolor", width=100, height=40
    )
    monkeypatch.setattr("limner.cli.watch.Console", lambda stderr: terminal())
    flag = "--preview" if preview else "--no-preview"
    ran = limner("sample", tiny_pipeline_folder, "--count", 3, "--batch", 2, flag)
    assert ran.code == 0
    assert "step 16/16" in screen.getvalue()
    assert "steps/s" in screen.getvalue() and "0:00 left" in screen.getvalue()
    assert ("▀" in screen.getvalue()) == preview


def test_a_picture_is_drawn_again_bit_for_bit(limner, tiny_pipeline_folder: Path) -> None:
    words = ("--class", 0, 1, "--count", 2, "--temperature", 0.8, "--output", "out")
    assert limner("sample", tiny_pipeline_folder, *words).code == 0
    for file in sorted(Path("out").glob("*.png")):
        assert limner("sample", "--from", file, "--output", "again").code == 0
        again = Path("again") / f"{file.stem}-again.png"
        assert pixels(again) == pixels(file)
        assert read_settings(again) == read_settings(file)


def test_prompts_are_read_by_the_encoder_that_was_named(
    limner, tiny_pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[str] = []
    monkeypatch.setattr(
        "limner.cli.pipelines.load_text_encoder", lambda name, device: named.append(name)
    )
    words = ("--text-encoder", "t5", "--output", ".")
    assert limner("sample", tiny_pipeline_folder, *words).code == 0
    assert limner("sample", "--from", "picture-0.png").code == 0
    assert named == ["t5", "t5"]


def test_a_picture_that_comes_out_otherwise_is_reported(limner, tiny_pipeline_folder: Path) -> None:
    limner("sample", tiny_pipeline_folder, "--output", ".")
    with Image.open("picture-0.png") as image:
        save_png(
            image.point(lambda level: 255 - level), "other.png", read_settings("picture-0.png")
        )
    ran = limner("sample", "--from", "other.png")
    assert ran.code == 1
    assert "is not the same as other.png" in ran.err


def test_other_weights_are_noticed(limner, tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changing"
    shutil.copytree(tiny_pipeline_folder, folder)
    limner("sample", folder, "--output", ".")
    weights = folder / "model" / "model.safetensors"
    save_file({name: t * 1.5 for name, t in load_file(weights).items()}, weights, {"format": "pt"})
    ran = limner("sample", "--from", "picture-0.png")
    assert ran.code == 2
    assert "has other weights" in ran.err
    ran = limner("sample", "--from", "picture-0.png", "--pipeline", folder)
    assert ran.code == 0
    assert "is not the same" in ran.err

    shutil.move(folder, tmp_path / "moved")
    assert limner("sample", "--from", "picture-0.png").code == 2
    moved = limner("sample", "--from", "picture-0.png", "--pipeline", tiny_pipeline_folder)
    assert (moved.code, moved.err) == (0, "")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (None, "carries no settings"),
        ({"index": 9}, "index=9"),
        ({"weights": 3}, "weights=3"),
        ({"batch": []}, "index=0"),
        ({"settings": {"temperature": "hot"}}, "temperature='hot'"),
        ({"settings": {"colour": 1}}, "unknown field"),
        ({"settings": {"guidance": "Ramp()"}}, "cannot be read back"),
        ({"edited": {"picture": "a.png"}}, "edited.verb is missing"),
        ({"edited": {"verb": "refine", "picture": "a.png"}}, "refine needs keep"),
        (
            {"edited": {"verb": "refine", "picture": "a.png", "keep": 1}},
            "a.png is missing: it is the picture of this edit",
        ),
    ],
)
def test_broken_settings_in_a_picture(
    limner, tiny_pipeline_folder: Path, change: dict | None, expected: str
) -> None:
    limner("sample", tiny_pipeline_folder, "--output", ".")
    values = read_settings("picture-0.png")
    with Image.open("picture-0.png") as image:
        save_png(image, "broken.png", None if change is None else {**values, **change})
    ran = limner("sample", "--from", "broken.png")
    assert ran.code == 2
    assert expected in ran.err


def test_pictures_that_cannot_be_drawn_again(limner, tiny_pipeline_folder: Path) -> None:
    Path("text.png").write_text("no picture")
    assert "no sound PNG" in limner("sample", "--from", "text.png").err
    assert "No such file" in limner("sample", "--from", "missing.png").err
    ran = limner("sample", "--from", "text.png", "--top-k", 3)
    assert ran.code == 2
    assert "--top-k is not accepted: --from draws a picture with its own settings" in ran.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--class", "Activitis"], "did you mean 'Activities'?"),
        (["--class", "0", "1", "0", "Activitis", "--batch", "1"], "did you mean 'Activities'?"),
        (["--class", "2"], "class=2 is not accepted"),
        (["--prompt", "a cat"], "asked by class"),
        (["--size", "18x16"], "size='18x16' is not accepted: size must be multiples of 4 pixels"),
        (["--temperature", "-1"], "temperature=-1.0 is not accepted"),
        (["--top-p", "0"], "top_p=0.0 is not accepted"),
        (["--device", "tpu9"], "device='tpu9' is not accepted"),
    ],
)
def test_what_a_pipeline_cannot_draw(
    limner, tiny_pipeline_folder: Path, words: list[str], expected: str
) -> None:
    ran = limner("sample", tiny_pipeline_folder, *words)
    assert ran.code == 2
    assert expected in ran.err
    assert not Path("samples").exists()


def test_folders_that_hold_no_pipeline(limner, tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "limner.json is missing" in limner("sample", empty).err
    assert limner("sample", tmp_path / "no" / "such").code == 2

    broken = tmp_path / "broken"
    shutil.copytree(tiny_pipeline_folder, broken)
    weights = broken / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "truncated" in limner("sample", broken).err

    weights.write_bytes(whole)
    config = broken / "model" / "config.json"
    header = json.loads(config.read_text())
    header["config"]["width"] = 64
    config.write_text(json.dumps(header))
    ran = limner("sample", broken)
    assert ran.code == 2
    assert "does not fit the configuration" in ran.err
    config.write_text("{")
    assert "is not valid JSON" in limner("sample", broken).err


def test_an_output_that_cannot_be_written(limner, tiny_pipeline_folder: Path) -> None:
    Path("taken").write_text("a file")
    ran = limner("sample", tiny_pipeline_folder, "--output", "taken")
    assert ran.code == 2
    assert "cannot be written" in ran.err


def test_ctrl_c_keeps_what_is_drawn(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    words = ["sample", str(tiny_pipeline_folder), "--count", "100000", "--batch", "1", "--grid"]
    process = subprocess.Popen(
        [sys.executable, "-m", "limner", *words, "--output", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # a shell's background jobs, and so their children, ignore the signal
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        until = time.monotonic() + 60
        while len(list(tmp_path.glob("out/*.png"))) < 3:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    files = sorted((tmp_path / "out").iterdir())
    assert sorted(map(Path, out.split())) == files
    assert f"interrupted: kept {len(files)} of 100000 pictures in {tmp_path / 'out'}" in err
    assert "Traceback" not in err
    for file in files:
        assert pixels(file)[0] == (16, 16)
