"""A trained tokenizer beside JPEG: quality at equal bits per pixel.

    python benchmarks/jpeg.py runs/vqgan/tiny NAME [--pictures 1000]

writes benchmarks/results/NAME.json. The pictures are those that the run held out. A code costs
log2(codebook size) bits. JPEG files are written by Pillow at every quality, with optimised tables
and 4:2:0 colour; they are counted whole, and without headers and tables (the coded data alone, a
favour to JPEG).
"""

from __future__ import annotations

import argparse
import io
import json
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from record import circumstances, write
from torch import Tensor

from limner.core.registry import TOKENIZERS
from limner.core.tokenizer import Tokenizer
from limner.data.source import collect
from limner.hub.save import load_part
from limner.metrics.pixels import psnr, ssim
from limner.show.images import to_images
from limner.training import load_recipe
from limner.training.prepare import split

QUALITIES = (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95)


def coded_bytes(file: bytes) -> int:
    """Return the length of a JPEG file's coded data: what follows its scan header."""
    place = 2
    while True:
        marker, length = file[place + 1], int.from_bytes(file[place + 2 : place + 4], "big")
        place += 2 + length
        if marker == 0xDA:
            return len(file) - place - 2


def jpeg_curve(pictures: Tensor) -> list[dict[str, float]]:
    """Return bits per pixel and quality of pictures [B, 3, H, W] at every JPEG quality."""
    images, pixels = to_images(pictures), pictures.shape[-1] * pictures.shape[-2]
    curve = []
    for quality in QUALITIES:
        files = []
        for image in images:
            file = io.BytesIO()
            image.save(file, "JPEG", quality=quality, optimize=True, subsampling="4:2:0")
            files.append(file.getvalue())
        shown = torch.stack([_read(file) for file in files])
        curve.append(
            {
                "quality": quality,
                "bits_per_pixel": 8 * sum(map(coded_bytes, files)) / len(files) / pixels,
                "bits_per_pixel_whole_file": 8 * sum(map(len, files)) / len(files) / pixels,
                "psnr": float(psnr(shown, pictures).mean()),
                "ssim": float(ssim(shown, pictures).mean()),
            }
        )
    return curve


@torch.no_grad()
def tokenizer_point(tokenizer: Tokenizer, pictures: Tensor) -> dict[str, float]:
    """Return bits per pixel and quality of a tokenizer's reconstructions."""
    shown = torch.cat([tokenizer.decode(tokenizer.encode(part)) for part in pictures.split(64)])
    height, width = pictures.shape[-2:]
    codes = len(tokenizer.layout(height, width)) * tokenizer.codes
    return {
        "bits_per_pixel": codes * math.log2(tokenizer.codebook_size) / (height * width),
        "psnr": float(psnr(shown, pictures).mean()),
        "ssim": float(ssim(shown, pictures).mean()),
    }


def at_equal_rate(
    curve: list[dict[str, float]], rate: str, bits: float, value: str
) -> float | None:
    """Return JPEG's quality at so many bits per pixel; None where it cannot be so small."""
    rates = [point[rate] for point in curve]
    if bits < rates[0]:
        return None
    return float(np.interp(bits, rates, [point[value] for point in curve]))


def main() -> None:
    """Read the command line, measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder of a tokenizer's run")
    parser.add_argument("name", help="of the result")
    parser.add_argument("--pictures", type=int, default=1000)
    asked = parser.parse_args()
    recipe = load_recipe(asked.run)
    _, held_out = split(recipe.data)
    step = max(1, len(held_out) // asked.pictures)
    pictures = collect(held_out.at(range(0, len(held_out), step)), recipe.data.size).to_float()
    tokenizer = load_part(Path(asked.run) / "tokenizer", TOKENIZERS)
    point, curve = tokenizer_point(tokenizer, pictures), jpeg_curve(pictures)
    bits = point["bits_per_pixel"]
    beside = {
        f"jpeg_{value}_{name}": at_equal_rate(curve, rate, bits, value)
        for value in ("psnr", "ssim")
        for name, rate in (
            ("coded_data", "bits_per_pixel"),
            ("whole_file", "bits_per_pixel_whole_file"),
        )
    }
    result = circumstances(f"python benchmarks/jpeg.py {asked.run} {asked.name}") | {
        "pictures": len(pictures),
        "source": Path(recipe.data.source).name,
        "size": recipe.data.size,
        "tokenizer": point,
        "at_equal_bits": beside,
        "jpeg": curve,
    }
    write(asked.name, result)
    print(json.dumps({"tokenizer": point, **beside}, indent=1))


def _read(file: bytes) -> Tensor:
    levels = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
    return torch.from_numpy(levels.copy()).movedim(-1, 0).float() / 127.5 - 1


if __name__ == "__main__":
    main()
