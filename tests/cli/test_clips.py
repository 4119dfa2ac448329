"""Clips from the command line: drawn, gone on with, drawn again, trained on and measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageSequence

from limner.data import Window, open_clips
from limner.data.films import open_film
from limner.data.source import collect
from limner.heads.denoising import DenoisingConfig
from limner.layers.vision_transformer import StackConfig
from limner.models.acdit import ACDiT, ACDiTConfig
from limner.pipeline import Pipeline
from limner.show import read_settings
from limner.show.images import to_images
from limner.tokenizers.clip_patches import ClipContinuous, ClipContinuousConfig

SIDE = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A pipeline of clips: 4 frames of 16 px, two classes."""
    source = open_clips("moving-twemoji", Window(4), ["Activities", "Flags"])
    tokenizer = ClipContinuous(ClipContinuousConfig(4, patch=8, width=8))
    tokenizer.fit(collect(source.at(range(40)), SIDE).to_float(), torch.Generator())
    config = ACDiTConfig(
        StackConfig(64, 1, 1), DenoisingConfig(steps=2), 8, block=4, square=False, classes=2
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("clips") / "pipeline"
    Pipeline(tokenizer, ACDiT(config), source.classes, (SIDE, SIDE)).save_pretrained(path)
    yield path


def frames_of(path: Path) -> list[Image.Image]:
    with Image.open(path) as film:
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(film)]


def test_a_clip_is_a_gif_and_a_picture_of_its_frames(limner, folder: Path) -> None:
    words = ("sample", folder, "--class", "Flags", "Activities", "--seed", 4, "--device", "cpu")
    ran = limner(*words, "--output", "out")
    assert ran.code == 0
    names = ["out/flags-4", "out/activities-5"]
    assert ran.out.split() == [f"{name}.png" for name in names] + [f"{name}.gif" for name in names]
    with Image.open("out/flags-4.png") as row:
        assert row.size == (4 * SIDE, SIDE)
        first = row.convert("RGB").crop((0, 0, SIDE, SIDE))
    film = frames_of(Path("out/flags-4.gif"))
    assert len(film) == 4 and film[0].size == (SIDE, SIDE)
    direct = Pipeline.from_pretrained(folder)(classes=["Flags", "Activities"], seed=4)
    assert first.tobytes() == direct.clips[0][0].tobytes()
    assert read_settings("out/flags-4.png")["settings"]["frames"] == 4

    ran = limner("sample", "--from", "out/flags-4.png", "--output", "again", "--device", "cpu")
    assert ran.code == 0 and ran.err == ""
    assert ran.out.split() == ["again/flags-4-again.png", "again/flags-4-again.gif"]


def test_a_clip_is_written_where_it_is_wanted(limner, folder: Path) -> None:
    words = ("sample", folder, "--frames", 6, "--fps", 12, "--device", "cpu")
    ran = limner(*words, "--out", "made/a clip.mp4")
    assert ran.code == 0
    assert sorted(path.name for path in Path("made").iterdir()) == ["a clip.mp4", "a clip.png"]
    film = open_film(Path("made/a clip.mp4"))
    assert film.length() == 6
    ran = limner(*words, "--count", 2, "--out", "two/clip.gif")
    assert ran.code == 0
    names = sorted(path.name for path in Path("two").iterdir())
    assert names == [f"clip-picture-{i}.{kind}" for i in (0, 1) for kind in ("gif", "png")]


def test_a_clip_goes_on_from_first_frames(limner, folder: Path) -> None:
    clip = collect(open_clips("moving-noto", Window(3)).at([7]), SIDE).to_float()[0]
    Path("first").mkdir()
    for number, image in enumerate(to_images(clip)):
        image.save(f"first/{number}.png")
    words = ("sample", folder, "--first-frames", "first", "--device", "cpu", "--seed", 1)
    ran = limner(*words, "--given", 2, "--output", "out")
    assert ran.code == 0
    pipeline = Pipeline.from_pretrained(folder)
    direct = pipeline.continue_clip(clip[:2], seed=1)
    with Image.open("out/picture-1.png") as row:
        assert row.convert("RGB").tobytes() == direct.images[0].tobytes()
    refused = limner("sample", "--from", "out/picture-1.png", "--out", "other.gif")
    assert refused.code == 2 and "--out is not accepted" in refused.err
    again = limner("sample", "--from", "out/picture-1.png", "--output", "again", "--device", "cpu")
    assert again.code == 0 and again.err == ""
    Image.new("RGB", (SIDE, SIDE)).save("first/1.png")
    changed = limner("sample", "--from", "out/picture-1.png", "--device", "cpu")
    assert changed.code == 2 and "has changed" in changed.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", "clip.avi"), "a name that ends in .gif or .mp4"),
        (("--given", "2"), "it counts frames of --first-frames"),
        (("--first-frames", "nowhere"), "nowhere does not exist"),
        (("--frames", "0"), "frames=0 is not accepted"),
        (("--out", "clip.gif", "--fps", "0"), "fps=0.0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(limner, folder: Path, words, message: str) -> None:
    ran = limner("sample", folder, "--device", "cpu", *words)
    assert ran.code == 2 and message in ran.err


def test_pictures_have_no_frames(limner, tiny_pipeline_folder: Path) -> None:
    for words, message in (
        (("--out", "clip.gif"), "--out is not accepted: this pipeline draws pictures"),
        (("--frames", 4), "frames must be left out: this pipeline draws pictures"),
    ):
        ran = limner("sample", tiny_pipeline_folder, "--class", 0, "--device", "cpu", *words)
        assert ran.code == 2 and message in ran.err


def test_drawn_clips_are_measured(limner, folder: Path) -> None:
    ran = limner("sample", folder, "--class", 0, 1, "--count", 6, "--output", "drawn")
    assert ran.code == 0
    words = ("--frames", 4, "--size", SIDE, "--resamples", 20, "--device", "cpu")
    ran = limner("eval", "moving-fluent", "drawn", *words, "--most-real", 40, "--output", "eval")
    assert ran.code == 0, ran.err
    assert "FD (limner features of frames and their differences)" in ran.out
    assert "whether clips show their class, or copy others, is not measured" in ran.err
    assert (Path("eval") / "report.html").is_file()

    small = ("--samples", 12, "--batch", 6, "--resamples", 20, "--most-real", 40)
    words = ("eval", folder, "--real", "moving-twemoji", *small, "--device", "cpu")
    ran = limner(*words, "--output", "run")
    assert ran.code == 0, ran.err
    told = json.loads((Path("run") / "eval.json").read_text())
    assert told["protocol"]["drawing"]["frames"] == 4
    assert Path("run/samples/shard-00000.npz").is_file()

    ran = limner("eval", "twemoji", "run/samples", "--size", SIDE, "--device", "cpu")
    assert ran.code == 2
    assert "holds pictures, and clips of 4 frames are to be measured" in ran.err
    ran = limner(*words, "--output", "run", "--stride", 0)
    assert ran.code == 2 and "stride=0" in ran.err


def test_a_recipe_of_clips_is_checked_before_work_starts(limner, tmp_path: Path) -> None:
    small = ("--data.size", 16, "--device", "cpu", "--output", "run")
    for words, message in (
        (
            ("train", "nar/clip-tiny", "--data.frames", 0, "--data.source", "twemoji"),
            "data.frames=0",
        ),
        (("train", "nar/clip-tiny", "--data.frames", 7), "frames=7 is not accepted"),
        (
            ("train", "nar/tiny", "--data.frames", 4, "--data.source", "moving-noto"),
            "data.frames=4",
        ),
        (
            ("train", "ar-diffusion/clip-tiny", "--model.config.frames", 12),
            "frames must be 12 or more, the frames of the window",
        ),
        (("train", "acdit/clip-tiny", "--model.config.block", 5), "block=5"),
    ):
        ran = limner(*words, *small)
        assert ran.code == 2 and message in ran.err, ran.err
        assert not (tmp_path / "run" / "tokens").exists()
