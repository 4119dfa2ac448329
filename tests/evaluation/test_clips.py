"""Clips are drawn, kept and measured as pictures are; FVD's network is a program of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from limner.core.errors import CheckpointError, DataError
from limner.data import Window, open_clips
from limner.evaluation.evaluate import check_fits, evaluate
from limner.evaluation.features import load_space
from limner.evaluation.pictures import Pictures, SourcePictures
from limner.evaluation.resampling import Bootstrap
from limner.hub.networks import load_i3d


class Clips(Pictures):
    """Clips in memory, uint8 [N, T, 3, H, W]."""

    def __init__(self, levels: Tensor) -> None:
        size = (levels.shape[-2], levels.shape[-1])
        super().__init__("clips", len(levels), size, levels.shape[1])
        self.levels = levels

    def batches(self, batch: int = 64) -> Iterator[Tensor]:
        return iter(self.levels.split(batch))


@pytest.fixture(scope="module")
def real() -> SourcePictures:
    return SourcePictures(open_clips("moving-twemoji", Window(4)).at(range(0, 200, 4)), 16)


@pytest.fixture(scope="module")
def levels(real: SourcePictures) -> Tensor:
    return torch.cat(list(real.batches()))


def test_a_source_of_clips_is_read_in_batches(real: SourcePictures, levels: Tensor) -> None:
    assert real.frames == 4 and real.size == (16, 16)
    assert levels.shape == (50, 4, 3, 16, 16) and levels.dtype == torch.uint8


def test_clips_that_stand_still_are_found_out(real: SourcePictures, levels: Tensor) -> None:
    space = load_space("packaged")
    still = Clips(levels[:, :1].expand_as(levels))
    same, stopped = (
        evaluate(made, real, space, bootstrap=Bootstrap(20)) for made in (Clips(levels), still)
    )
    distance = [each.result.numbers["frechet_distance"] for each in (same, stopped)]
    assert distance[0].value < 1e-3 < distance[1].value
    assert distance[0].title == "FD (limner features of frames and their differences)"
    assert "class_agreement" not in same.result.numbers
    assert same.made.shown.shape[1:] == (3, 16, 4 * 16)


def test_pictures_and_clips_do_not_compare(real: SourcePictures) -> None:
    space = load_space("packaged")
    with pytest.raises(DataError, match="clips of 4 frames, and pictures are to be measured"):
        check_fits(real, (16, 16), space)
    with pytest.raises(DataError, match="4 frames, and clips of 5 frames are to be measured"):
        check_fits(real, (16, 16), space, frames=5)


class Stand(nn.Module):
    """Takes what the network of FVD takes; its features are the colours of frames."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(
        self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> Tensor:
        assert resize and return_features and not rescale
        assert x.shape[2] >= 4, "too few frames"
        return self.scale * x.mean(dim=(3, 4)).flatten(1)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("fvd") / "i3d_torchscript.pt"
    torch.jit.script(Stand()).save(str(file))
    return file


def test_fvd_is_the_distance_in_what_the_program_says(
    real: SourcePictures, levels: Tensor, program: Path
) -> None:
    network = load_i3d(program.parent)
    clips = torch.rand(2, 4, 3, 8, 8) * 2 - 1
    expected = clips.mean(dim=(3, 4)).transpose(1, 2).flatten(1)
    torch.testing.assert_close(network(clips), expected)
    space = load_space("i3d", program)
    made = evaluate(Clips(levels), real, space, bootstrap=Bootstrap(20)).result
    assert made.numbers["frechet_distance"].title == "FVD"
    assert made.numbers["kernel_distance"].title == "KVD"
    assert made.numbers["frechet_distance"].value == pytest.approx(0, abs=1e-6)
    assert made.protocol.network == network.fingerprint
    with pytest.raises(DataError, match=r"does not take clips of 3 frames of 16x16: .*too few"):
        short = SourcePictures(open_clips("moving-twemoji", Window(3)).at(range(8)), 16)
        check_fits(short, (16, 16), space, frames=3)
    with pytest.raises(DataError, match="'i3d' is not of pictures"):
        check_fits(real, (16, 16), space)


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "i3d_torchscript.pt").write_bytes(b"no program")
    with pytest.raises(CheckpointError, match="is no TorchScript file"):
        load_i3d(tmp_path)
    with pytest.raises(CheckpointError, match=r"put i3d_torchscript\.pt there"):
        load_i3d(tmp_path / "..")
