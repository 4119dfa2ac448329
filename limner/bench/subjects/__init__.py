"""What is measured: one file a task and system, named `<task>_<system>.py`, with a `SUBJECT`."""

from __future__ import annotations

import pkgutil

from limner.bench.settings import BenchError

PIPELINE = "pipeline"
"""In place of a system: of subjects that measure a pipeline from its folder."""


def subject_module(task: str, model: str) -> str:
    """Return the module of the subject that measures a model in a task.

    Args:
        task: "train", "tokenize", ...
        model: name of a published variant, which begins with its system's name; or a pipeline's
            folder.

    Raises:
        BenchError: no subject knows it.
    """
    begin = f"{task}_"
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    systems = sorted(name.removeprefix(begin) for name in names if name.startswith(begin))
    fits = [system for system in systems if model.replace("-", "_").startswith(system)]
    if PIPELINE in systems:
        fits.append(PIPELINE)
    if not fits:
        known = ", ".join(system.replace("_", "-") for system in systems)
        raise BenchError(f"model={model!r} is not accepted: {task} is measured for {known or None}")
    return f"{__name__}.{begin}{max(fits, key=len)}"
