"""Worker processes, as the comparing process holds them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Any

from limner.bench.settings import BenchError, Settings


class WorkerProcess:
    """A worker that is asked and answers; see `limner.bench.worker`. It ends with the block.

    Args:
        subject: module of the subject.
        side: "ours" or "official".
        settings: of the comparison.
        checkout: folder of the official code.
    """

    def __init__(self, subject: str, side: str, settings: Settings, checkout: str = "") -> None:
        self.side = side
        given = {
            "subject": subject,
            "side": side,
            "checkout": checkout,
            "settings": dataclasses.asdict(settings),
        }
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  what it says, for messages
        self._process = subprocess.Popen(
            [sys.executable, "-m", "limner.bench.worker", json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(settings.threads)},
        )

    def ask(self, request: str) -> Any:
        """Return the answer to a request.

        Raises:
            BenchError: the worker makes a mistake, or is gone.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(request, file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise BenchError(f"the worker of {self.side!r} has ended{self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise BenchError(answer["error"])
        return answer["found"]

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.terminate()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            pipe.close()

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().strip().splitlines()
        return f": {lines[-1]}" if lines else ""
