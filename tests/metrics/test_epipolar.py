"""TSED of points that two known cameras see."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.core.errors import ConfigError
from limner.metrics.epipolar import NO_MATCHES, consistency, pixel_intrinsics

INTRINSICS = pixel_intrinsics(0.8, 64, 96)


def pose(x: float, y: float = 0.0, z: float = 0.0, turn: float = 0.0) -> Tensor:
    """A camera at a place, turned about the upward axis."""
    matrix = torch.eye(4).double()
    cosine, sine = torch.tensor(turn).double().cos(), torch.tensor(turn).double().sin()
    matrix[0, 0], matrix[0, 2], matrix[2, 0], matrix[2, 2] = cosine, sine, -sine, cosine
    matrix[:3, 3] = torch.tensor([x, y, z])
    return matrix


def seen(points: Tensor, camera: Tensor) -> Tensor:
    """Project points [M, 3]; the camera looks along -z and pixels count downwards."""
    local = (points - camera[:3, 3]) @ camera[:3, :3]
    forward = local * torch.tensor([1.0, -1.0, -1.0]).double()
    pixels = forward @ INTRINSICS.T
    return pixels[:, :2] / pixels[:, 2:]


def scene(*cameras: Tensor, count: int = 16) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = torch.rand(count, 3, generator=torch.Generator().manual_seed(0)).double()
    points = (random - 0.5) * 2 - torch.tensor([0.0, 0.0, 6.0]).double()
    views = torch.stack([seen(points, camera) for camera in cameras])
    valid = torch.ones(len(cameras) - 1, count, dtype=torch.bool)
    return torch.stack(cameras), views[:-1], views[1:].clone(), valid


def test_what_cameras_see_is_consistent() -> None:
    poses, first, second, valid = scene(pose(0), pose(0.5, 0.2, 0.3, 0.1), pose(1, turn=-0.2))
    found = consistency(poses, INTRINSICS, first, second, valid)
    assert found.distances.max() < 1e-9
    assert found.consistent.tolist() == [True, True] and found.score == 1


def test_a_sideways_camera_has_level_lines() -> None:
    """Points off by d pixels vertically are at distance d from each other's lines; along the line
    they may lie anywhere."""
    poses, first, second, valid = scene(pose(0), pose(0.4), pose(0.9))
    second[0] += torch.tensor([11.0, 1.5]).double()
    second[1] += torch.tensor([0.0, -3.0]).double()
    found = consistency(poses, INTRINSICS, first, second, valid)
    torch.testing.assert_close(found.distances[0], torch.full((16,), 1.5).double())
    assert found.medians.tolist() == pytest.approx([1.5, 3])
    assert found.consistent.tolist() == [True, False] and found.score == 0.5
    assert consistency(poses, INTRINSICS, first, second, valid, error=4.0).score == 1


def test_the_median_of_an_even_number_lies_between_its_middle_two() -> None:
    poses, first, second, valid = scene(pose(0), pose(0.4))
    valid[0, 4:] = False
    second[0, :, 1] += torch.arange(16).double()
    found = consistency(poses, INTRINSICS, first, second, valid, matches=4)
    assert found.medians.tolist() == pytest.approx([1.5])
    assert (found.distances[0, 4:] == 0).all()
    assert found.consistent.tolist() == [True]


def test_pairs_with_few_or_no_matches_are_inconsistent() -> None:
    poses, first, second, valid = scene(pose(0), pose(0.4), pose(0.9))
    valid[0, 9:] = False
    valid[1] = False
    second[1] = torch.nan
    found = consistency(poses, INTRINSICS, first, second, valid)
    assert found.medians[0] < 1e-9 and found.medians[1] == NO_MATCHES
    assert found.score == 0
    assert consistency(poses, INTRINSICS, first, second, valid, matches=9).score == 0.5


def test_a_camera_that_stands_still_tells_nothing() -> None:
    poses, first, second, valid = scene(pose(0), pose(0))
    found = consistency(poses, INTRINSICS, first, second, valid)
    assert found.medians.isnan().all() and found.score == 0


def test_bad_input_is_named() -> None:
    poses, first, second, valid = scene(pose(0), pose(0.4))
    with pytest.raises(ConfigError, match=r"poses=\[1, 4, 4\]"):
        consistency(poses[:1], INTRINSICS, first, second, valid)
    with pytest.raises(ConfigError, match=r"second=\[1, 3, 2\]"):
        consistency(poses, INTRINSICS, first, second[:, :3], valid)
    with pytest.raises(ConfigError, match="valid"):
        consistency(poses, INTRINSICS, first, second, valid[:, :3])
