"""What subjects share: modules of the official code, and the same weights for both sides."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from limner.bench.settings import BenchError
from limner.core.seeds import seeded


def official_module(checkout: str, name: str) -> ModuleType:
    """Import a module of the official code, as it is.

    Args:
        checkout: folder of the official repository.
        name: of the module, with dots.

    Raises:
        BenchError: it is not there, or needs a package that is not installed.
    """
    file = Path(checkout, *name.split(".")).with_suffix(".py")
    if not file.is_file():
        raise BenchError(f"official={checkout!r} is not accepted: it holds no {file.name}")
    sys.path.insert(0, checkout)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BenchError(f"{file.name} of the official code cannot be loaded: {error}") from None


def stay_on_cpu() -> None:
    """Let official code that asks for a GPU in so many words run without one, in this process."""

    def same(tensor: Tensor, *arguments: Any, **options: Any) -> Tensor:
        return tensor

    torch.Tensor.cuda = same  # type: ignore[assignment, method-assign]


@torch.no_grad()
def fill(state: Mapping[str, Tensor], seed: int) -> None:
    """Overwrite weights by random numbers that depend on the seed and their official names alone.

    Args:
        state: official name -> tensor that shares memory with the weight.
        seed: of all numbers.
    """
    for name, tensor in state.items():
        rng = seeded(seed, name)
        if tensor.dim() > 1:
            tensor.normal_(std=1 / math.sqrt(tensor[0].numel()), generator=rng)
        else:
            tensor.normal_(mean=float(name.endswith("weight")), std=0.1, generator=rng)
