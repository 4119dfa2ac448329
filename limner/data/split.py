"""Which pictures are held out, and which belong to some classes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from limner.core.errors import DataError, check, unknown


def held_out_mask(keys: Sequence[str], share: float) -> Tensor:
    """Say which pictures are held out.

    Each picture's own key decides, so the answer is the same on every machine and pictures that
    join the set later move none of the others.  A share above zero holds out at least one picture
    and leaves at least one to train on.

    Args:
        keys: N names.
        share: about how much is held out.

    Returns:
        bool [N].

    Raises:
        ConfigError: the share is not in [0, 1).
        DataError: there are fewer than two pictures to divide.
    """
    check(0 <= share < 1, "held_out", share, "at least 0 and below 1")
    draws = torch.tensor([_draw(key) for key in keys], dtype=torch.float64)
    out = draws < share
    if share > 0:
        if len(set(keys)) < 2:
            raise DataError(f"{len(keys)} picture(s) cannot be split: 2 different ones are needed")
        out[draws == draws.min()] = True
        out[draws == draws.max()] = False
    return out


def renumber(labels: Tensor, known: Sequence[str], chosen: Sequence[str]) -> Tensor:
    """Number labels [N] anew, in the order of the chosen classes; -1 for all other classes.

    Raises:
        DataError: a class is unknown or given twice, or none is given.
    """
    if not chosen or len(set(chosen)) != len(chosen):
        raise DataError(f"classes must be one or more different names, not {list(chosen)}")
    for name in chosen:
        if name not in known:
            raise unknown("class", name, known, DataError)
    numbers = torch.full((len(known),), -1)
    numbers[[list(known).index(name) for name in chosen]] = torch.arange(len(chosen))
    return numbers[labels]


def _draw(key: str) -> float:
    """A number in [0, 1) that depends on the text of a key alone."""
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
