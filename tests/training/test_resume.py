"""A run goes on to the bit, wherever it was killed and on however many processes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from limner.core.errors import ConfigError
from limner.training import Recipe, dump_recipe, train
from limner.training.checkpoint import Checkpoints, State
from limner.training.generator_task import GeneratorTask
from limner.training.learner import Learner

Small = Callable[..., Recipe]
EVERY_STEP = {"checkpoint.every": 1, "ema": 0.9}


class Killed(BaseException):
    """Stands for a kill: nothing of limner's catches it."""


def files(folder: Path) -> dict[str, bytes]:
    """The weights that a run leaves: what is kept for use, and the last state."""
    state = max((folder / "checkpoints").iterdir())
    return {
        "model": (folder / "model" / "model.safetensors").read_bytes(),
        **{name: tensor.numpy().tobytes() for name, tensor in load_file(state).items()},
    }


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (GeneratorTask, "pieces"),
        (GeneratorTask, "measure"),
        (GeneratorTask, "keep"),
        (Checkpoints, "write"),
        (Learner, "report"),
    ],
)
def test_a_run_that_dies_anywhere_goes_on_to_the_bit(
    small: Small, recorder, monkeypatch, tmp_path: Path, owner: type, name: str
) -> None:
    whole = train(small({**EVERY_STEP, "output": str(tmp_path / "whole")}), recorder)
    recipe = small({**EVERY_STEP, "output": str(tmp_path / "cut")})
    honest, calls, lives = getattr(owner, name), [], 0

    def dying(*arguments: object, **named: object) -> object:
        calls.append(1)
        if len(calls) % 3 == 0:  # some calls succeed, so that the run gets on
            raise Killed
        return honest(*arguments, **named)

    monkeypatch.setattr(owner, name, dying)
    while True:
        lives += 1
        try:
            run = train(recipe, recorder, resume=True)
            break
        except Killed:
            assert lives < 40
    assert lives > 1
    assert files(run.directory) == files(whole.directory)
    assert run.metrics["held_out"] == whole.metrics["held_out"]
    steps = [
        [json.loads(line)["step"] for line in (r.directory / "log.jsonl").read_text().splitlines()]
        for r in (run, whole)
    ]
    assert set(steps[0]) == set(steps[1]) | set(steps[0])
    assert steps[0] == sorted(steps[0])


def test_a_finished_run_is_left_as_it_is(small: Small, recorder) -> None:
    first = train(small(), recorder)
    before = files(first.directory)
    again = train(small(), recorder, resume=True)
    assert files(again.directory) == before
    assert again.metrics["held_out"] == first.metrics["held_out"]
    assert not first.directory.with_name("run.previous").exists()


WRITER = """
import pathlib, sys, torch
from limner.training.checkpoint import Checkpoints, State
while True:
    Checkpoints(pathlib.Path(sys.argv[1]), 1).write(0, State({"x": torch.zeros(30_000_000)}, {}))
"""


def test_what_was_being_written_is_removed(small: Small, recorder) -> None:
    """Files of limner's own and those that the installed safetensors writes to; no others."""
    run = train(small(), recorder)
    folder = run.directory / "checkpoints"
    (folder / ".keep").touch()
    writer = subprocess.Popen([sys.executable, "-c", WRITER, run.directory])
    while set(folder.glob(".*")) == {folder / ".keep"}:
        assert writer.poll() is None
    writer.kill()
    writer.wait()
    (folder / ".tmp04AIwa").touch()  # as safetensors 0.8 names them
    train(small(), recorder, resume=True)
    assert list(run.directory.rglob(".*")) == [folder / ".keep"]


def test_a_longer_budget_goes_on_from_the_end(small: Small, recorder) -> None:
    train(small({"optimizer.schedule": "constant"}), recorder)
    run = train(small({"optimizer.schedule": "constant", "budget.steps": 20}), recorder, True)
    assert run.metrics["steps"] == 20
    assert "going on from step 12" in recorder.said


@pytest.mark.parametrize(
    ("field", "value"), [("seed", 1), ("model.config.width", 32), ("data.size", 16)]
)
def test_another_run_is_not_gone_on_from(small: Small, recorder, field: str, value: int) -> None:
    train(small(), recorder)
    name = field.split(".config")[0].replace(".", r"\.")
    with pytest.raises(ConfigError, match=rf"{name}=.* the run in .* has {name}="):
        train(small({field: value}), recorder, resume=True)
    train(small(), recorder, resume=True)  # the recipe of the run is as it was


def test_batches_and_random_numbers_do_not_depend_on_pieces_in_turn(
    small: Small, recorder, tmp_path: Path
) -> None:
    """Without random numbers, a batch in pieces is the whole batch."""
    fields = {"model.config.dropout": 0.0, "model.config.condition_dropout": 0.0}

    def course(pieces: int) -> list[float]:
        name = str(tmp_path / f"run-{pieces}")
        run = train(small({**fields, "budget.pieces": pieces, "output": name}), recorder)
        return losses(run.directory)

    assert course(1) == pytest.approx(course(4), abs=1e-5)


def test_damaged_states_are_passed_over(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoints.write(step, State({"x": torch.tensor([step])}, {"step": step}))
    assert checkpoints.steps() == [2, 3]
    latest = tmp_path / "checkpoints" / "step-00000003.safetensors"
    latest.write_bytes(latest.read_bytes()[:-4])
    state = checkpoints.latest()
    assert state is not None and state.facts["step"] == 2
    assert state.tensors["x"].tolist() == [2]


FULL_DISK = """
import resource, sys, torch
from pathlib import Path
from limner.core.errors import CheckpointError
from limner.training.checkpoint import Checkpoints, State
checkpoints = Checkpoints(Path(sys.argv[1]), keep=1)
checkpoints.write(1, State({"x": torch.ones(1000)}, {"step": 1}))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    checkpoints.write(2, State({"x": torch.ones(1000)}, {"step": 2}))
except CheckpointError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no limits of file sizes")
def test_a_full_disk_leaves_the_last_state(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "step 2 cannot be written" in done.stdout and "of step 1 is intact" in done.stdout
    state = Checkpoints(tmp_path, keep=1).latest()
    assert state is not None and state.facts["step"] == 1
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def launch(command: list[str], recipe: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command, "train", str(recipe), "--resume"],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def written(recipe: Recipe, folder: Path) -> Path:
    file = folder / "recipe.yaml"
    folder.mkdir()
    file.write_text(dump_recipe(recipe), encoding="utf-8")
    return file


def wait_for_progress(folder: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a process has written something new, or has ended."""

    def newest() -> list[tuple[str, int]]:
        files = folder.rglob("*") if folder.is_dir() else ()
        return sorted((str(file), file.stat().st_mtime_ns) for file in files if file.is_file())

    before = newest()
    while process.poll() is None:
        try:
            if newest() != before:
                return
        except FileNotFoundError:  # renamed meanwhile
            return
        time.sleep(0.01)


@pytest.mark.slow
def test_twenty_kills_change_nothing(small: Small, recorder, tmp_path: Path) -> None:
    """kill -9 at random moments: at start-up, while tokenising, stepping, measuring, writing."""
    fields = {"budget.steps": 4000, "evaluations": 40, "checkpoint.every": 7, "ema": 0.9}
    whole = train(small({**fields, "output": str(tmp_path / "whole")}), recorder)
    cut = small({**fields, "output": str(tmp_path / "cut")})
    folder = Path(cut.output)
    file = written(cut, tmp_path / "recipe")
    moments, reached = random.Random(0), []
    limner = [sys.executable, "-m", "limner"]
    for kill in range(20):
        process = launch(limner, file)
        if kill % 5:
            wait_for_progress(folder, process)
        time.sleep(moments.uniform(0, 2.0))
        assert process.poll() is None, "it was done before it was killed: give it more steps"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        reached.append(max(Checkpoints(folder, 1).steps(), default=0))
    assert reached == sorted(reached) and len(set(reached)) > 8, reached
    process = launch(limner, file)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert files(folder) == files(whole.directory)
    assert not list(folder.rglob(".*")), "what was being written is left"


def losses(folder: Path) -> list[float]:
    lines = (json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line.get("loss") is not None]


LAUNCHERS = [
    ("torch.distributed.run", "--nproc-per-node=2 -m limner"),
    (
        "accelerate.commands.launch",
        # on a machine without GPUs this option still starts the processes
        "--multi_gpu --num_processes=2 --num_machines=1 --mixed_precision=no "
        "--dynamo_backend=no --module limner",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize(("launcher", "options"), LAUNCHERS)
def test_two_processes_learn_what_one_does(
    small: Small, recorder, tmp_path: Path, launcher: str, options: str, parallel: str
) -> None:
    """Two processes with a half of each batch: the loss curve of one process, dropout and all."""
    fields = {"budget.steps": 40, "evaluations": 4, "budget.pieces": 2, "parallel": parallel}
    alone = train(small({**fields, "output": str(tmp_path / "alone")}), recorder)
    recipe = small({**fields, "output": str(tmp_path / "together")})
    file = written(recipe, tmp_path / "recipe")
    process = launch([sys.executable, "-m", launcher, *options.split()], file)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "and 1 more" in said, "there was one process"
    assert losses(Path(recipe.output)) == pytest.approx(losses(alone.directory), abs=1e-5)
    one, two = (
        load_file(folder / "model" / "model.safetensors")
        for folder in (alone.directory, Path(recipe.output))
    )
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-4, rtol=1e-3)
