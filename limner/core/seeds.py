"""Random generators: one for each purpose, all from one seed."""

from __future__ import annotations

import hashlib

import torch


def seeded(seed: int, *purpose: object) -> torch.Generator:
    """Return a generator that depends on the seed and the purpose alone.

    What one purpose draws never moves what another does: turning augmentation on, say, leaves the
    order of the batches as it was.
    """
    text = "/".join(map(str, (seed, *purpose)))
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
