"""limner: autoregressive visual generation, from tokens to pictures."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limner.pipeline import Pipeline

__version__ = "0.1.0"

__all__ = ["Pipeline", "__version__"]


def __getattr__(name: str) -> Any:
    """Load `Pipeline` when it is first asked for, so that `import limner` does not load torch."""
    if name == "Pipeline":
        return importlib.import_module("limner.pipeline").Pipeline
    raise AttributeError(f"module 'limner' has no attribute {name!r}")
