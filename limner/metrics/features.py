"""Feature vectors of a set of pictures: what every metric over sets asks of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from limner.core.errors import CheckpointError, DataError


class FeatureBank:
    """Keeps all vectors of a set, for the metrics that compare pairs of them.

    50,000 vectors of 2048 numbers take 410 MB.

    Args:
        width: D, numbers a vector.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._parts = [torch.empty(0, width)]

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def update(self, features: Tensor) -> None:
        """Keep more vectors, float [B, D].

        Raises:
            DataError: they are of another width, or not finite.
        """
        check_features(features, width=self.width)
        self._parts.append(features.detach().to("cpu", torch.float32, copy=True))

    def compute(self) -> Tensor:
        """Return all vectors in the order in which they came, float32 [N, D]."""
        self._parts = [torch.cat(self._parts)]
        return self._parts[0]

    def state_dict(self) -> dict[str, Tensor]:
        """Return what was kept."""
        return {"features": self.compute().clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what was kept before.

        Raises:
            CheckpointError: it is the state of something else, or of another width.
        """
        features = state.get("features")
        if features is None or features.shape[1:] != (self.width,):
            raise CheckpointError(f"the state does not hold features of width {self.width}")
        self._parts = [features.clone()]


def check_features(
    features: Tensor, width: int | None = None, least: int = 0, name: str = "features"
) -> None:
    """Raise unless features are finite, [N, D].

    Args:
        width: D; None: any.
        least: rows that are needed.
        name: what messages call them.

    Raises:
        DataError: names what is wrong and what is accepted.
    """
    shape = list(features.shape)
    if features.dim() != 2 or shape[1] == 0 or width not in (None, shape[1]):
        wanted = "[N, D]" if width is None else f"[N, {width}]"
        raise DataError(f"{name} of shape {shape} are not accepted: they must be {wanted}")
    if len(features) < least:
        raise DataError(
            f"{name} of {len(features)} pictures are too few: at least {least} are needed"
        )
    bad = ~features.isfinite().all(dim=1)
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        raise DataError(
            f"{name} of {int(bad.sum())} of {len(features)} pictures are NaN or infinite "
            f"(the first is row {first}): they must be finite"
        )


def check_same_width(first: Tensor, second: Tensor) -> None:
    """Raise DataError unless two sets of features, [N, D] and [M, D], have the same width."""
    if first.shape[-1] != second.shape[-1]:
        raise DataError(
            f"features of {first.shape[-1]} and {second.shape[-1]} numbers cannot be compared: "
            "they must come from the same network"
        )
