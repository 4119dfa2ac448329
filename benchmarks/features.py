"""Whether the packaged feature network sees as eyes do, beside an untrained one and bare pixels.

    python -m benchmarks.features [--photographs FOLDER]

writes benchmarks/results/features.json. Pictures are emoji that training held out and, where a
FOLDER is given, photographs from its cifar10-train.npz and cifar10-test.npz (arrays: `jpeg`, files
end to end; `offsets`; `labels`).

- **order**: how often a spoiled picture is farther from the original than one in another light of
  the same squared error, which for the squared error itself is a draw. Pixelation and salt-and-
  pepper noise are unlike all that training saw.
- **recognition**: accuracy of a ridge regression and of the nearest neighbour, by the networks'
  vectors or by pixels; and how often the nearest of another artist's held-out emoji is the same.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.record import RESULTS, circumstances
from limner.core.seeds import seeded
from limner.data import load_packaged
from limner.data.images import to_levels, to_rgb
from limner.data.split import held_out_mask
from limner.hub.build import parameter_count
from limner.hub.packaged import FEATURES, load_features
from limner.layers.features import FeatureNetwork
from limner.layers.perceptual import FeatureDistance
from limner.show.images import to_images
from tools.compositions import HELD_OUT, PACKS, Drawings
from tools.distortions import LIGHTS, blur, noise, relight_as_far
from tools.train_features import Learner

ORDERED = 500  # pictures of a set whose order is asked
UNTRAINED = 3  # networks
PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)
Embed = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pictures:
    """Pictures, float [B, 3, H, W] in [0, 1], and their labels, int64 [B]."""

    pixels: Tensor
    labels: Tensor


def untrained(seed: int) -> FeatureNetwork:
    """Return a network of the same shape whose random features have mean 0 and variance 1.

    That is a better network than the usual random weights make.
    """
    drawings, rng = Drawings(), seeded(seed, "untrained")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner = Learner(len(drawings.classes)).train()
    for module in learner.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches
    for _ in range(4):
        places = drawings.two_styles(torch.randperm(len(drawings), generator=rng)[:64], rng)
        with torch.no_grad():
            learner.network(2 * drawings.compose(places.flatten(), 32, rng) - 1)
    return learner.folded().requires_grad_(False)


def spoil(pictures: Tensor) -> dict[str, Tensor]:
    """Return spoiled copies of pictures [B, 3, H, W] in [0, 1], by how they were spoiled."""
    rng, count = seeded(0, "spoil"), len(pictures)
    salt = torch.rand(count, 1, *pictures.shape[2:], generator=rng)
    grains = functional.interpolate(functional.avg_pool2d(pictures, 2), scale_factor=2.0)
    return {
        "blur": blur(pictures, torch.ones(count)),
        "jpeg": _jpeg(pictures, quality=10),
        "noise": noise(pictures, torch.full((count,), 0.1), rng),
        "pixelation": grains,
        "salt and pepper": torch.where(salt < 0.03, (salt < 0.015).float(), pictures),
    }


def order(distance: nn.Module, pictures: Tensor) -> dict[str, float]:
    """Return the shares of pictures that are farther from their spoiled than from their relit copy.

    Args:
        pictures: float [B, 3, H, W] in [0, 1].
    """
    shares = {}
    for name, spoiled in spoil(pictures).items():
        away = _distances(distance, pictures, spoiled)
        for kind, light in enumerate(LIGHTS):
            kinds = torch.full((len(pictures),), kind)
            relit, fits = relight_as_far(pictures, spoiled, kinds)
            if fits.float().mean() < 0.1:
                continue  # white does not get brighter
            wins = away > _distances(distance, pictures, relit)
            shares[f"{name} over {light}"] = _share(wins[fits])
    return {"mean": round(sum(shares.values()) / len(shares), 4), **shares}


def ridge(train: Tensor, labels: Tensor, test: Tensor) -> Tensor:
    """Return labels of test vectors [N, D] by ridge regression.

    Its penalty is the best one for a fifth of the training vectors, by the others.
    """
    fifth = torch.arange(len(train)) % 5 == 0
    scores = []
    for penalty in PENALTIES:
        found = _ridge(train[~fifth], labels[~fifth], train[fifth], penalty)
        scores.append(_share(found == labels[fifth]))
    return _ridge(train, labels, test, PENALTIES[int(np.argmax(scores))])


def nearest(train: Tensor, labels: Tensor, test: Tensor) -> Tensor:
    """Return the labels of the training vectors in the most similar direction."""
    return labels[(functional.normalize(test) @ functional.normalize(train).T).argmax(dim=1)]


def recognition(embed: Embed, train: Pictures, test: Pictures) -> dict[str, float]:
    """Return the accuracies of both classifiers, by standardised vectors."""
    known, asked = _standardised(embed, train.pixels, test.pixels)
    return {
        "linear": _share(ridge(known, train.labels, asked) == test.labels),
        "nearest": _share(nearest(known, train.labels, asked) == test.labels),
    }


def emoji(size: int, held_out: bool) -> dict[str, Pictures]:
    """Return a set for each pack, with labels that count keys, and one of all with categories."""
    parts = {name: load_packaged(name, size) for name in PACKS}
    classes = parts[PACKS[0]].classes
    keys = sorted({key for pictures in parts.values() for key in pictures.keys})
    sets, every, categories = {}, [], []
    for name, pictures in parts.items():
        chosen = pictures.subset(held_out_mask(pictures.keys, HELD_OUT) == held_out)
        pixels = chosen.pixels / 255
        sets[name] = Pictures(pixels, torch.tensor([keys.index(key) for key in chosen.keys]))
        every.append(pixels)
        categories += [classes.index(chosen.classes[label]) for label in chosen.labels.tolist()]
    return {"all": Pictures(torch.cat(every), torch.tensor(categories)), **sets}


def same_emoji(embed: Embed, train: Tensor, sets: dict[str, Pictures]) -> dict[str, float]:
    """Return how often the nearest picture of another artist shows the same emoji."""
    shares = {}
    for first, second in (("twemoji", "noto"), ("noto", "fluent"), ("fluent", "twemoji")):
        asked, among = sets[first], sets[second]
        there = torch.isin(asked.labels, among.labels)
        _, a, b = _standardised(embed, train, asked.pixels[there], among.pixels)
        shares[f"{first} in {second}"] = _share(nearest(b, among.labels, a) == asked.labels[there])
    return shares


def photographs(file: Path, count: int) -> Pictures:
    """Return the first pictures of a file."""
    with np.load(file, allow_pickle=False) as packed:
        data, offsets = packed["jpeg"].tobytes(), packed["offsets"]
        labels = torch.from_numpy(packed["labels"][:count].astype(np.int64))
    images = [Image.open(io.BytesIO(data[offsets[i] : offsets[i + 1]])) for i in range(count)]
    return Pictures(torch.stack([to_levels(to_rgb(image)) for image in images]) / 255, labels)


def measure(networks: dict[str, FeatureNetwork], folder: Path | None) -> dict[str, object]:
    """Return all figures of some networks, and of pixels where they can be had."""
    known, held_out = emoji(32, held_out=False), emoji(32, held_out=True)
    ordered = {"emoji 32": held_out["all"].pixels, "emoji 64": emoji(64, True)["all"].pixels}
    tasks = {"emoji categories": (known["all"], held_out["all"])}
    if folder is not None:
        train = photographs(folder / "cifar10-train.npz", 2000)
        test = photographs(folder / "cifar10-test.npz", 1000)
        ordered["photographs"], tasks["photographs"] = test.pixels, (train, test)
    embeds: dict[str, Embed] = {"pixels": lambda pixels: pixels.flatten(1)}
    for name, network in networks.items():
        embeds[name] = lambda pixels, network=network: network.vectors(2 * pixels - 1)
    return {
        "order": {
            subject: {
                name: order(FeatureDistance(network), _spread(pixels, ORDERED))
                for name, network in networks.items()
            }
            for subject, pixels in ordered.items()
        },
        "recognition": {
            subject: {name: recognition(embed, *task) for name, embed in embeds.items()}
            for subject, task in tasks.items()
        },
        "same emoji": {
            name: same_emoji(embed, known["all"].pixels, held_out) for name, embed in embeds.items()
        },
    }


def _ridge(train: Tensor, labels: Tensor, test: Tensor, penalty: float) -> Tensor:
    wanted = functional.one_hot(labels).double()
    middle = wanted.mean(dim=0)
    x = train.double()
    square = x.T @ x + penalty * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(square, x.T @ (wanted - middle))
    return (test.double() @ weights + middle).argmax(dim=1)


@torch.no_grad()
def _standardised(embed: Embed, train: Tensor, *others: Tensor) -> list[Tensor]:
    """Return vectors of several sets, of mean 0 and variance 1 in the first one."""
    sets = [torch.cat([embed(part) for part in x.split(256)]) for x in (train, *others)]
    mean, spread = sets[0].mean(dim=0), sets[0].std(dim=0) + 1e-6
    return [(vectors - mean) / spread for vectors in sets]


@torch.no_grad()
def _distances(distance: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    parts = zip(first.split(128), second.split(128))
    return torch.cat([distance(2 * a - 1, 2 * b - 1) for a, b in parts])


def _jpeg(pictures: Tensor, quality: int) -> Tensor:
    read = []
    for image in to_images(2 * pictures - 1):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        read.append(to_levels(Image.open(file)) / 255)
    return torch.stack(read)


def _spread(pixels: Tensor, count: int) -> Tensor:
    """At most `count` pictures, from all over the set."""
    return pixels[:: -(-len(pixels) // count)]


def _share(hits: Tensor) -> float:
    return round(float(hits.float().mean()), 4)


def main() -> None:
    """Read the command line, measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, help="folder of cifar10-*.npz")
    parser.add_argument("--weights", type=Path, default=FEATURES)
    parser.add_argument("--output", type=Path, default=RESULTS / "features.json")
    asked = parser.parse_args()
    trained = load_features(asked.weights)
    networks = {"packaged": trained}
    networks |= {f"untrained {seed}": untrained(seed) for seed in range(UNTRAINED)}
    given = " --photographs FOLDER" if asked.photographs else ""
    result = circumstances(f"python -m benchmarks.features{given}") | {
        "parameters": parameter_count(trained),
        "bytes": asked.weights.stat().st_size,
        **measure(networks, asked.photographs),
    }
    asked.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(asked.output)


if __name__ == "__main__":
    main()
