"""Reference files in and out."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.core.errors import DataError
from limner.metrics.frechet import fit_gaussian
from limner.metrics.references import read_reference, write_reference


def pictures(count: int = 7) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, 4, 5), generator=rng, dtype=torch.uint8)


def test_everything_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "VIRTUAL.npz"
    whole, spatial = (fit_gaussian(torch.randn(20, width)) for width in (6, 3))
    write_reference(path, whole, spatial, pictures())
    reference = read_reference(path)
    assert reference.shape == (7, 4, 5, 3)
    for read, written in ((reference.gaussian, whole), (reference.spatial, spatial)):
        assert read is not None
        assert torch.equal(read.mean, written.mean)
        assert torch.equal(read.covariance, written.covariance)
    batches = list(reference.pictures(batch=3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert torch.equal(torch.cat(batches), pictures())


def test_files_of_other_programs(tmp_path: Path) -> None:
    statistics, samples = tmp_path / "stats.npz", tmp_path / "samples.npz"
    np.savez(statistics, mu=np.zeros(4, np.float32), sigma=np.eye(4, dtype=np.float32))
    np.savez_compressed(samples, pictures().movedim(1, -1).numpy())
    read = read_reference(statistics)
    assert read.gaussian is not None and read.gaussian.mean.dtype == torch.float64
    assert read.spatial is None and read.shape is None and read.gaussian.count is None
    read = read_reference(samples)
    assert read.gaussian is None
    assert torch.equal(torch.cat(list(read.pictures())), pictures())


def test_a_reference_of_another_resolution_is_named(tmp_path: Path) -> None:
    write_reference(tmp_path / "a.npz", pictures=pictures())
    reference = read_reference(tmp_path / "a.npz")
    reference.check_size(4, 5)
    with pytest.raises(DataError, match=r"4x5 pictures, and 8x8"):
        reference.check_size(8, 8)
    write_reference(tmp_path / "b.npz", fit_gaussian(torch.randn(9, 2)))
    read_reference(tmp_path / "b.npz").check_size(8, 8)


def test_bad_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with pytest.raises(DataError, match=r"does not exist.*guided-diffusion"):
        read_reference(path)
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"no \.npz file"):
        read_reference(path)
    for arrays, message in (
        ({"other": np.zeros(3)}, r"holds other: it must hold statistics"),
        ({"mu": np.zeros(3)}, "no sigma"),
        ({"mu": np.full(3, np.nan), "sigma": np.eye(3)}, "NaN"),
        ({"mu": np.zeros(3), "sigma": np.eye(2)}, r"\[2, 2\]"),
        ({"mu": np.array([{}], dtype=object), "sigma": np.eye(1)}, "broken"),
        ({"arr_0": np.zeros((2, 4, 4, 3))}, r"float64 \[2, 4, 4, 3\]"),
        ({"arr_0": np.zeros((2, 3, 4, 4), np.uint8)}, r"\[N, H, W, 3\]"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=message):
            read_reference(path)


def test_a_file_with_fewer_pictures_than_it_says_is_named(tmp_path: Path) -> None:
    array = io.BytesIO()
    np.save(array, pictures().movedim(1, -1).numpy())
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("arr_0.npy", array.getvalue()[:-1])
    batches = read_reference(tmp_path / "x.npz").pictures(batch=4)
    assert len(next(batches)) == 4
    with pytest.raises(DataError, match="fewer pictures than it says"):
        next(batches)


def test_only_what_can_be_read_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to write"):
        write_reference(tmp_path / "a.npz")
    with pytest.raises(DataError, match="uint8"):
        write_reference(tmp_path / "a.npz", pictures=pictures().float())
    with pytest.raises(DataError, match=r"\.npz"):
        write_reference(tmp_path / "a.pt", pictures=pictures())
    write_reference(tmp_path / "a.npz", fit_gaussian(torch.randn(9, 2)))
    with pytest.raises(DataError, match="only statistics"):
        next(read_reference(tmp_path / "a.npz").pictures())
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]
