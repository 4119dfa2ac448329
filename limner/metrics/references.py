"""Reference files as ADM's evaluator reads them: statistics of a data set, or its pictures, `.npz`.

    mu, sigma        mean and covariance of 2048 features
    mu_s, sigma_s    those of the 2023 spatial features, for sFID
    arr_0            pictures, uint8 [N, H, W, 3]

Files of pytorch-fid and of LTH14/torch-fidelity hold the first line only, batches of samples the
last only. Facts from `evaluations/{README.md,evaluator.py}` of openai/guided-diffusion.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from limner.core.errors import DataError
from limner.core.files import replaced
from limner.metrics.frechet import Gaussian

PICTURES = "arr_0"
_BROKEN = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Reference:
    """What a file holds; pictures stay in it until `pictures` reads them.

    Args:
        path: of the file.
        gaussian: of the features, or None.
        spatial: of the spatial features, or None.
        shape: N, height, width and channels of its pictures, or None.
    """

    path: Path
    gaussian: Gaussian | None
    spatial: Gaussian | None
    shape: tuple[int, int, int, int] | None

    def check_size(self, height: int, width: int) -> None:
        """Raise DataError where the file's pictures have another size than those to be measured.

        Files of statistics alone do not tell the size of what they were computed from.
        """
        if self.shape is not None and self.shape[1:3] != (height, width):
            raise DataError(
                f"{self.path} is a reference of {self.shape[1]}x{self.shape[2]} pictures, and "
                f"{height}x{width} ones are to be measured: both must have the same size"
            )

    def pictures(self, batch: int = 100) -> Iterator[Tensor]:
        """Yield the pictures, uint8 [b, 3, H, W], without ever holding more than a batch.

        Raises:
            DataError: the file holds none, or is broken.
        """
        if self.shape is None:
            raise DataError(f"{self.path} holds no pictures ({PICTURES}), only statistics")
        count, height, width, channels = self.shape
        with _opened(self.path) as archive, archive.open(f"{PICTURES}.npy") as file:
            _read_shape(file, self.path)
            for start in range(0, count, batch):
                part = min(batch, count - start)
                content = _read(file, part * height * width * channels, self.path)
                levels = torch.frombuffer(content, dtype=torch.uint8)
                yield levels.reshape(part, height, width, channels).movedim(-1, 1)


def read_reference(path: str | Path) -> Reference:
    """Open a file; what it is for follows from what it holds, not from its name.

    Raises:
        DataError: the file is missing, broken, or holds neither statistics nor pictures.
    """
    path = Path(path).expanduser()
    with _opened(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        if not names & {"mu", PICTURES}:
            shown = ", ".join(sorted(names)[:5]) or "nothing"
            raise DataError(
                f"{path} holds {shown}: it must hold statistics (mu and sigma) or pictures "
                f"({PICTURES})"
            )
        shape = None
        if PICTURES in names:
            with archive.open(f"{PICTURES}.npy") as file:
                shape = _read_shape(file, path)
        gaussian = _gaussian(archive, path, "mu", "sigma") if "mu" in names else None
        spatial = _gaussian(archive, path, "mu_s", "sigma_s") if "mu_s" in names else None
    return Reference(path, gaussian, spatial, shape)


def write_reference(
    path: str | Path,
    gaussian: Gaussian | None = None,
    spatial: Gaussian | None = None,
    pictures: Tensor | None = None,
) -> None:
    """Write a file that ADM's evaluator, and `read_reference`, can read.

    Args:
        path: ends in .npz.
        gaussian: of the features.
        spatial: of the spatial features.
        pictures: uint8 [N, 3, H, W].

    Raises:
        DataError: there is nothing to write, pictures of another type, or the file cannot be
            written.
    """
    arrays: dict[str, np.ndarray] = {}
    for ending, side in (("", gaussian), ("_s", spatial)):
        if side is not None:
            arrays[f"mu{ending}"] = side.mean.double().cpu().numpy()
            arrays[f"sigma{ending}"] = side.covariance.double().cpu().numpy()
    if pictures is not None:
        if pictures.dtype != torch.uint8 or pictures.dim() != 4 or pictures.shape[1] != 3:
            kind = f"{pictures.dtype} {list(pictures.shape)}"
            raise DataError(f"pictures must be uint8 [N, 3, H, W], not {kind}")
        arrays[PICTURES] = np.ascontiguousarray(pictures.movedim(1, -1).cpu().numpy())
    if not arrays:
        raise DataError("there is nothing to write: give statistics or pictures")
    if Path(path).suffix != ".npz":
        raise DataError(f"path={str(path)!r} is not accepted: it must end in .npz")
    with replaced(path) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist: ADM's references, such as "
            "VIRTUAL_imagenet256_labeled.npz, are linked from "
            "https://github.com/openai/guided-diffusion/tree/main/evaluations"
        ) from None
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no .npz file: {error}") from None


def _gaussian(archive: zipfile.ZipFile, path: Path, mean: str, covariance: str) -> Gaussian:
    return Gaussian(_array(archive, path, mean), _array(archive, path, covariance))


def _array(archive: zipfile.ZipFile, path: Path, name: str) -> Tensor:
    try:
        with archive.open(f"{name}.npy") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
        return torch.from_numpy(array.astype(np.float64))
    except KeyError:
        raise DataError(f"{path} holds no {name}, which belongs to its mean") from None
    except _BROKEN as error:
        raise DataError(f"{path} is broken: {name} cannot be read ({error})") from None


def _read_shape(file: IO[bytes], path: Path) -> tuple[int, int, int, int]:
    """Return the shape that the header of the pictures tells; the file then stands at the first."""
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, by_column, kind = read(file)
    except (KeyError, *_BROKEN) as error:
        raise DataError(f"{path} is broken: {PICTURES} cannot be read ({error})") from None
    if by_column or kind != np.uint8 or len(shape) != 4 or shape[3] != 3:
        raise DataError(
            f"{path} holds pictures of {kind} {list(shape)}: they must be uint8 [N, H, W, 3]"
        )
    return shape


def _read(file: IO[bytes], size: int, path: Path) -> bytearray:
    try:
        content = file.read(size)
    except _BROKEN as error:
        raise DataError(f"{path} is broken: {error}") from None
    if len(content) != size:
        raise DataError(f"{path} is truncated: it holds fewer pictures than it says")
    return bytearray(content)  # of its own: what is read must be writable
