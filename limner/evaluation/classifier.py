"""A small classifier, trained on real pictures, that says which class a drawn one looks like."""

from __future__ import annotations

import itertools
import math
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.errors import check
from limner.data import Augment, PictureSet

BATCH = 128
PEAK_RATE = 3e-3
AUGMENT = Augment(shift=3, flip=0.5)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return a norm whose running statistics keep up with a run of a few dozen steps."""
    return nn.BatchNorm2d(channels, momentum=0.3)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; `stride` 2 halves the picture."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(into, out, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(into, out, 1, stride, bias=False)
        self.first_norm = batch_norm(out)
        self.second_norm = batch_norm(out)

    def forward(self, x: Tensor) -> Tensor:
        """Map float [B, into, H, W] to [B, out, H / stride, W / stride]."""
        inner = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(inner)) + self.shortcut(x))


class Classifier(nn.Module):
    """A residual network of three levels and a mean over places, for pictures of any size.

    Args:
        classes: names, in the order of the labels.
        width: channels of the first level; each further level has twice as many.

    Attributes:
        held_out_accuracy: share of held-out pictures whose class was recognised.
    """

    def __init__(self, classes: tuple[str, ...], width: int = 24) -> None:
        super().__init__()
        self.classes = classes
        self.held_out_accuracy = math.nan
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            batch_norm(width),
            nn.ReLU(),
            ResidualBlock(width, width, 2),
            ResidualBlock(width, 2 * width, 2),
            ResidualBlock(2 * width, 4 * width, 2),
        )
        self.output = nn.Linear(4 * width, len(classes))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return logits [B, classes] of pictures [B, 3, H, W] in [-1, 1]."""
        logits: Tensor = self.output(self.body(pictures).mean(dim=(2, 3)))
        return logits

    @torch.no_grad()
    def predict(self, pictures: Tensor) -> Tensor:
        """Return the most likely label of pictures [B, 3, H, W] in [-1, 1], int64 [B]."""
        self.eval()
        parts = [self(part).argmax(dim=1) for part in pictures.split(512)]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)

    def agreement(self, pictures: Tensor, labels: Tensor) -> float:
        """Return the share of pictures that are recognised as their label, int64 [B]."""
        return float((self.predict(pictures) == labels).double().mean())


def train_classifier(
    pictures: PictureSet,
    rng: torch.Generator,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    held_out: float = 0.1,
) -> Classifier:
    """Train a classifier on a set of pictures.

    Args:
        pictures: split by key as training splits them, so the same share holds out the same ones.
        rng: for the weights, the batches and the augmentation.
        seconds: how long; or
        steps: how many.
        held_out: share of the pictures that the accuracy is measured on.

    Returns:
        The classifier, in evaluation mode, with its `held_out_accuracy`.

    Raises:
        ConfigError: not exactly one of seconds and steps.
    """
    budget = (seconds, steps)
    check(budget.count(None) == 1, "seconds, steps", budget, "one of the two")
    train, test = pictures.split(held_out)
    classifier = _fresh(pictures.classes, rng)
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.05)
    started = time.monotonic()
    for step in itertools.count():
        share = step / steps if steps else (time.monotonic() - started) / (seconds or 1)
        if share >= 1:
            break
        # a triangle: up for a quarter of the budget, then down to 0
        rate = PEAK_RATE * min(4 * share, (1 - share) / 0.75)
        for group in optimizer.param_groups:
            group["lr"] = rate
        index = torch.randint(len(train), (BATCH,), generator=rng)
        batch = AUGMENT(train.to_float(index), rng)
        loss = functional.cross_entropy(classifier(batch), train.labels[index], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    classifier.eval()
    classifier.held_out_accuracy = classifier.agreement(test.to_float(), test.labels)
    return classifier


def _fresh(classes: tuple[str, ...], rng: torch.Generator) -> Classifier:
    """Return a classifier whose weights follow from `rng`; torch's global state stays as it was."""
    seed = int(torch.randint(2**62, (1,), generator=rng))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(classes).train()
