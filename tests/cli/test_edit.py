"""Edits from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limner.data import load_packaged
from limner.pipeline import Pipeline
from limner.show import read_settings, to_images

SIZE = 16


@pytest.fixture
def picture(limner) -> Image.Image:
    image = to_images(load_packaged(size=SIZE).to_float([0]))[0]
    image.save("picture.png")
    return image


def draw_mask(
    white: tuple[int, int, int, int] | None, size: tuple[int, int] = (SIZE, SIZE)
) -> None:
    mask = Image.new("L", size, 0)
    if white is not None:
        mask.paste(255, white)
    mask.save("mask.png")


def test_only_what_the_mask_marks_is_drawn_anew(
    limner, tiny_pipeline, tiny_pipeline_folder: Path, picture: Image.Image
) -> None:
    draw_mask((8, 0, 16, 16))
    words = ("in-paint", tiny_pipeline_folder, "picture.png", "mask.png", "--class", 0, 1)
    ran = limner("edit", *words, "--seed", 3, "--output", "out", "--device", "cpu")
    assert ran.code == 0
    files = [Path(line) for line in ran.out.splitlines()]
    assert [file.name for file in files] == [
        "picture-activities-3.png",
        "picture-animals-nature-4.png",
    ]
    drawn = [np.asarray(Image.open(file)) for file in files]
    # what is kept looks as the tokenizer has it, in both variants; the rest differs
    assert (drawn[0][:, :4] == drawn[1][:, :4]).all()
    assert (drawn[0][:, 8:] != drawn[1][:, 8:]).any()
    edited = read_settings(files[0])["edited"]
    assert edited["mask"] == str(Path("mask.png").resolve())
    expected = tiny_pipeline.edit(picture, Image.open("mask.png"), classes=[0, 1], seed=[3, 4])
    assert (np.asarray(expected.images[1]) == drawn[1]).all()


def test_an_edit_is_done_again_from_its_file(
    limner, tiny_pipeline_folder: Path, picture: Image.Image
) -> None:
    half = ("--box", "0,0.5,1,1", "--class", 1)
    limner("edit", "replace-class", tiny_pipeline_folder, "picture.png", *half, "--output", ".")
    file = Path("picture-animals-nature-0.png")
    edited = read_settings(file)["edited"]
    assert (edited["verb"], edited["box"]) == ("replace-class", [0.0, 0.5, 1.0, 1.0])
    again = limner("sample", "--from", file, "--output", ".")
    assert (again.code, again.err) == (0, "")
    told = read_settings("picture-animals-nature-0-again.png")
    assert told["edited"] == edited
    Image.new("RGB", (SIZE, SIZE)).save("picture.png")
    again = limner("sample", "--from", file)
    assert again.code == 2
    assert "picture.png has changed" in again.err


def test_a_picture_is_placed_on_a_larger_canvas(
    limner, tiny_pipeline: Pipeline, tiny_pipeline_folder: Path, picture: Image.Image
) -> None:
    where = ("--size", "24x16", "--place=-8,0", "--class", 0)
    words = ("out-paint", tiny_pipeline_folder, "picture.png", *where, "--output", "out")
    ran = limner("edit", *words)
    assert ran.code == 0
    (file,) = (Path(line) for line in ran.out.splitlines())
    drawn = Image.open(file)
    assert drawn.size == (16, 24)
    expected = tiny_pipeline.out_paint(picture, (-8, 0), classes=[0], size=(24, 16)).images[0]
    assert (np.asarray(expected) == np.asarray(drawn)).all()
    assert limner("sample", "--from", file, "--output", "out").code == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("in-paint",), "in-paint needs a mask or a box"),
        (("in-paint", "--box", "0,0,1"), "write 4 numbers between commas"),
        (("in-paint", "--box", "0,0,0,1"), "box=(0.0, 0.0, 0.0, 1.0) is not accepted"),
        (("in-paint", "--box", "0,0,1,1"), "mask is full"),
        (("replace-class", "--box", "0,0,1,0.5"), "give it by --class"),
        (("refine",), "required: --keep"),
        (("refine", "--keep", "2"), "neither a directory"),
        (("out-paint", "--place", "8"), "write 2 numbers"),
    ],
)
def test_edits_that_are_not_asked_for_in_full(
    limner, picture: Image.Image, words: tuple[str, ...], expected: str
) -> None:
    verb, *options = words
    ran = limner("edit", verb, "no-such-pipeline", "picture.png", *options)
    assert ran.code == 2
    assert expected in ran.err


def test_generators_without_scales_refine_nothing(
    limner, tiny_pipeline_folder: Path, picture: Image.Image
) -> None:
    for words in (("refine", "--keep", 1), ("upscale", "--size", "32")):
        verb, *options = words
        ran = limner("edit", verb, tiny_pipeline_folder, "picture.png", *options, "--class", 0)
        assert ran.code == 2
        assert "PatchKMeans has no scales" in ran.err


@pytest.mark.parametrize(
    ("white", "size", "expected"),
    [
        (None, (SIZE, SIZE), "mask is empty"),
        ((0, 0, SIZE, SIZE), (SIZE, SIZE), "mask is full"),
        ((0, 0, 4, 4), (SIZE, 8), "mask='8x16' is not accepted"),
    ],
)
def test_masks_are_checked_before_anything_is_loaded(
    limner, picture, white: tuple[int, int, int, int] | None, size: tuple[int, int], expected: str
) -> None:
    draw_mask(white, size)
    ran = limner("edit", "in-paint", "/no/such/pipeline", "picture.png", "mask.png")
    assert ran.code == 2
    assert expected in ran.err


def test_files_that_are_no_pictures(limner, picture) -> None:
    Path("text.png").write_text("no picture")
    ran = limner("edit", "in-paint", "/no/such", "picture.png", "text.png")
    assert (ran.code, "text.png cannot be read" in ran.err) == (2, True)
    ran = limner("edit", "in-paint", "/no/such", "missing.png", "picture.png")
    assert (ran.code, "missing.png cannot be read: No such file" in ran.err) == (2, True)


def test_a_picture_of_a_size_that_the_tokenizer_cannot_take(
    limner, tiny_pipeline_folder: Path
) -> None:
    Image.new("RGB", (18, 16)).save("picture.png")
    draw_mask((0, 0, 4, 4), (18, 16))
    ran = limner("edit", "in-paint", tiny_pipeline_folder, "picture.png", "mask.png")
    assert ran.code == 2
    assert "16x18" in ran.err and "multiples of 4" in ran.err
