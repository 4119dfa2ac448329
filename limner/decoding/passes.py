"""How often networks are called: the cost of drawing that no machine changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def counted_passes(**networks: nn.Module) -> Iterator[Counter[str]]:
    """Count the calls of networks within the block, by their names."""
    passes: Counter[str] = Counter()

    def note(name: str) -> Callable[..., None]:
        def called(*_: Any) -> None:
            passes[name] += 1

        return called

    hooks = [network.register_forward_hook(note(name)) for name, network in networks.items()]
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()
