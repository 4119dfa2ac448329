"""A reference case: what a published system was given, and what it computed.

`config.json` holds

    system, case     names; a replay is chosen by "system/case"
    hyper            everything needed to build the network
    io               name or pattern with {braces} -> meaning, for the tensors of io.safetensors
    inputs           which of these are given; every other tensor must be reproduced
    arguments        name or pattern -> what an output was made with
    tolerance        name or pattern -> tolerance, where it differs

Names carry parameters, so other cases of the same schema pass at other sizes and settings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from limner.core.errors import LimnerError
from limner.core.noise import ReplayedNoise
from limner.verify import names
from limner.verify.compare import DEFAULT, Outcome, compare

CONFIG, TENSORS, WEIGHTS = "config.json", "io.safetensors", "weights.safetensors"


class CaseError(LimnerError):
    """A case is broken, or does not hold what its replay needs."""


@dataclass(frozen=True)
class Line:
    """One line of a report.

    Args:
        name: of the output.
        shape: of the reference; None where there is no tensor.
        outcome: of the comparison.
    """

    name: str
    shape: tuple[int, ...] | None
    outcome: Outcome


class Case:
    """An opened case, which keeps account of what its replay read and checked.

    Args:
        folder: holds config.json and io.safetensors.

    Raises:
        CaseError: a file is missing or broken.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.config = _read_config(self.folder / CONFIG)
        self.system: str = self.config["system"]
        self.name: str = self.config["case"]
        self.hyper: dict[str, Any] = self.config["hyper"]
        self.tensors = _read_tensors(self.folder / TENSORS)
        self.lines: list[Line] = []
        self._read: set[str] = set()
        self._checked: set[str] = set()
        self._input = {name for name in self.tensors if self._is_input(name)}

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def input(self, name: str) -> Tensor:
        """Return a tensor to be fed to the product.

        Any tensor may be read; one that is not an input must be checked as well.

        Raises:
            CaseError: the case does not hold it.
        """
        if name not in self.tensors:
            held = ", ".join(sorted(self.tensors))
            raise CaseError(f"the case holds no tensor {name!r}; it holds {held}")
        self._read.add(name)
        return self.tensors[name].clone()

    def weights(self) -> dict[str, Tensor]:
        """Return the official state dict.

        Raises:
            CaseError: the case has no weights, or they are broken.
        """
        return _read_tensors(self.folder / WEIGHTS)

    def match(self, pattern: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield every tensor that a pattern names, with what its braces stand for.

        Where the pattern is one of the case's own, tensors that the case puts under another entry
        (their exact name, or a more literal pattern) are passed over.
        """
        own = pattern in self.config["io"]
        for name in sorted(self.tensors):
            parameters = names.parse(pattern, name)
            if parameters is None or (own and names.best(name, self.config["io"]) != pattern):
                continue
            yield name, {key: names.number(text) for key, text in parameters.items()}

    def arguments(self, name: str) -> dict[str, Any]:
        """Return what an output was made with, its braces filled in; {} where nothing is said."""
        stated = self.config.get("arguments", {})
        entry = names.best(name, stated)
        if entry is None:
            return {}
        filled = names.substitute(stated[entry], names.parse(entry, name) or {})
        assert isinstance(filled, dict)
        return filled

    def noise(
        self,
        given: Mapping[str, str],
        row: int | None = None,
        per_inner: tuple[str, ...] = (),
    ) -> ReplayedNoise:
        """Return the noise of a run, replayed from tensors of the case.

        Args:
            given: purpose -> name of a tensor [B, N, ...], or [N, ...] without `row`.
            row: which sequence of the batch.
            per_inner: see `ReplayedNoise`.
        """
        tensors = {purpose: self.input(name) for purpose, name in given.items()}
        if row is not None:
            tensors = {purpose: tensor[row] for purpose, tensor in tensors.items()}
        return ReplayedNoise(tensors, per_inner)

    def check(
        self,
        name: str,
        value: Tensor | float | int | bool,
        tolerance: float = DEFAULT,
        logits: str | None = None,
    ) -> None:
        """Compare a result with the case's tensor of this name, if it holds one.

        Args:
            value: what the product computed.
            tolerance: of a float output, where the case does not state its own; `SAMPLING_RUN`
                for a whole run with given noise.
            logits: name of the case's logits [..., V] that ids [...] were drawn from, if it holds
                them: ids may differ where these are a tie.
        """
        if name not in self.tensors:
            return
        reference = self.tensors[name]
        stated = self.config.get("tolerance") or {}
        entry = names.best(name, stated)
        outcome = compare(
            reference,
            value if isinstance(value, Tensor) else torch.as_tensor(value),
            tolerance if entry is None else stated[entry],
            own=entry is not None,
            logits=self.tensors.get(logits) if logits else None,
        )
        self._checked.add(name)
        self.lines.append(Line(name, tuple(reference.shape), outcome))

    def unaccounted(self) -> list[Line]:
        """Return a failure for every input that was not read and every output not checked."""
        lines = []
        for name, tensor in sorted(self.tensors.items()):
            if name in self._checked or (name in self._input and name in self._read):
                continue
            note = "an input that was never read" if name in self._input else "was not checked"
            lines.append(Line(name, tuple(tensor.shape), Outcome(False, float("nan"), note)))
        return lines

    def _is_input(self, name: str) -> bool:
        inputs = self.config["inputs"]
        if name in inputs:
            return True
        entry = names.best(name, self.config["io"])
        return names.best(name, inputs) is not None if entry is None else entry in inputs


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CaseError(f"{path.name} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise CaseError(f"{path.name} is not valid JSON: {error}") from None
    if not isinstance(config, dict):
        raise CaseError(f"{path.name} is broken: it must hold a mapping")
    needed = {"system": str, "case": str, "hyper": dict, "io": dict, "inputs": list}
    optional = {"arguments": dict, "tolerance": dict}
    for field, kind in {**needed, **optional}.items():
        value = config.get(field, kind() if field in optional else None)
        if not isinstance(value, kind) and not (field in optional and value is None):
            raise CaseError(f"{path.name}: the field {field!r} is missing or broken")
    for entry, value in (config.get("arguments") or {}).items():
        if not isinstance(value, dict):
            raise CaseError(f"{path.name}: arguments of {entry!r} must be a mapping")
    for entry, value in (config.get("tolerance") or {}).items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise CaseError(f"{path.name}: tolerance of {entry!r} must be a number")
    return config


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CaseError(f"{path.name} is truncated or broken: {error}") from None
    except OSError as error:
        raise CaseError(f"{path.name} cannot be read: {error.strerror or error}") from None
