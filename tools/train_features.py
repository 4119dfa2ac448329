"""Train the packaged feature network, from the packaged pictures alone.

    python -m tools.train_features

writes limner/weights/features.safetensors: about 17 minutes of one CPU core, and the same bytes
again on the same machine. Two things are learned, neither from an emoji that is held out:

- **what is drawn**: pictures of one emoji by different artists, in different places, lights and
  before different backgrounds, are told from those of other emoji (NT-Xent of SimCLR, Chen et al.,
  arXiv:2002.05709), and so is its category;
- **what eyes mind**: a picture is farther from its blurred, noisy or blocky copy than from one in
  another light of the same squared error, and farther the more it is spoiled.

While it learns, every convolution is followed by batch normalisation; it is folded into the
convolutions afterwards.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from limner.core.seeds import seeded
from limner.hub.packaged import FEATURES, save_features
from limner.layers.feature_distances import layer_distances
from limner.layers.features import FeatureNetwork
from tools.compositions import HELD_OUT, PACKS, Drawings, clouds
from tools.distortions import DISTORTIONS, LIGHTS, distort, relight_as_far

SIZES = (24, 32, 32, 32, 48)
EMOJI = 64  # a step, two pictures each
SPOILED = 8  # a step, four pictures each
PEAK_RATE = 3e-3
WARM_UP = 0.1
TEMPERATURE = 0.1
CLEARLY = 0.5  # a distance is clearly larger from e**0.5 times the other on
SOURCE = (
    f"tools/train_features.py of limner, from its packaged pictures {', '.join(PACKS)} without "
    f"the {HELD_OUT:.0%} of emoji that are held out"
)


class Learner(nn.Module):
    """The network with norms, and the heads that only training needs.

    Args:
        classes: categories.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.network = FeatureNetwork()
        width = self.network.config.widths[-1]
        self.category = nn.Linear(width, classes)
        self.identity = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 64))
        for stage in self.network.stages:
            for index, convolution in enumerate(stage):
                norm = nn.BatchNorm2d(convolution.out_channels)
                stage[index] = nn.Sequential(convolution, norm)

    def folded(self) -> FeatureNetwork:
        """Return the network without norms; this learner is of no use afterwards."""
        self.eval()
        for stage in self.network.stages:
            for index, (convolution, norm) in enumerate(stage):
                stage[index] = fuse_conv_bn_eval(convolution, norm)
        return self.network

    def content_losses(self, pictures: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the losses of pictures [2 * B, 3, H, W]; k and k + B show the same emoji."""
        vectors = self.network(2 * pictures - 1)[-1].mean(dim=(2, 3))
        unit = functional.normalize(self.identity(vectors))
        itself = torch.eye(len(unit), dtype=torch.bool)
        nearness = (unit @ unit.T / TEMPERATURE).masked_fill(itself, -torch.inf)
        other = torch.arange(len(unit)).roll(len(unit) // 2)
        return {
            "identity": functional.cross_entropy(nearness, other),
            "category": 0.5 * functional.cross_entropy(self.category(vectors), labels),
        }

    def looks_loss(self, pictures: Tensor, rng: torch.Generator) -> Tensor:
        """Return how far the order of distances from pictures [B, 3, H, W] is from what it is."""
        count = len(pictures)
        kinds = torch.randint(len(DISTORTIONS), (count,), generator=rng)
        strength, more = torch.rand(2, count, generator=rng)
        spoiled = distort(pictures, kinds, strength, rng)
        worse = distort(pictures, kinds, strength + 0.2 + 0.4 * more, rng)
        lights = torch.randint(len(LIGHTS), (count,), generator=rng)
        relit, fits = relight_as_far(pictures, spoiled, lights)
        maps = self.network(2 * torch.cat([pictures, spoiled, worse, relit]) - 1)
        first, *others = zip(*[features.chunk(4) for features in maps])
        equal = [features.new_ones(features.shape[1]) for features in first]
        to_spoiled, to_worse, to_relit = (layer_distances(first, o, equal) for o in others)
        order = _farther(to_spoiled.sum(1), to_relit.sum(1))
        order = order + 0.5 * _farther(to_spoiled, to_relit).mean(dim=1)
        monotone = _farther(to_worse.sum(1), to_spoiled.sum(1))
        return (order * fits).mean() + 0.5 * monotone.mean()


def _farther(far: Tensor, near: Tensor) -> Tensor:
    """Nearly zero where `far` is clearly larger than `near`, by their ratio."""
    ratio = torch.log((far + 1e-4) / (near + 1e-4))
    return functional.softplus(4 * (CLEARLY - ratio)) / 4


def train(steps: int, seed: int, report_every: int = 100) -> FeatureNetwork:
    """Return a trained network."""
    drawings = Drawings()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner = Learner(len(drawings.classes)).to(memory_format=torch.channels_last).train()
    rng = seeded(seed, "train features")
    optimizer = torch.optim.AdamW(learner.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE, total_steps=steps, pct_start=WARM_UP
    )
    sums: defaultdict[str, float] = defaultdict(float)
    for step in range(1, steps + 1):
        size = SIZES[int(torch.randint(len(SIZES), (), generator=rng))]
        emoji = torch.randperm(len(drawings), generator=rng)[:EMOJI]
        places = drawings.two_styles(emoji, rng).flatten()
        pictures = drawings.compose(places, size, rng)
        losses = learner.content_losses(pictures, drawings.labels[emoji].repeat(2))
        plain = torch.rand(SPOILED, 1, 1, 1, generator=rng) < 0.3
        shown = torch.where(plain, clouds(SPOILED, size, rng), pictures[:SPOILED])
        losses["looks"] = learner.looks_loss(shown, rng)
        optimizer.zero_grad()
        torch.stack([*losses.values()]).sum().backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 2.0)
        optimizer.step()
        schedule.step()
        for name, loss in losses.items():
            sums[name] += loss.item() / report_every
        if step % report_every == 0:
            shown_losses = ", ".join(f"{name} {total:.3f}" for name, total in sums.items())
            print(f"{step}/{steps}: {shown_losses}, {time.process_time():.0f} s", flush=True)
            sums.clear()
    return learner.folded()


def main() -> None:
    """Read the command line, train and write the weights."""
    parser = argparse.ArgumentParser(description="train the packaged feature network")
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=FEATURES)
    asked = parser.parse_args()
    torch.set_num_threads(1)  # several threads add in another order
    torch.use_deterministic_algorithms(True)
    save_features(train(asked.steps, asked.seed), asked.output, SOURCE, "Apache-2.0")
    print(asked.output)


if __name__ == "__main__":
    main()
