"""The network of FVD: I3D, trained on Kinetics-400, as a TorchScript program.

Unterthiner et al., "FVD: A new metric for video generation", ICLR workshop 2019; Carreira and
Zisserman, "Quo vadis, action recognition?", arXiv:1705.07750. How the file is called is from
NAR-videos/utils/fvd/fvd.py of ThisisBillhe/NAR: clips [B, 3, T, H, W] in [-1, 1], which it resizes
to 224 x 224 itself; its features are the 400 logits. The published weights were not run here.

A TorchScript file is a program, unlike all other weights that limner reads: take it from whom you
trust.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner.core.errors import CheckpointError, DataError
from limner.hub.convert import sha256


class I3D:
    """The features of clips by a TorchScript file.

    Args:
        file: of the program.
        device: where it runs.

    Raises:
        CheckpointError: the file holds no such program.
    """

    def __init__(self, file: Path, device: torch.device) -> None:
        try:
            self._script: Any = torch.jit.load(str(file), map_location=device).eval()
        except (RuntimeError, ValueError, OSError) as error:
            reason = (str(error).strip().splitlines() or ["unreadable"])[-1]
            raise CheckpointError(f"{file} is no TorchScript file: {reason}") from None
        self.file = file
        self.fingerprint = sha256(file)[:32]

    def __call__(self, clips: Tensor) -> Tensor:
        """Return the features of clips [B, T, 3, H, W] in [-1, 1], float [B, 400].

        Raises:
            DataError: the program does not take such clips.
        """
        try:
            features: Tensor = self._script(
                clips.transpose(1, 2).contiguous(), resize=True, return_features=True
            )
        except (RuntimeError, torch.jit.Error) as error:
            reason = (str(error).strip().splitlines() or ["it failed"])[-1]
            shape = f"{clips.shape[1]} frames of {clips.shape[3]}x{clips.shape[4]}"
            raise DataError(f"{self.file} does not take clips of {shape}: {reason}") from None
        return features
