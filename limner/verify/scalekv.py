"""Replays of ScaleKV: what is selected, a whole run within a budget, and the attention index."""

from __future__ import annotations

from typing import Any

import torch

from limner.core.layout import Layout, pyramid
from limner.core.noise import SeededNoise
from limner.core.order import Partition
from limner.core.row import Row
from limner.core.slots import Slots, batch, up_to
from limner.core.tokens import empty
from limner.hub.official import infinity as official
from limner.layers.cache_selection import window_of
from limner.layers.scale_memory import CacheBudget, Kept, ScaleMemory
from limner.models.infinity import Infinity
from limner.pipeline.cache import (
    drafter_budgets,
    drafter_pairs,
    listed_budget,
    refiner_budgets,
    selectivity,
    standardised,
)
from limner.tokenizers.quantizers.multiscale_bits import MultiScaleBits
from limner.verify.case import Case
from limner.verify.infinity import check_run
from limner.verify.registry import replay


def _budget(hyper: dict[str, Any]) -> CacheBudget:
    pooling = "max" if hyper.get("pooling", "maxpool") == "maxpool" else "average"
    return listed_budget(
        hyper["cache_sizes"],
        hyper["base_capacity"],
        hyper["window_size"],
        kernel=hyper["kernel_size"],
        pooling=pooling,
    )


@replay("scalekv/select*")
@torch.no_grad()
def selection(case: Case) -> None:
    """Observed places, and what every layer keeps scale by scale."""
    for name, _ in case.match("window_{map}"):
        said = case.arguments(name)
        side, start = said["side"], said["start"]
        case.check(name, window_of(start + side**2, side**2, said["window_size"]))
    budget, hyper = _budget(case.hyper), case.hyper
    query, key, value = case.input("q"), case.input("k"), case.input("v")
    layout = pyramid(tuple((side, side) for side in hyper["sides"]))
    for layer in range(len(budget.kept[-1])):
        memory = ScaleMemory(len(budget.kept[-1]), budget)
        rows = [
            Row(empty(layout, codes=1), Partition(layout.segment_of()), SeededNoise(0), {})
            for _ in query
        ]
        memory.admit(rows)
        lengths = []
        for scale in range(len(layout.segments)):
            span = layout.span(scale)
            part = (query[:, :, span], key[:, :, span], value[:, :, span])
            reading = memory.read(rows, batch([_slots(span, scale)] * len(rows)), up_to)
            reading.attend(layer, *part)
            reading.close()
            held = [_held(memory, row, layer) for row in range(len(rows))]
            case.check(f"layer{layer}_kept_{scale}", torch.stack([each.place for each in held]))
            lengths.append(len(held[0]))
        case.check(f"layer{layer}_lens", torch.tensor(lengths))
        case.check(f"layer{layer}_k_final", torch.stack([each.keys for each in held]))
        case.check(f"layer{layer}_v_final", torch.stack([each.values for each in held]))


def _slots(span: slice, scale: int) -> Slots:
    place = torch.arange(span.start, span.stop)
    return Slots.of(place, torch.full_like(place, scale), torch.zeros(0, 3, dtype=torch.int64))


def _held(memory: ScaleMemory, row: int, layer: int) -> Kept:
    held = memory.rows[row][layer]
    assert held is not None
    return held


@replay("scalekv/generate*")
@torch.no_grad()
def generation(case: Case) -> None:
    """A greedy run with everything remembered, and one within the budget."""
    hyper = case.hyper
    model: Infinity = official.TRANSFORMER.build(official.transformer_config(hyper), case.weights())
    model.canvas = MultiScaleBits(official.quantizer_config(hyper))
    layout = official.schedule_layout(hyper)
    check_run(case, model, layout, "full_bits")
    memory = _Watched(model.config.depth, _budget(hyper))
    check_run(case, model, layout, "scalekv_bits", memory)
    case.check("cache_len", torch.tensor(memory.lengths(layout)).T)


class _Watched(ScaleMemory):
    """A memory that takes note of how many entries each layer holds after each scale."""

    def __init__(self, layers: int, budget: CacheBudget) -> None:
        super().__init__(layers, budget)
        self.seen: list[list[int]] = []

    def count(self) -> None:
        super().count()
        self.seen.append([len(held) if held else 0 for held in self.rows[0]])

    def lengths(self, layout: Layout) -> list[list[int]]:
        """Return the lengths after every scale, [scales][layers].

        Nothing is kept of the last scale, which nothing reads; what would be follows from the
        budget.
        """
        last = len(layout.segments) - 1
        longer = [length + len(layout.segments[last]) for length in self.seen[last]]
        allowed = [self.budget.after(last, layer) for layer in range(self.layers)]
        ends = [
            length if capacity is None else min(length, capacity)
            for length, capacity in zip(longer, allowed, strict=True)
        ]
        return [*self.seen[:last], ends]


@replay("scalekv/asi*")
@torch.no_grad()
def index(case: Case) -> None:
    """The attention selectivity index, drafters and refiners, and their budgets."""
    sizes = case.hyper["map_sizes"]
    largest = case.arguments("asi")["top_k_history"]
    columns = [
        selectivity(case.input(f"attn_{scale}"), sum(sizes[:scale]), largest)
        for scale in range(len(sizes))
    ]
    found = torch.stack(columns, dim=1)
    case.check("asi", found)
    z = standardised(found, case.arguments("z")["eps"])
    case.check("z", z)
    drafters = drafter_pairs(z, case.arguments("drafter")["n_drafter_pairs"])
    case.check("drafter", drafters.long())
    said = case.arguments("refiner_budget")
    refiners = refiner_budgets(said["start"], said["delta"], len(sizes)).float()
    case.check("refiner_budget", refiners)
    uniform = case.arguments("drafter_budget")["uniform_budget"]
    case.check("drafter_budget", drafter_budgets(refiners, drafters, uniform))
