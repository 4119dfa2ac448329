"""Running cases and reporting on them."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from limner.core.errors import LimnerError
from limner.verify.case import CONFIG, TENSORS, Case, Line
from limner.verify.compare import Outcome
from limner.verify.registry import replay_of

Write = Callable[[str], None]


@dataclass
class CaseReport:
    """What became of one case.

    Args:
        title: "system/case", or the folder of a case that cannot be read.
        folder: of the case.
        lines: one an output, and one for every other failure.
    """

    title: str
    folder: Path
    lines: list[Line] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every line is."""
        return all(line.outcome.ok for line in self.lines)


@dataclass
class Report:
    """What became of all cases.

    Args:
        cases: in the order in which they ran.
    """

    cases: list[CaseReport] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every case is, and there is at least one."""
        return bool(self.cases) and all(case.ok for case in self.cases)

    @property
    def exit_code(self) -> int:
        """0 if all is well, else 1."""
        return 0 if self.ok else 1


def verify(paths: Iterable[str | Path], write: Write = print) -> Report:
    """Replay all cases at or below the given paths.

    Args:
        paths: folders.
        write: takes the report line by line, as it comes about.

    Raises:
        LimnerError: a path does not exist, or there are no cases.
    """
    folders = find_cases(paths)
    report = Report()
    for folder in folders:
        case = run_case(folder)
        report.cases.append(case)
        for text in _table(case):
            write(text)
    write(_summary(report))
    return report


def find_cases(paths: Iterable[str | Path]) -> list[Path]:
    """Return the folders of all cases at or below the given paths, each once.

    Raises:
        LimnerError: a path does not exist, or there are no cases.
    """
    starts = [Path(path) for path in paths]
    found: dict[Path, Path] = {}
    for path in starts:
        if not path.exists():
            raise LimnerError(
                f"path={str(path)!r} is not accepted: there is no such file or folder"
            )
        for folder in _folders(path.parent if path.is_file() else path):
            found.setdefault(folder.resolve(), folder)
    if not found:
        shown = ", ".join(map(str, starts))
        raise LimnerError(f"no cases below {shown or 'no paths'}: a case is a folder with {CONFIG}")
    return list(found.values())


def run_case(folder: Path) -> CaseReport:
    """Replay one case; whatever goes wrong becomes a failure in its report."""
    report = CaseReport(str(folder), folder)
    case: Case | None = None
    try:
        case = Case(folder)
        report.title = f"{case.system}/{case.name}"
        replay_of(case)(case)
    except LimnerError as error:
        report.lines.append(_failure(str(error)))
    except Exception as error:
        # a replay's mistake is one case's failure, not the end of the run
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        report.lines.append(_failure(f"{type(error).__name__}: {error} ({place})"))
    if case is not None:
        report.lines = case.lines + report.lines + case.unaccounted()
        if not case.lines and not report.lines:
            report.lines.append(_failure("nothing was checked"))
    return report


def _failure(message: str) -> Line:
    return Line("replay", None, Outcome(False, float("nan"), " ".join(message.split())))


def _folders(path: Path) -> Iterator[Path]:
    configs = {config.parent for config in path.rglob(CONFIG) if not _is_checkpoint(config)}
    yield from sorted(configs | {tensors.parent for tensors in path.rglob(TENSORS)})


def _is_checkpoint(config: Path) -> bool:
    """Whether a config.json is that of a saved model and not of a case."""
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "limner" in content


def _table(report: CaseReport) -> Iterator[str]:
    """Yield a case's lines with aligned columns."""
    yield f"{report.title}  ({report.folder})"
    cells = [
        (line.name, "" if line.shape is None else str(list(line.shape)), _error(line.outcome))
        for line in report.lines
    ]
    widths = [max(len(cell[column]) for cell in cells) for column in range(3)] if cells else []
    for line, cell in zip(report.lines, cells, strict=True):
        columns = [text.ljust(width) for text, width in zip(cell, widths, strict=True)]
        verdict = "ok" if line.outcome.ok else "FAIL"
        yield "  ".join(["", *columns, f"{verdict:4}", line.outcome.note]).rstrip()


def _error(outcome: Outcome) -> str:
    if outcome.error != outcome.error:
        return "-"
    return "exact" if outcome.error == 0 else f"{outcome.error:.2g}"


def _summary(report: Report) -> str:
    lines = [line for case in report.cases for line in case.lines]
    failed = [case for case in report.cases if not case.ok]
    count = f"{len(lines)} outputs of {len(report.cases)} cases"
    if not failed:
        return f"{count}: all ok"
    wrong = sum(not line.outcome.ok for line in lines)
    return f"{count}: {wrong} FAIL in {', '.join(case.title for case in failed)}"
