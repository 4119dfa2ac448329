"""Results: numbers that never travel without what they were measured with."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from limner.core.config import from_dict, to_dict
from limner.core.errors import ConfigError, DataError
from limner.core.files import replaced
from limner.evaluation.resampling import Bootstrap
from limner.evaluation.samples import Drawing

FORMAT = 1
RESULT = "eval.json"
ALBUM = "pictures.npz"
"""Some of the drawn pictures, to be shown beside those of other results."""

Better = Literal["lower", "higher", "as real"]
"""Which value is good; "as real": that of real pictures is, and neither more nor less."""


@dataclass(frozen=True)
class Number:
    """A measurement.

    Args:
        title: its name as it is shown.
        value: of all pictures.
        low: of the interval around it.
        high: of the interval around it.
        better: which value is good.
        resampled: which pictures the interval is over.
        settings: of the measurement itself; the protocol holds the others.
        real: the same measurement of real pictures in the place of drawn ones; None: there are no
            others at hand.
        real_count: how many.
    """

    title: str
    value: float
    low: float
    high: float
    better: Better
    resampled: str
    settings: dict[str, Any] = field(default_factory=dict)
    real: float | None = None
    real_count: int | None = None


@dataclass(frozen=True)
class SetFacts:
    """Which pictures.

    Args:
        name: folder, file or part of a data set.
        count: pictures; None: statistics, whose count is not known.
        size: height and width; None: not known.
        fingerprint: of the pictures, whatever their order; or of the statistics.
    """

    name: str
    count: int | None
    size: tuple[int, int] | None
    fingerprint: str


@dataclass(frozen=True)
class Protocol:
    """What all numbers of a result were measured with.

    Args:
        command: that measures them again, with every setting.
        limner: version.
        features: name of the feature space.
        network: fingerprint of its weights.
        precision: of features and numbers.
        device: where features were computed.
        made: the pictures that were measured.
        real: the evaluation set.
        bootstrap: how intervals were found.
        drawing: how the pictures were drawn; None: they were given.
    """

    command: str
    limner: str
    features: str
    network: str
    device: str
    made: SetFacts
    real: SetFacts
    bootstrap: Bootstrap
    drawing: Drawing | None = None
    precision: str = "features float32 without TF32, numbers float64"


@dataclass(frozen=True)
class Result:
    """What was measured.

    Args:
        protocol: with what.
        numbers: by name.
        course: the Fréchet distance of the first n drawn pictures: (n, distance).
        notes: what readers must know.
    """

    protocol: Protocol
    numbers: dict[str, Number]
    course: tuple[tuple[int, float], ...] = ()
    notes: tuple[str, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write the result as JSON, whole or not at all.

        Raises:
            DataError: it cannot be written.
        """
        values = {"limner": FORMAT, **to_dict(self)}
        with replaced(path) as temporary:
            text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
            temporary.write_text(text, encoding="utf-8")


def find_result(path: str | Path) -> Path:
    """Return the file of a result.

    Args:
        path: that file, its folder, or the folder of an evaluated run.

    Raises:
        DataError: there is none.
    """
    given = Path(path).expanduser()
    for file in (given, given / RESULT, given / "eval" / RESULT):
        if file.is_file():
            return file.resolve()
    raise DataError(f"{path} holds no result ({RESULT}): measure it with `limner eval`")


def read_result(file: Path) -> Result:
    """Read a result.

    Raises:
        DataError: it is broken, or of another format.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        version = values.pop("limner", None)
        if version != FORMAT:
            raise DataError(f"{file} is of format {version!r}: known: {FORMAT}")
        result = from_dict(Result, values)
        numbers = {name: from_dict(Number, n, name) for name, n in result.numbers.items()}  # type: ignore[arg-type]
    except (OSError, ValueError, TypeError, AttributeError, ConfigError) as error:
        raise DataError(f"{file} is no result of `limner eval`: {error}") from None
    return replace(result, numbers=numbers)
