"""FlexVAR: next-scale prediction where every scale is a whole picture of its own size.

Jiao et al., "FlexVAR: Flexible Visual Autoregressive Modeling without Residual Prediction",
arXiv:2502.20313; facts from models/flexvar.py, trainer.py and eval_c2i.py of jiaosiyu1999/FlexVAR.

The network is VAR's, without embeddings of the scales, and with a table of places that is averaged
to the size of each map. What it reads at a scale is the one before alone, enlarged (the tokenizer's
canvas). It learns from lists of scales drawn at random, so it draws with any number of steps, sizes
and shapes that it never saw. The released code takes squares alone; other shapes follow the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limner.core.errors import ConfigError, check
from limner.core.generator import Packed
from limner.core.head import LossBreakdown
from limner.core.layout import Layout, pyramid
from limner.core.noise import Noise
from limner.core.order import Order
from limner.core.registry import MODELS
from limner.core.row import Condition, Options, Row
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens, from_ids
from limner.heads.categorical import CategoricalHead
from limner.heads.stages import (
    LikeliestElsewhere,
    Stage,
    min_p,
    processors,
    temperature,
    top_k,
    top_p_ascending,
)
from limner.layers.place_table import PlaceTable
from limner.models.var import SCALES_256, VAR, NextScaleConfig
from limner.orders import scales
from limner.orders.scale_lists import random_list, scale_list, stretched

SAMPLED = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 23, 24, 32)
"""Sides of the maps at which the released sampler draws at random."""

REACH = 3
"""Sides that can be drawn, by that of the largest map in training: beyond, the paper's fail."""


@dataclass(frozen=True)
class FlexVARConfig(NextScaleConfig):
    """Configuration of FlexVAR.

    Args:
        codebook_size: V, number of codes.
        usual: sides of the maps of a square picture, coarse to fine, where no other list is asked
            for; the last is the largest map in training.
        mixed: first, last and number of the sides that training draws between the first two of
            `usual` and its last, by range; none: it takes the usual list alone.
        table: side of the table of places.
        sampled: sides of the maps whose codes are drawn at random, up to the largest in training;
            elsewhere the likeliest are taken.
    """

    codebook_size: int = 8912
    usual: tuple[int, ...] = SCALES_256
    mixed: tuple[tuple[int, int, int], ...] = ((3, 10, 5), (11, 15, 2))
    table: int = 32
    sampled: tuple[int, ...] = SAMPLED

    def __post_init__(self) -> None:
        super().__post_init__()
        rising = all(a < b for a, b in zip((0, *self.usual), self.usual))
        check(len(self.usual) > 1 and rising, "usual", self.usual, "two or more rising sides")
        inside = all(
            self.usual[1] < first <= last < self.usual[-1] and 0 < count <= last - first + 1
            for first, last, count in self.mixed
        )
        accepted = f"ranges between {self.usual[1]} and {self.usual[-1]}, and how many of each"
        check(inside, "mixed", self.mixed, accepted)
        check(self.table > 0, "table", self.table, "above 0")
        check(self.width % 2 == 0, "width", self.width, "even")


def stages(sampled: tuple[int, ...], longest: int) -> tuple[Stage, ...]:
    """Return the stages of the head; see `LikeliestElsewhere`."""
    likeliest = LikeliestElsewhere(sampled, longest)
    return (processors, likeliest, temperature, top_k, top_p_ascending, min_p)


@MODELS.family("flexvar", FlexVARConfig)
class FlexVAR(VAR):
    """The next-scale transformer of any scales. Its canvas is the scale drawn last.

    Args:
        config: see `FlexVARConfig`.
    """

    config: FlexVARConfig  # type: ignore[assignment]
    guidance = "scale-ramp"
    grows = False

    def __init__(self, config: FlexVARConfig) -> None:
        super().__init__(config)  # type: ignore[arg-type]
        self.head = CategoricalHead(stages(config.sampled, config.usual[-1]))

    def _add_places(self) -> None:
        self.start = nn.Parameter(torch.empty(1, self.config.width))
        self.table = PlaceTable(self.config.width, self.config.table)

    def layout(
        self,
        tokenizer: Tokenizer,
        height: int,
        width: int,
        steps: int | None = None,
        frames: int | None = None,
    ) -> Layout:
        """Return the scales of a picture; see `Generator.layout`.

        Raises:
            ConfigError: the size cannot be tokenised, is too large, or has not so many scales.
        """
        tokenizer.check_size(height, width)
        rows, columns = height // tokenizer.factor, width // tokenizer.factor
        self._check_reach(rows, columns)
        sizes = scale_list(self.config.usual, rows, columns, steps)
        return tokenizer.layout(height, width, scales=sizes)

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """One scale a step."""
        self._check_reach(*tokens.layout.extent[1:])
        return scales(tokens.layout)

    def positions(self, packed: Packed) -> Tensor:
        """The table of places, averaged to the maps that are read: [R, L, width]."""
        layout, place = packed.tokens.layout, packed.slots.place
        first, last = (layout.segment_at(int(end)) for end in (place.min(), place.max()))
        maps = [self.table(segment.size[1:]) for segment in layout.segments[first : last + 1]]
        return torch.cat(maps)[packed.place - layout.span(first).start]

    def loss(
        self,
        tokens: Tokens,
        condition: Condition,
        rng: torch.Generator | None = None,
        weight: Tensor | None = None,
    ) -> LossBreakdown:
        """Return the mean cross-entropy of a list of scales: a random one, or the usual one.

        Args:
            tokens: known at all scales that may be asked for; see `chosen`.
            rng: draws the list, one for all rows; None: the usual one.
        """
        usual, mixed = self.config.usual, self.config.mixed
        sides = usual if rng is None else random_list(usual, mixed, rng)
        return super().loss(self.chosen(tokens, sides), condition, rng, weight)

    def chosen(self, tokens: Tokens, sides: Sequence[int]) -> Tokens:
        """Return the scales of a list alone, from known tokens of more scales.

        Args:
            sides: of square maps, stretched to the tokens' grid.

        Raises:
            ConfigError: the tokens lack one of them.
        """
        layout = tokens.layout
        sizes = stretched(tuple(sides), self.config.usual[-1], *layout.extent[1:])
        at = {segment.size[1:]: index for index, segment in enumerate(layout.segments)}
        for size in sizes:
            if size not in at:
                held = ", ".join(f"{rows}x{columns}" for rows, columns in at)
                raise ConfigError(
                    f"the tokens hold no scale of {size[0]}x{size[1]}, which FlexVAR learns from: "
                    f"the tokenizer's scales are {held}"
                )
        assert tokens.ids is not None
        ids = [tokens.ids[:, layout.span(at[size])] for size in sizes]
        return from_ids(pyramid(sizes), torch.cat(ids, dim=1))

    def _kept(self, rows: Sequence[Row]) -> int:
        layouts = {row.tokens.layout for row in rows}
        return max((len(layout) - len(layout.segments[-1]) for layout in layouts), default=0)

    def _check_reach(self, rows: int, columns: int) -> None:
        most = REACH * self.config.usual[-1]
        accepted = f"of at most {most} tokens a side, {REACH} times that of training"
        check(max(rows, columns) <= most, "size", f"{rows}x{columns} tokens", accepted)


def _register_variants() -> None:
    sizes = {  # name: depth, counted parameters, gate gain
        "d16": (16, 315_561_936, 1e-3),
        "d20": (20, 607_513_952, 1e-3),
        "d24": (24, 1_041_314_576, 1e-4),
    }
    for name, (depth, published, gain) in sizes.items():
        config = FlexVARConfig(64 * depth, depth, depth, drop_path=0.1 * depth / 24, gate_gain=gain)
        MODELS.variant(f"flexvar-{name}", "flexvar", config, published)


_register_variants()
