"""Helpers shared by the data tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """A function that saves an RGB picture of noise under a name in the test's folder."""

    def save(name: str, seed: int = 0, size: tuple[int, int] = (12, 12)) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(noise).save(file)
        return file

    return save
