"""What is known of the official weights of one published network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from limner.core.config import from_dict, override
from limner.core.errors import CheckpointError
from limner.core.registry import Registry
from limner.hub.build import blank, fill
from limner.hub.official.tables import KeyTable

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of every official tensor."""

UNKNOWN_LICENCE = "unknown: check the source"


@dataclass(frozen=True)
class Converter:
    """How the official weights of one network become ours.

    Args:
        system: name by which it is asked for.
        registry: `MODELS` or `TOKENIZERS`.
        family: that the weights belong to.
        marks: official names that tell these weights from others; all occur.
        infer: (shapes, fields given by the caller) -> fields of the configuration.
        table: configuration -> key table.
        licence: of the official weights, with its address.
        plain: official tensors under the names of the table, where files differ in their names.
    """

    system: str
    registry: Registry
    family: str
    marks: tuple[str, ...]
    infer: Callable[[Shapes, Mapping[str, Any]], dict[str, Any]]
    table: Callable[[Any], KeyTable]
    licence: str = UNKNOWN_LICENCE
    plain: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict

    def config(self, state: Mapping[str, Tensor], given: Mapping[str, Any] | None = None) -> Any:
        """Return the configuration of official weights.

        Args:
            given: field (or "field.inner") -> value, instead of what the weights tell.

        Raises:
            ConfigError: a field can neither be inferred nor was given, or is not accepted.
            CheckpointError: tensors that would tell are missing or of a strange shape.
        """
        given = given or {}
        shapes = {name: tuple(tensor.shape) for name, tensor in self.plain(state).items()}
        try:
            values = self.infer(shapes, given)
        except KeyError as error:
            raise CheckpointError(f"no weights of {self.system}: {error} is missing") from None
        except (IndexError, ValueError):
            raise CheckpointError(f"no weights of {self.system}: shapes do not fit") from None
        for path, value in given.items():
            override(values, path, value)
        return from_dict(self.registry.get_family(self.family).config, values)

    def ours(self, config: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return our tensors of official ones.

        Raises:
            CheckpointError: a tensor is not known, or missing.
        """
        return self.table(config).to_ours(self.plain(state))

    def blank(self, config: Any) -> Any:
        """Return our module without weights."""
        return blank(self.registry.get_family(self.family), config)

    def build(self, config: Any, state: Mapping[str, Tensor], source: str = "the weights") -> Any:
        """Return our module with the official weights, in evaluation mode.

        Raises:
            CheckpointError: the weights do not fit the configuration.
        """
        module = self.blank(config)
        fill(module, self.ours(config, state), source)
        return module.eval()
