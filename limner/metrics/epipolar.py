"""TSED: do points that match between two views lie where the cameras' movement allows?

Thresholded symmetric epipolar distance of Yu et al., "Long-term photometric consistent novel view
synthesis with diffusion models", ICCV 2023 (arXiv:2304.10700); YorkUCVIL/Photoconsistent-NVS
`src/scripts/{compute_sed,eval_consistency}.py`. Poses are camera to world, y up, z backward.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limner.core.errors import check

NO_MATCHES = 99_999_999_999.0
"""The median of a pair without matches, as the published code has it."""


@dataclass(frozen=True, eq=False)
class Consistency:
    """How consistent the pairs of neighbouring views are.

    Args:
        distances: float64 [F - 1, M], in pixels; 0 where there is no match, NaN where the camera
            stood still.
        medians: float64 [F - 1], over the matches of a pair; `NO_MATCHES` where it has none.
        consistent: bool [F - 1].
        score: share of consistent pairs.
    """

    distances: Tensor
    medians: Tensor
    consistent: Tensor
    score: float


def consistency(
    poses: Tensor,
    intrinsics: Tensor,
    first: Tensor,
    second: Tensor,
    valid: Tensor,
    error: float = 2.0,
    matches: int = 10,
) -> Consistency:
    """Measure the consistency of neighbouring views.

    Args:
        poses: camera to world, float [F, 4, 4].
        intrinsics: float [3, 3], see `pixel_intrinsics`.
        first: (x, y) of points in views 0 to F - 2, in pixels, float [F - 1, M, 2].
        second: the matching points in views 1 to F - 1.
        valid: which matches exist, bool [F - 1, M].
        error: a pair is consistent if its median distance is below this, in pixels,
        matches: and if it has at least so many matches.

    Raises:
        ConfigError: shapes do not fit.
    """
    pairs = len(poses) - 1
    shape = list(poses.shape)
    check(pairs > 0 and shape[1:] == [4, 4], "poses", shape, "of shape [F, 4, 4], F at least 2")
    shape = list(first.shape)
    fits = len(shape) == 3 and shape[0] == pairs and shape[2] == 2
    check(fits, "first", shape, f"of shape [{pairs}, M, 2]")
    check(second.shape == first.shape, "second", list(second.shape), f"of first's shape, {shape}")
    check(valid.shape == first.shape[:2], "valid", list(valid.shape), f"{shape[:2]}")
    matrices = fundamental_matrices(poses[:-1], poses[1:], intrinsics)
    distances = symmetric_distances(matrices, first, second)
    found = valid.sum(dim=1)
    medians = torch.where(valid, distances, torch.nan).nanquantile(0.5, dim=1)
    medians = torch.where(found > 0, medians, NO_MATCHES)
    consistent = (found >= matches) & (medians < error)
    distances = torch.where(valid, distances, 0.0)
    return Consistency(distances, medians, consistent, float(consistent.double().mean()))


def pixel_intrinsics(focal: float, height: int, width: int) -> Tensor:
    """Return the matrix of a camera that looks at the middle of its picture, float64 [3, 3].

    Args:
        focal: focal length as a share of the picture's height.
        height: of the picture, in pixels.
        width: of the picture, in pixels.
    """
    length = focal * height
    rows = [[length, 0.0, width / 2], [0.0, length, height / 2], [0.0, 0.0, 1.0]]
    return torch.tensor(rows, dtype=torch.float64)


def fundamental_matrices(first: Tensor, second: Tensor, intrinsics: Tensor) -> Tensor:
    """Return F with p1^T F p2 = 0 for the two views of any point, float64 [B, 3, 3].

    Args:
        first: camera to world, float [B, 4, 4].
        second: camera to world, float [B, 4, 4].
        intrinsics: float [3, 3].
    """
    # pixels count downwards and away from the camera: y and z turn round
    turned = intrinsics.double() @ torch.diag(torch.tensor([1.0, -1.0, -1.0]).double())
    inverse = turned.inverse()
    relative = first.double().inverse() @ second.double()
    x, y, z = relative[:, :3, 3].unbind(dim=-1)
    zero = torch.zeros_like(x)
    rows = [(zero, -z, y), (z, zero, -x), (-y, x, zero)]
    crossed = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    return inverse.T @ crossed @ relative[:, :3, :3] @ inverse


def symmetric_distances(matrices: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return the mean distance of matching points to each other's epipolar lines, [B, M].

    Args:
        matrices: fundamental matrices, float64 [B, 3, 3].
        first: (x, y) in the first views, float [B, M, 2].
        second: (x, y) in the second views.
    """
    a, b = (
        torch.cat([points.double(), torch.ones_like(points[..., :1]).double()], dim=-1)
        for points in (first, second)
    )
    lines_b = a @ matrices  # of the first points, in the second views
    lines_a = b @ matrices.transpose(1, 2)
    off = (lines_b * b).sum(dim=-1).abs()
    lengths = [lines[..., :2].norm(dim=-1) for lines in (lines_a, lines_b)]
    return off * (1 / lengths[0] + 1 / lengths[1]) / 2
