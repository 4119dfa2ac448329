"""Pictures side by side, and in a terminal."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from limner.core.errors import ConfigError, DataError
from limner.show import LiveView, contact_sheet, half_blocks

COLOURS = ["red", "lime", "blue", "black", "yellow"]


def plain(width: int = 10, height: int = 6) -> list[Image.Image]:
    return [Image.new("RGB", (width, height), colour) for colour in COLOURS]


def test_a_contact_sheet_has_every_picture_at_its_place() -> None:
    page = contact_sheet(plain(), columns=2, gap=3)
    assert page.size == (3 + 2 * 13, 3 + 3 * 9)
    for index, image in enumerate(plain()):
        row, column = divmod(index, 2)
        left, top = 3 + column * 13, 3 + row * 9
        assert page.crop((left, top, left + 10, top + 6)).tobytes() == image.tobytes()
    assert page.getpixel((0, 0)) == page.getpixel((28, 29)) == (255, 255, 255)


def test_a_contact_sheet_of_tensors_is_about_square() -> None:
    page = contact_sheet(torch.zeros(9, 1, 8, 8), gap=0)
    assert page.size == (24, 24)
    assert contact_sheet(torch.zeros(2, 3, 8, 8), columns=5, gap=0).size == (16, 8)


def test_small_pictures_are_magnified_pixel_by_pixel() -> None:
    image = Image.new("RGB", (2, 1), "red")
    image.putpixel((1, 0), (0, 0, 255))
    page = np.asarray(contact_sheet([image], gap=0, zoom=3))
    assert page.shape == (3, 6, 3)
    assert (page[:, :3] == (255, 0, 0)).all() and (page[:, 3:] == (0, 0, 255)).all()


def test_captions_stand_below_and_are_cut_to_the_width() -> None:
    images = plain(60, 10)
    page = contact_sheet(images[:2], 2, ["a word", "a very, very long caption ☃"], gap=2)
    dark = np.asarray(page.convert("L")) < 128
    assert dark[12:26, 2:62].any() and dark[12:26, 64:124].any()
    assert not dark[12:26, 124:].any()
    with pytest.raises(DataError, match="1 captions do not fit 5 pictures"):
        contact_sheet(images, captions=["one"])


def test_contact_sheets_that_cannot_be_made() -> None:
    with pytest.raises(DataError, match="at least one picture"):
        contact_sheet([])
    with pytest.raises(ConfigError, match="columns=0"):
        contact_sheet(plain(), columns=0)


def test_half_blocks_show_two_pixels_a_character() -> None:
    image = Image.new("RGB", (3, 4), "red")
    image.paste("blue", (0, 1, 3, 2))
    text = half_blocks(image, 80, 24)
    assert text.plain == "▀▀▀\n▀▀▀"
    style = text.spans[0].style
    assert style.color.triplet == (255, 0, 0)
    assert style.bgcolor.triplet == (0, 0, 255)


def test_half_blocks_fit_and_keep_the_shape() -> None:
    lines = half_blocks(Image.new("RGB", (200, 100)), 40, 30).plain.split("\n")
    assert (len(lines), len(lines[0])) == (10, 40)
    lines = half_blocks(Image.new("RGB", (100, 200)), 80, 5).plain.split("\n")
    assert (len(lines), len(lines[0])) == (5, 5)


@pytest.mark.parametrize(
    ("terminal", "colours", "pictures"),
    [(True, "truecolor", True), (True, None, False), (False, None, False)],
)
def test_pictures_are_shown_where_a_terminal_has_colours(
    terminal: bool, colours: str | None, pictures: bool
) -> None:
    screen = io.StringIO()
    console = Console(
        file=screen, force_terminal=terminal, color_system=colours, width=40, height=20
    )
    with LiveView(console, "below") as view:
        assert view.shows_pictures == pictures
        view.show(plain())
    assert ("▀" in screen.getvalue()) == pictures
    assert ("below" in screen.getvalue()) == terminal
