"""The inner loop: steps and measurements until the budget is used."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from limner.core.errors import LimnerError
from limner.core.generator import Generator
from limner.core.seeds import seeded
from limner.training.ema import Ema
from limner.training.examples import Examples, endless_batches
from limner.training.measure import held_out_loss
from limner.training.optimizer import build_optimizer, learning_rate, set_learning_rate
from limner.training.progress import Moment
from limner.training.recipe import Recipe

REPORT_EVERY = 10  # steps; reading a loss more often would make a GPU wait


class TrainingError(LimnerError):
    """Training cannot go on."""


class Learner:
    """Trains a generator in place.

    Args:
        recipe: of the run.
        generator: on the device it is trained on.
        train: what it learns from.
        held_out: what it is measured on.
        keep: is called whenever the generator holds the best state that was measured so far.
        watch: is told how the run goes.
    """

    def __init__(
        self,
        recipe: Recipe,
        generator: Generator,
        train: Examples,
        held_out: Examples,
        keep: Callable[[], None],
        watch: Callable[[Moment], None],
    ) -> None:
        self.recipe = recipe
        self.generator = generator
        self.train = train
        self.held_out = held_out
        self.keep = keep
        self.watch = watch
        self.optimizer = build_optimizer(generator, recipe.optimizer)
        self.ema = Ema(generator, recipe.ema) if recipe.ema is not None else None
        order = seeded(recipe.seed, "batches")
        self.batches = endless_batches(len(train), recipe.budget.batch, order)
        self.rng = seeded(recipe.seed, "loss")
        self.step = 0
        self.best_step = 0
        self.best_loss = math.inf
        self._losses: list[Tensor] = []  # of the steps since they were last read
        self._mean: float | None = None  # of those that were read last
        self._started = time.monotonic()

    def run(self) -> bool:
        """Train until the budget is used; return whether Ctrl-C cut it short.

        Raises:
            TrainingError: a loss is not finite.
        """
        evaluations = self.recipe.evaluations
        self._started = time.monotonic()
        try:
            for number in range(1, evaluations + 1):
                begun = self.step
                while self.share < number / evaluations:
                    self.take_step()
                if self.step > begun:
                    self.measure()
        except KeyboardInterrupt:
            if self.best_step == 0:
                self.measure()
            return True
        return False

    @property
    def seconds(self) -> float:
        """Since the first step."""
        return time.monotonic() - self._started

    @property
    def share(self) -> float:
        """Of the budget that is used."""
        return self.recipe.budget.share(self.step, self.seconds)

    def take_step(self) -> None:
        """Learn from one batch."""
        recipe = self.recipe
        set_learning_rate(self.optimizer, learning_rate(recipe.optimizer, self.share))
        self.generator.train()
        tokens, condition = self.train.take(next(self.batches), self.generator.device)
        with self._precision():
            loss = self.generator.loss(tokens, condition, self.rng).total
        self.optimizer.zero_grad()
        loss.backward()
        if recipe.optimizer.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.generator.parameters(), recipe.optimizer.clip)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update()
        self.step += 1
        self._losses.append(loss.detach())
        if len(self._losses) >= REPORT_EVERY:
            self.report()

    def measure(self) -> None:
        """Measure the held-out loss, of the averaged weights where there are any; keep the best."""
        averaged = self.ema.applied() if self.ema is not None else contextlib.nullcontext()
        with averaged, self._precision():
            loss = held_out_loss(self.generator, self.held_out, self.recipe.budget.batch)["loss"]
            if loss < self.best_loss:
                self.keep()
                self.best_loss, self.best_step = loss, self.step
        self.report(loss)

    def report(self, held_out: float | None = None) -> None:
        """Tell how the latest steps went.

        Raises:
            TrainingError: a loss is not finite.
        """
        losses = torch.stack(self._losses).tolist() if self._losses else []
        self._losses.clear()
        for step, loss in enumerate(losses, start=self.step - len(losses) + 1):
            self._check_finite("loss", loss, step)
        if held_out is not None:
            self._check_finite("held-out loss", held_out, self.step)
        if losses:
            self._mean = sum(losses) / len(losses)
        rate = learning_rate(self.recipe.optimizer, self.share)
        self.watch(
            Moment(self.step, min(1.0, self.share), self.seconds, rate, self._mean, held_out)
        )

    def _check_finite(self, name: str, loss: float, step: int) -> None:
        if math.isfinite(loss):
            return
        optimizer = self.recipe.optimizer
        kept = f"; the best state before it, of step {self.best_step}, is saved"
        raise TrainingError(
            f"the {name} is {loss} at step {step}: lower optimizer.lr (now {optimizer.lr}) or "
            f"optimizer.clip (now {optimizer.clip}){kept if self.best_step else ''}"
        )

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        """Matrix products in bfloat16 where the recipe asks for it."""
        if self.recipe.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.generator.device.type, dtype=torch.bfloat16)
