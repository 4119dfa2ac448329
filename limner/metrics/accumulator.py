"""What is gathered batch by batch and can be saved on the way."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from limner.core.errors import CheckpointError


class Accumulator:
    """Base of metrics over sets that are too large to be held: `update` many times, then `compute`.

    A subclass names the tensors that it gathers.

    Attributes:
        gathered: names of attributes, tensors of fixed shapes.
    """

    gathered: tuple[str, ...] = ()

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of what was gathered."""
        return {name: getattr(self, name).clone() for name in self.gathered}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what was gathered before.

        Raises:
            CheckpointError: it is the state of something else, or of another size.
        """
        own = self.state_dict()
        given = {name: list(tensor.shape) for name, tensor in state.items()}
        needed = {name: list(tensor.shape) for name, tensor in own.items()}
        if given != needed:
            kind = type(self).__name__
            raise CheckpointError(f"a state of {given} does not fit {kind}, which needs {needed}")
        for name, tensor in own.items():
            setattr(self, name, state[name].to(tensor, copy=True))
