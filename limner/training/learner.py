"""The inner loop: steps, measurements and checkpoints until the budget is used."""

from __future__ import annotations

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from limner.core.errors import LimnerError
from limner.core.stopping import Stop
from limner.training.checkpoint import Checkpoints, State
from limner.training.ema import Ema
from limner.training.engine import Engine, copy_into, whole
from limner.training.optimizer import follow_schedule, learning_rate
from limner.training.progress import Moment, Watch, memory_used
from limner.training.recipe import RunRecipe
from limner.training.task import Measured, Player, Task

REPORT_EVERY = 10  # steps; reading a loss more often would make a GPU wait


class TrainingError(LimnerError):
    """Training cannot go on."""


class Learner:
    """Trains the players of a task in place.

    Args:
        recipe: of the run.
        task: what is trained.
        engine: the processes and the device.
        checkpoints: of the run.
        watch: is told how the run goes.
    """

    def __init__(
        self,
        recipe: RunRecipe,
        task: Task,
        engine: Engine,
        checkpoints: Checkpoints,
        watch: Watch,
    ) -> None:
        self.recipe = recipe
        self.task = task
        self.engine = engine
        self.checkpoints = checkpoints
        self.watch = watch
        self.ema = Ema(task.network, recipe.ema) if recipe.ema is not None else None
        self.step = 0
        self.seconds = 0.0
        self.best = Measured(math.inf)
        self.best_step = 0
        self._first_loss: float | None = None  # the mean of the first steps
        self._latest: float | None = None  # the mean that was read last
        self._records: dict[str, list[Tensor]] = defaultdict(list)  # of the steps since a report
        self._begun = time.monotonic()
        self._before = 0.0  # seconds of earlier processes
        self._saved = time.monotonic()

    def run(self, stop: Stop) -> bool:
        """Train until the budget is used; return whether it was stopped before.

        Raises:
            TrainingError: a loss is not finite or diverges.
            CheckpointError: a state cannot be written.
        """
        self._begun = self._saved = time.monotonic()
        if self.step == 0:
            self.task.start()
            self.measure()
        while self.share < 1:
            if self.engine.agreed(float(stop.asked)):
                self.save()
                return True
            mark = self._mark()
            self.take_step()
            if self._mark() > mark:
                self.measure()
            elif self._is_due():
                self.save()
        return False

    @property
    def share(self) -> float:
        """Of the budget that is used."""
        return self.recipe.budget.share(self.step, self.seconds)

    def take_step(self) -> None:
        """Learn from one batch."""
        pieces = self.task.pieces(self.step)
        share = self.share
        for player in self.task.players:
            if self.step < player.since:
                continue
            follow_schedule(player.optimizer, player.recipe, share)
            player.spread.train()
            player.optimizer.zero_grad()
            for index, piece in enumerate(pieces):
                torch.manual_seed(piece.seed)
                with self.engine.last_piece(player.spread, index == len(pieces) - 1):
                    with self.engine.autocast():
                        loss = player.spread(piece)
                    (loss.total / len(pieces)).backward()
                self._record(player, loss.total, loss.parts, 1 / len(pieces), index == 0)
            if player.recipe.clip is not None:
                torch.nn.utils.clip_grad_norm_(player.network.parameters(), player.recipe.clip)
            player.optimizer.step()
        if self.ema is not None:
            self.ema.update()
        for name, value in self.task.after(pieces).items():
            self._records[name].append(torch.as_tensor(value))
        self.step += 1
        self.seconds = self.engine.agreed(self._before + time.monotonic() - self._begun)
        if len(self._records["loss"]) >= REPORT_EVERY:
            self.report()

    def measure(self) -> None:
        """Measure held-out pictures, with averaged weights where there are any; keep what is to be
        kept, show what is to be shown, and write the state."""
        losses = self._read_losses()
        with self.ema.applied() if self.ema is not None else contextlib.nullcontext():
            self._measure(losses)
        self.save()

    def _measure(self, losses: Mapping[str, float]) -> None:
        with self.engine.autocast():
            measured = self.task.measure()
        self._check_finite("held-out loss", measured.loss, self.step)
        kept = measured.loss < self.best.loss or self.recipe.choose == "last"
        shown = self._is_shown()
        if kept or shown:
            weights = weights_of(self.task.network)  # every process takes part
            if kept and self.engine.is_main:
                self.task.keep(weights)
            if shown and self.engine.is_main:
                self.task.show(weights, self.step)
        if kept:
            self.best, self.best_step = measured, self.step
        self._tell(losses, measured)

    def report(self) -> None:
        """Tell how the latest steps went.

        Raises:
            TrainingError: a loss is not finite or diverges.
        """
        self._tell(self._read_losses(), None)

    def save(self) -> None:
        """Write the state."""
        if self._records["loss"]:
            self.report()  # a state is only written when all losses before it were finite
        state = State(self._tensors(), self._facts())
        if self.engine.is_main:
            self.checkpoints.write(self.step, state)
        self.engine.wait()
        self._saved = time.monotonic()

    def restore(self, state: State) -> None:
        """Go on from a state of this run."""
        facts = state.facts
        for player in self.task.players:
            load_weights(player.network, state.under(f"weights.{player.name}."))
            _load_moments(player, state.under(f"optimizer.{player.name}."))
        if self.task.keeper is not None:
            load_weights(self.task.keeper, state.under("keeper."))
        if self.ema is not None:
            for name, value in state.under("ema.").items():
                copy_into(self.ema.means[name], value)
            self.ema.updates = facts["averaged"]
        self.step, self.seconds = facts["step"], facts["seconds"]
        self._before = self.seconds
        self.best = Measured(facts["best_loss"], facts["best_parts"])
        self.best_step = facts["best_step"]
        self._first_loss = facts["first_loss"]

    def _tensors(self) -> dict[str, Tensor]:
        """All tensors of the state; every process must ask."""
        tensors: dict[str, Tensor] = {}
        for player in self.task.players:
            for name, value in weights_of(player.network).items():
                tensors[f"weights.{player.name}.{name}"] = value
            for name, parameter in player.network.named_parameters():
                for key, moment in player.optimizer.state.get(parameter, {}).items():
                    tensors[f"optimizer.{player.name}.{name}|{key}"] = whole(moment)
        if self.task.keeper is not None:
            tensors |= {f"keeper.{n}": v for n, v in weights_of(self.task.keeper).items()}
        if self.ema is not None:
            tensors |= {f"ema.{n}": whole(value) for n, value in self.ema.means.items()}
        return tensors

    def _facts(self) -> dict[str, object]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "best_loss": self.best.loss,
            "best_parts": dict(self.best.parts),
            "best_step": self.best_step,
            "first_loss": self._first_loss,
            "averaged": self.ema.updates if self.ema is not None else 0,
        }

    def _record(
        self, player: Player, total: Tensor, parts: Mapping[str, Tensor], share: float, new: bool
    ) -> None:
        """Note a piece's losses; those of one step are averaged."""
        first = player is self.task.players[0]
        values = {"loss" if first else f"{player.name}_loss": total.detach(), **parts}
        for name, value in values.items():
            if new:
                self._records[name].append(value.detach() * share)
            else:
                self._records[name][-1] = self._records[name][-1] + value.detach() * share

    def _read_losses(self) -> dict[str, float]:
        """Return the means over the latest steps and processes, and forget them."""
        means = {}
        last = self.step
        for name, values in self._records.items():
            if not values:
                continue
            read = self.engine.mean(torch.stack([v.float().to(self.engine.device) for v in values]))
            for step, value in enumerate(read.tolist(), start=last - len(values) + 1):
                self._check_finite(name.replace("_", " "), value, step)
            means[name] = float(read.mean())
        self._records.clear()
        if "loss" in means:
            self._check_course(means["loss"])
            self._latest = means["loss"]
        return means

    def _tell(self, losses: Mapping[str, float], measured: Measured | None) -> None:
        parts = {name: value for name, value in losses.items() if name != "loss"}
        if measured is not None:
            parts |= {f"held_out_{name}": value for name, value in measured.parts.items()}
        moment = Moment(
            step=self.step,
            share=min(1.0, self.share),
            seconds=self.seconds,
            lr=learning_rate(self.recipe.optimizer, self.share),
            loss=self._latest,
            held_out=None if measured is None else measured.loss,
            examples=self.step * self.recipe.budget.batch,
            memory=memory_used(self.engine.device),
            parts=parts,
        )
        self.watch(moment)

    def _mark(self) -> int:
        """How many measurements are due by now."""
        budget, times = self.recipe.budget, self.recipe.evaluations
        if budget.steps is not None:
            return self.step * times // budget.steps
        return math.floor(min(1.0, self.share) * times)

    def _is_due(self) -> bool:
        """Whether the state is to be written between measurements."""
        recipe = self.recipe.checkpoint
        by_steps = recipe.every is not None and self.step % recipe.every == 0
        age = (time.monotonic() - self._saved) / 60
        by_time = recipe.minutes is not None and self.engine.agreed(age) >= recipe.minutes
        return by_steps or by_time

    def _is_shown(self) -> bool:
        """Whether pictures are due at this measurement, before the end of the run."""
        times = self.task.times_shown
        between = max(1, self.recipe.evaluations // times)
        number = self._mark()
        return times > 1 and 0 < number < self.recipe.evaluations and number % between == 0

    def _check_course(self, loss: float) -> None:
        if self._first_loss is None:
            self._first_loss = loss
        limit = self.recipe.diverging * abs(self._first_loss)
        if loss > limit:
            raise TrainingError(
                f"the loss diverges: {loss:.4g} over the steps up to {self.step}, more than "
                f"{self.recipe.diverging:g} times its first value, {self._first_loss:.4g}"
                + self._advice(self.step)
            )

    def _check_finite(self, name: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            raise TrainingError(f"the {name} is {value} at step {step}" + self._advice(step))

    def _advice(self, step: int) -> str:
        """What to do about a loss that went wrong at a step, and what is left."""
        optimizer = self.recipe.optimizer
        names = self.task.names(step - 1) if step else []
        batch = f" (its batch: {', '.join(names[:3])}, ...)" if names else ""
        saved = self.checkpoints.steps()
        kept = f"; the best state, of step {self.best_step}, is kept" if self.best_step else ""
        state = f"; --resume goes on from step {saved[-1]}" if saved else ""
        return (
            f"{batch}: lower optimizer.lr (now {optimizer.lr}) or optimizer.clip "
            f"(now {optimizer.clip}){kept}{state}"
        )


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Return all tensors that a module saves, whole and on the CPU; a tied one once."""
    saved = module.state_dict().keys()
    tensors: dict[str, Tensor] = dict(module.named_parameters())
    tensors |= {name: buffer for name, buffer in module.named_buffers() if name in saved}
    return {name: whole(tensor) for name, tensor in tensors.items()}


def load_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Write what `weights_of` returned into a module."""
    tensors = module.state_dict(keep_vars=True)  # tied ones under every name
    for name, value in weights.items():
        copy_into(tensors[name], value)


def _load_moments(player: Player, moments: Mapping[str, Tensor]) -> None:
    parameters = dict(player.network.named_parameters())
    for path, value in moments.items():
        name, _, key = path.rpartition("|")
        parameter = parameters[name]
        state = player.optimizer.state[parameter]
        if value.shape == parameter.shape:
            state[key] = torch.zeros_like(parameter, dtype=value.dtype)
            copy_into(state[key], value)
        else:  # the count of steps
            state[key] = value.to(parameter.device)
