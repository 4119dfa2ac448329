"""Can the packaged model draw things in styles that it never saw them in?

    python benchmarks/composition.py [PIPELINE] [--name composition] [--each 4]

writes benchmarks/results/NAME.json and NAME.png. Its recipe held out a tenth of all pairs of a
thing and a style. Each pair whose thing was learned in another style is drawn `each` times from its
caption and style. Then the drawing is looked up among all real pictures of that style by the
packaged feature distance: does it find the true picture, which the model never saw? Beside it: the
true picture through the tokenizer and back (no drawing can be better), the artist's picture of the
same thing in another style (what copying it would give), and drawings of other captions (chance).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from typing import Any

import torch
from record import RESULTS, circumstances, write
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from limner.core.seeds import seeded
from limner.data import PictureSet
from limner.data.source import Source, collect
from limner.evaluation.resampling import Bootstrap
from limner.hub.packaged import load_features
from limner.layers.feature_distances import feature_distance
from limner.pipeline import Pipeline
from limner.show import contact_sheet, save_png
from limner.training import load_recipe
from limner.training.prepare import open_data

RECIPE = "emoji/generator"
BATCH = 32
SHOWN = 16  # pairs on the page
PLACES = 8  # rows and columns of the maps that pictures are compared by


@dataclass(frozen=True, eq=False)
class Pairs:
    """Held-out pairs of a thing and a style.

    Args:
        true: index [n] of each pair's own picture, in the whole set.
        others: index [n] of one picture of the same thing in another style, which was learned.
    """

    true: list[int]
    others: list[int]


def thing(key: str) -> str:
    """Return what a picture shows, from a key such as "noto/1f98a"."""
    return key.split("/", 1)[1]


def find_pairs(pictures: PictureSet, learned: Source, held_out: Source) -> Pairs:
    """Return the held-out pairs whose thing was learned in another style."""
    place = {key: index for index, key in enumerate(pictures.keys)}
    known = {thing(key): place[key] for key in learned.keys}
    chosen = [key for key in held_out.keys if thing(key) in known]
    return Pairs([place[key] for key in chosen], [known[thing(key)] for key in chosen])


class Gallery:
    """All real pictures of each style, and where a picture stands among them.

    Args:
        pictures: of all styles.
    """

    def __init__(self, pictures: PictureSet) -> None:
        self.network = load_features()
        self.style = [key.split("/", 1)[0] for key in pictures.keys]
        with torch.no_grad():
            parts = [self.looked_at(part) for part in pictures.to_float().split(128)]
        self.maps = [torch.cat(stage) for stage in zip(*parts, strict=True)]

    def looked_at(self, pictures: Tensor) -> list[Tensor]:
        """Return the network's maps, averaged to few places: a shift by a pixel does not matter."""
        maps = self.network(pictures)
        return [adaptive_avg_pool2d(each, min(each.shape[-1], PLACES)) for each in maps]

    @torch.no_grad()
    def ranks(self, shown: Tensor, true: list[int]) -> Tensor:
        """Return how many pictures of its style are nearer than the true one, int64 [n].

        Args:
            shown: float [n, 3, H, W].
            true: index of the true picture of each.
        """
        ranks = []
        for picture, index in zip(shown, true, strict=True):
            among = [i for i, style in enumerate(self.style) if style == self.style[index]]
            asked = [each.expand(len(among), -1, -1, -1) for each in self.looked_at(picture[None])]
            equal = [each.new_ones(each.shape[1]) for each in asked]
            distance = feature_distance(asked, [each[among] for each in self.maps], equal)
            ranks.append(int((distance < distance[among.index(index)]).sum()))
        return torch.tensor(ranks)


def drawn(pipeline: Pipeline, captions: list[str], styles: list[str], seed: int) -> Tensor:
    """Draw each caption in its style, float [n, 3, H, W]."""
    parts = []
    for begin in range(0, len(captions), BATCH):
        part = slice(begin, begin + BATCH)
        made = pipeline(prompts=captions[part], styles=styles[part], seed=seed + begin)
        parts.append(made.pictures)
    return torch.cat(parts)


def found(ranks: Tensor, pairs: int) -> dict[str, Any]:
    """Return how often the true picture is first, and among five, with intervals over pairs.

    Args:
        ranks: int64 [each x pairs], pair after pair within each round.
    """
    bootstrap = Bootstrap(resamples=500)
    values = {}
    for name, most in (("first", 1), ("among_five", 5)):
        hits = (ranks < most).double().view(-1, pairs).mean(0)
        resampled = hits[bootstrap.draws(pairs)].mean(1)
        low, high = bootstrap.interval(float(hits.mean()), resampled, 0.0, 1.0)
        values[name] = {"value": float(hits.mean()), "low": low, "high": high}
    return values


def main() -> None:
    """Draw, look up, and write down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pipeline", nargs="?", default="emoji")
    parser.add_argument("--name", default="composition")
    parser.add_argument("--each", type=int, default=4, help="drawings of a pair (%(default)s)")
    parser.add_argument("--pairs", type=int, help="so many, evenly chosen; all by default")
    arguments = parser.parse_args()
    pipeline = Pipeline.from_pretrained(arguments.pipeline)
    data = load_recipe(RECIPE, {}).data
    whole = open_data(data)
    learned, held_out = whole.split(data.held_out)
    pictures = collect(whole, data.size)
    pairs = find_pairs(pictures, learned, held_out)
    if arguments.pairs is not None:
        chosen = _spread(len(pairs.true), arguments.pairs)
        pairs = Pairs([pairs.true[i] for i in chosen], [pairs.others[i] for i in chosen])
    count = len(pairs.true)
    captions = [pictures.captions[i] for i in pairs.true]
    styles = [pictures.keys[i].split("/", 1)[0] for i in pairs.true]
    gallery = Gallery(pictures)

    rounds = [drawn(pipeline, captions, styles, 10_000 * n) for n in range(arguments.each)]
    order = torch.randperm(count, generator=seeded(0, "other captions")).tolist()
    again = pipeline.tokenizer.there_and_back(pictures.to_float(pairs.true))
    results = {
        "drawn": found(gallery.ranks(torch.cat(rounds), pairs.true * arguments.each), count),
        "drawn_by_other_captions": found(gallery.ranks(rounds[0][order], pairs.true), count),
        "true_picture_through_the_tokenizer": found(gallery.ranks(again, pairs.true), count),
        "same_thing_in_another_style": found(
            gallery.ranks(pictures.to_float(pairs.others), pairs.true), count
        ),
    }
    sizes = [gallery.style.count(style) for style in styles]
    chance = sum(1 / size for size in sizes) / count
    values = {
        **circumstances(" ".join(["python", "benchmarks/composition.py", *sys.argv[1:]])),
        "pipeline": arguments.pipeline,
        "settings": pipeline.defaults,
        "pairs": count,
        "drawings_of_each": arguments.each,
        "chance": {"first": chance, "among_five": 5 * chance},
        "results": results,
    }
    write(arguments.name, values)
    _save_page(pictures, pairs, rounds, RESULTS / f"{arguments.name}.png")
    print(json.dumps(values["results"], indent=1))


def _spread(count: int, wanted: int) -> list[int]:
    """Return so many of `count` numbers, evenly; all if there are fewer."""
    return torch.linspace(0, count - 1, min(wanted, count)).long().tolist()


def _save_page(pictures: PictureSet, pairs: Pairs, rounds: list[Tensor], path: Any) -> None:
    """A row a pair: what it is known as in another style, the true picture, the drawings."""
    chosen = _spread(len(pairs.true), SHOWN)
    rows = []
    for index in chosen:
        real = pictures.to_float([pairs.others[index], pairs.true[index]])
        rows += [*real, *(each[index] for each in rounds)]
    save_png(contact_sheet(torch.stack(rows), columns=2 * (2 + len(rounds))), path)


if __name__ == "__main__":
    main()
