"""Decoding: every kind of file that is called a picture, and many that are none."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from limner.core.errors import DataError
from limner.data.images import decode
from limner.data.unreadable import Unreadable
from tests.data.encoded import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGBA,
    bomb,
    chunk,
    exif,
    noise,
    png,
    save,
)

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def read(content: bytes) -> np.ndarray:
    """The levels of a picture that must be readable, uint8 [H, W, 3]."""
    picture = decode(io.BytesIO(content), "picture")
    assert not isinstance(picture, Unreadable), picture.reason
    assert picture.mode == "RGB"
    return np.asarray(picture)


def refused(content: bytes) -> str:
    """Why a picture that must not be readable is not."""
    picture = decode(io.BytesIO(content), "picture")
    assert isinstance(picture, Unreadable)
    return picture.reason


# --- depths -----------------------------------------------------------------------------------


def test_sixteen_bits_are_scaled_to_eight() -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (5, 7, 3))
    assert np.abs(read(png(deep, 16, RGB)) - deep / 257).max() < 1
    assert np.abs(read(png(deep[..., 0], 16, GREY)) - deep[..., :1] / 257).max() <= 0.5
    solid = np.concatenate([deep, np.full((5, 7, 1), 65535)], axis=-1)
    assert np.abs(read(png(solid, 16, RGBA)) - deep / 257).max() < 1


def test_sixteen_bits_with_alpha_stand_on_white() -> None:
    half = np.zeros((4, 4, 2))
    half[:, 2:, 1] = 65535
    half[0, 0, 1] = 32896  # 128 x 257
    levels = read(png(half, 16, GREY_ALPHA))
    assert (levels[1:, :2] == 255).all() and (levels[:, 2:] == 0).all()
    assert levels[0, 0].tolist() == [127] * 3


@pytest.mark.parametrize(
    ("depth", "row", "levels"),
    [
        (1, 0b10100000, [255, 0, 255, 0, 0, 0, 0, 0]),
        (2, 0b00011011, [0, 85, 170, 255]),
        (4, 0x0F, [0, 255]),
    ],
)
def test_low_depths_are_spread_to_the_whole_range(depth: int, row: int, levels: list[int]) -> None:
    assert read(png(np.array([[row]]), depth, GREY))[0, :, 1].tolist() == levels


# --- colours ----------------------------------------------------------------------------------


def adobe(jpeg: bytes) -> int:
    """Where the data of Adobe's marker begins in a JPEG file."""
    return jpeg.index(b"Adobe")


def cmyk(*ink: int) -> bytes:
    """A JPEG file of one colour, inverted and with Adobe's marker, as Photoshop writes it."""
    jpeg = save(Image.new("CMYK", (16, 16), ink), "JPEG", quality=95)
    assert jpeg[adobe(jpeg) + 11] == 0
    return jpeg


def ycck() -> bytes:
    """Red as luminance, colour differences and black: what Photoshop writes most."""
    # of (0, 255, 255), which is the inverse of red, and no black; Pillow inverts what it writes
    samples = (179, 171, 0, 255)
    planes = [Image.new("L", (16, 16), 255 - sample) for sample in samples]
    jpeg = save(Image.merge("CMYK", planes), "JPEG", quality=95, subsampling=0)
    return jpeg[: adobe(jpeg) + 11] + b"\2" + jpeg[adobe(jpeg) + 12 :]


def unmarked() -> bytes:
    """Without Adobe's marker, which nothing else replaces: still inverted, as browsers hold it."""
    jpeg = cmyk(0, 255, 255, 0)
    begin = adobe(jpeg) - 4
    (length,) = struct.unpack(">H", jpeg[begin + 2 : begin + 4])
    return jpeg[:begin] + jpeg[begin + 2 + length :]


@pytest.mark.parametrize("content", [cmyk(0, 255, 255, 0), ycck(), unmarked()])
def test_cmyk_in_all_its_ways_is_red(content: bytes) -> None:
    with Image.open(io.BytesIO(content)) as file:
        assert file.mode == "CMYK"
    assert np.abs(read(content).astype(int) - [255, 0, 0]).max() <= 2


def test_cmyk_black_is_black() -> None:
    assert read(cmyk(0, 0, 0, 255)).max() <= 2 and read(cmyk(0, 0, 0, 0)).min() >= 253


def test_each_way_of_transparency_becomes_white() -> None:
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    half.paste((0, 0, 255, 255), (4, 0, 8, 8))
    solid = np.zeros((8, 8, 3))
    solid[:, :4] = (1, 2, 3)
    solid[:, 4:, 2] = 255
    grey = np.where(np.arange(8) < 4, 7, 0)[None].repeat(8, 0)
    colours = (b"PLTE", bytes([255, 0, 0, 0, 0, 255]))
    halves = np.array([[0, 0, 0x11, 0x11]]).repeat(8, 0)
    blue = [
        save(half, "PNG"),
        save(half, "WEBP", lossless=True),
        save(half, "GIF"),
        png(solid, 8, RGB, (b"tRNS", struct.pack(">HHH", 1, 2, 3))),
        png(halves, 4, PALETTE, colours, (b"tRNS", b"\0")),
    ]
    for content in blue:
        levels = read(content)
        assert (levels[:, :4] == 255).all() and (levels[:, 4:] == [0, 0, 255]).all()
    levels = read(png(grey, 8, GREY, (b"tRNS", struct.pack(">H", 7))))
    assert (levels[:, :4] == 255).all() and (levels[:, 4:] == 0).all()
    levels = read(png(halves, 4, PALETTE, colours, (b"tRNS", b"\x80\xff")))
    assert levels[0, 0].tolist() == [255, 127, 127]
    assert read(save(Image.new("LA", (4, 4), (0, 128)), "PNG"))[0, 0].tolist() == [127] * 3


# --- EXIF -------------------------------------------------------------------------------------

# orientation -> how the picture lies in the file, by the definition: where its first row and column
# are to be shown
STORED = {
    1: lambda u: u,
    2: lambda u: u[:, ::-1],
    3: lambda u: u[::-1, ::-1],
    4: lambda u: u[::-1],
    5: lambda u: u.swapaxes(0, 1),
    6: lambda u: np.rot90(u, 1),
    7: lambda u: u[::-1, ::-1].swapaxes(0, 1),
    8: lambda u: np.rot90(u, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientations(orientation: int) -> None:
    upright = np.asarray(noise(12, 8).resize((96, 64), Image.Resampling.BICUBIC))
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    facts = exif(orientation)
    with Image.open(io.BytesIO(save(stored, "PNG", exif=facts))) as file:
        assert np.array_equal(np.asarray(ImageOps.exif_transpose(file)), upright)
    assert np.array_equal(read(save(stored, "PNG", exif=facts)), upright)
    assert np.array_equal(read(save(stored, "WEBP", exif=facts, lossless=True)), upright)
    jpeg = read(save(stored, "JPEG", exif=facts, quality=95)).astype(int)
    assert jpeg.shape == upright.shape and np.abs(jpeg - upright).mean() < 5


def test_pictures_of_all_modes_are_turned() -> None:
    facts = (b"eXIf", exif(6)[6:])
    deep = np.array([[0, 257], [514, 771], [1028, 1285]])
    assert read(png(deep, 16, GREY, facts))[..., 0].tolist() == [[4, 2, 0], [5, 3, 1]]
    key = (b"tRNS", struct.pack(">H", 0))
    assert read(png(deep // 257, 8, GREY, facts, key))[..., 0].tolist() == [[4, 2, 255], [5, 3, 1]]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    "facts",
    [
        exif(0),
        exif(9),
        exif(65535),
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\2\0\xff\xff\0\0\0\0",  # an orientation of 65535 letters
    ],
)
def test_damaged_exif_data_costs_no_picture(form: str, facts: bytes) -> None:
    assert read(save(noise(16, 8), form, exif=facts)).shape == (8, 16, 3)


def test_exif_data_that_cannot_be_written_again_still_turns() -> None:
    """A resolution that is a text, as a flipped bit leaves it."""
    facts = exif(6, struct.pack("<HHI4s", 0x011A, 2, 4, b"abc\0"))
    assert read(save(noise(16, 8), "PNG", exif=facts)).shape == (16, 8, 3)


# --- frames -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_several_counts(form: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    options = {"WEBP": {"lossless": True}}.get(form, {})
    content = save(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert np.array_equal(read(content), np.asarray(frames[0]))


def test_what_phones_put_behind_a_jpeg_is_left_alone() -> None:
    red, blue = (save(Image.new("RGB", (16, 16), colour), "JPEG") for colour in ("red", "blue"))
    assert np.array_equal(read(red + blue), read(red))


# --- damage -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_truncated_pictures(form: str) -> None:
    whole = save(noise(64, 64), form)
    read(whole)
    for share in (0.01, 0.3, 0.5, 0.9):
        assert refused(whole[: int(share * len(whole))])


def test_a_jpeg_that_lacks_its_last_bytes_is_truncated() -> None:
    assert "truncated" in refused(save(noise(64, 64), "JPEG")[:-2])


def test_damaged_pixels() -> None:
    whole = bytearray(save(noise(64, 64), "PNG"))
    whole[len(whole) // 2] ^= 0xFF
    assert refused(bytes(whole))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 1000,
        b"no picture at all",
        b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        save(noise(8, 8), "TIFF"),
        save(noise(8, 8), "ICO"),
        save(noise(8, 8), "PPM"),
    ],
)
def test_what_is_no_picture_or_in_another_format(content: bytes) -> None:
    assert refused(content) == "no picture in a format that is read"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::RuntimeWarning:PIL")
def test_no_damage_raises_anything_else() -> None:
    """Whatever bytes are changed: a picture, a reason, or the refusal of a bomb."""
    frames = [noise(24, 16, seed) for seed in range(3)]
    facts = exif(6, struct.pack("<HHI4s", 0x010E, 2, 4, b"abc\0"))
    options = {"JPEG": {"exif": facts}, "PNG": {"exif": facts}, "WEBP": {"exif": facts}}
    files = [save(frames[0], form, **options.get(form, {})) for form in FORMATS]
    files += [save(frames[0], f, save_all=True, append_images=frames) for f in ("GIF", "WEBP")]
    rng = random.Random(0)
    outcomes = []
    for _ in range(1500):
        content = bytearray(rng.choice(files))
        for _ in range(rng.choice((1, 1, 2, 4, 8))):
            place = rng.randrange(min(len(content), rng.choice((32, 200, 10_000))))
            content[place] = rng.randrange(256)
        try:
            outcomes.append(type(decode(io.BytesIO(bytes(content)), "picture")))
        except DataError:
            outcomes.append(DataError)
    assert set(outcomes) == {Image.Image, Unreadable, DataError}


# --- bombs ------------------------------------------------------------------------------------


def gif_bomb() -> bytes:
    """A screen of 9 x 9 whose first frame is far larger."""
    content = bytearray(save(Image.new("P", (9, 9)), "GIF"))
    begin = content.index(b",", 13)
    content[begin + 5 : begin + 9] = struct.pack("<HH", 60_000, 60_000)
    return bytes(content)


def bmp_bomb() -> bytes:
    content = bytearray(save(noise(8, 8), "BMP"))
    content[18:26] = struct.pack("<ii", 50_000, 50_000)
    return bytes(content)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("content", [bomb(10_000), bomb(2**31 - 1), gif_bomb(), bmp_bomb()])
def test_bombs_are_refused(content: bytes) -> None:
    with pytest.raises(DataError, match=r"'picture' is too large to be safe .*make it smaller"):
        decode(io.BytesIO(content), "picture")


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_bombs_in_texts_are_not_unpacked(kind: bytes) -> None:
    packed = zlib.compress(bytes(50_000_000), 1)
    reason = refused(png(np.zeros((8, 8)), 8, GREY, (kind, b"a\0\0" + packed)))
    assert "too large" in reason.lower()


def test_more_pixels_than_the_header_claims_are_left_alone() -> None:
    content = png(np.zeros((8, 8)), 8, GREY)
    begin = content.index(b"IDAT") - 4
    pixels = chunk(b"IDAT", zlib.compress(bytes(50_000_000), 1))
    assert read(content[:begin] + pixels + chunk(b"IEND", b"")).shape == (8, 8, 3)
