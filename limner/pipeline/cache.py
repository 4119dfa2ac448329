"""Budgets for the memory of next-scale models, and which layers need more of it: ScaleKV.

Li et al., "Memory-Efficient Visual Autoregressive Modeling with Scale-Aware KV Cache Compression",
arXiv:2505.19602, section 3.3. "Drafters" look back over all earlier scales and hold nearly all of
them; "refiners" look at the map being drawn and hold the less, the larger it is. All layers
together hold what they would if each had the same. Which layers are which is told by the attention
selectivity index, for which no code is released: that sums are averaged over heads, deviations
are those of the population and the first scale is left out are choices.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner.core.errors import CheckpointError, ConfigError, check
from limner.core.files import replaced
from limner.core.layout import Layout
from limner.core.memory import Memory
from limner.layers.key_value_memory import KeyValueMemory
from limner.layers.scale_memory import CacheBudget, ScaleMemory

WINDOW = 16
EPS = 1e-6
RELEASED_SCORES: dict[str, Any] = {"scores": "products", "kernel": 5}
"""How the released code scores entries."""
FIRST_LISTED, LISTED = 9, 14
"""Released tables have 14 rows, of which those before the ninth are empty."""


@dataclass(frozen=True)
class CacheUse:
    """What pictures that were drawn together took of a bounded memory.

    Args:
        bytes: the most that was held between two steps.
        whole: the most that there would have been without a budget.
    """

    bytes: int
    whole: int

    @property
    def share(self) -> float:
        """The former by the latter."""
        return self.bytes / max(1, self.whole)


def bounded(
    memory: Memory, layout: Layout, budget: float | str | CacheBudget | ScaleMemory
) -> ScaleMemory:
    """Return a memory that holds less than a generator's own.

    Args:
        memory: the generator's own, nothing in it.
        layout: of the pictures.
        budget: for each layer, the share of what it would hold before the last scale; or in full,
            maybe as the path of a file, see `read_budget`; or an empty memory with one.

    Raises:
        ConfigError: the generator keeps nothing that could be forgotten, the layout has one scale,
            or the budget is below the minimum.
    """
    layers = layers_of(memory)
    check(len(layout.segments) > 1, "cache", budget, "None for pictures of a single scale")
    if isinstance(budget, ScaleMemory):
        return budget
    if isinstance(budget, str):
        budget = read_budget(budget)
    elif not isinstance(budget, CacheBudget):
        budget = even_budget(layout, layers, budget)
    return ScaleMemory(layers, budget)


def layers_of(memory: Memory) -> int:
    """Return the layers of a generator's memory.

    Raises:
        ConfigError: it does not hold keys and values.
    """
    if not isinstance(memory, KeyValueMemory):
        raise ConfigError("cache is not accepted: this model keeps no keys and values to bound")
    return len(memory.keys)


def even_budget(layout: Layout, layers: int, share: float) -> CacheBudget:
    """Return the budget that gives every layer as much.

    Args:
        layout: of the pictures.
        layers: number of layers.
        share: of what a layer holds before the last scale without a budget.

    Raises:
        ConfigError: the share is below the minimum, or above 1.
    """
    capacity = capacity_of(layout, share)
    return CacheBudget(((capacity,) * layers,), capacity, window_for(capacity))


def drafter_budget(
    layout: Layout, drafters: Tensor, share: float, decay: float = 0.0
) -> CacheBudget:
    """Return the budget in which refiners give to drafters what they do without.

    At every scale all layers together hold as much as if each held the share; drafters hold never
    more than there is, and what they cannot use stays with the refiners.

    Args:
        layout: of the pictures.
        drafters: bool [layers, scales]; a scale's decide what is kept for it.
        share: as in `even_budget`.
        decay: entries that a refiner holds fewer, from scale to scale.

    Raises:
        ConfigError: the share is below the minimum or above 1, or all layers are drafters.
    """
    uniform, layers = capacity_of(layout, share), len(drafters)
    window, lengths = window_for(uniform), _lengths(layout)
    since = next((k for k, length in enumerate(lengths) if length > uniform), len(lengths))
    rows = []
    for scale, length in enumerate(lengths):
        chosen = drafters[:, scale + 1].nonzero().flatten().tolist()
        many, few = len(chosen), layers - len(chosen)
        check(few > 0, "drafters", many, f"fewer than the {layers} layers")
        refiner = max(window, uniform - round(decay * max(0, scale - since)))
        if not many:
            refiner = uniform
        elif length > uniform:  # what drafters cannot hold
            refiner = max(refiner, -(-(uniform * layers - many * length) // few))
        left = uniform * layers - few * refiner
        shares = {layer: (left + index) // many for index, layer in enumerate(chosen)}
        rows.append(tuple(shares.get(layer, refiner) for layer in range(layers)))
    return CacheBudget(tuple(rows), uniform, window)


def capacity_of(layout: Layout, share: float) -> int:
    """Return the entries of a share of what a layer holds before the last scale.

    Raises:
        ConfigError: the share is below the minimum, or above 1.
    """
    whole = _lengths(layout)[-1]
    least = math.ceil(1000 * min(4, whole) / whole) / 1000
    check(least <= share <= 1, "cache", share, f"a share from {least:g} to 1 of {whole} entries")
    return round(share * whole)


def window_for(capacity: int) -> int:
    """Return how many entries are observed: 16, or fewer where the budget is small (a choice)."""
    return min(WINDOW, math.isqrt(max(1, capacity // 4)) ** 2)


def _lengths(layout: Layout) -> list[int]:
    """Return how many tokens there are after every scale but the last."""
    return [layout.span(scale).stop for scale in range(len(layout.segments) - 1)]


def selectivity(attention: Tensor, history: int, largest: int) -> Tensor:
    """Return how much layers look at the map being drawn and at few earlier places, float [layers].

    Args:
        attention: float [layers, heads, n, history + n], weights of the map's queries.
        history: P, keys of earlier scales; they come first.
        largest: K', how many of their weights count.
    """
    if history == 0:
        return attention.new_zeros(len(attention))
    now = attention[..., history:].sum(-1)
    before = attention[..., :history].topk(min(largest, history), dim=-1).values.sum(-1)
    return now.mean((1, 2)) * before.mean((1, 2))


def standardised(index: Tensor, eps: float = EPS) -> Tensor:
    """Return selectivities [layers, scales] by how far layers are from their scale's mean."""
    mean, deviation = index.mean(0), index.std(0, correction=0)
    return (index - mean) / (deviation + eps)


def drafter_pairs(index: Tensor, count: int) -> Tensor:
    """Return bool [layers, scales]: pairs with the lowest standardised index, none of scale 0."""
    later = index[:, 1:].flatten()
    check(0 <= count <= len(later), "drafters", count, f"from 0 to {len(later)} pairs")
    chosen = torch.zeros(later.shape, dtype=torch.bool)
    chosen[later.topk(count, largest=False).indices] = True
    first = torch.zeros(len(index), 1, dtype=torch.bool)
    return torch.cat([first, chosen.reshape(len(index), -1)], dim=1)


def refiner_budgets(start: float, decay: float, scales: int) -> Tensor:
    """Return what refiners hold after each scale, float [scales]: `decay` fewer every time."""
    return start - decay * torch.arange(scales)


def drafter_budgets(refiners: Tensor, drafters: Tensor, uniform: float) -> Tensor:
    """Return what drafters hold so that a scale's layers hold `uniform` on average, rounded down.

    Args:
        refiners: float [scales], what each refiner holds.
        drafters: bool [layers, scales].

    Returns:
        float [scales]; 0 where there is no drafter.
    """
    layers, many = len(drafters), drafters.sum(0)
    left = uniform * layers - (layers - many) * refiners
    return torch.where(many > 0, (left / many.clamp(min=1)).floor(), torch.zeros_like(left))


def listed_budget(
    rows: Sequence[Sequence[int] | None], base: int, window: int = WINDOW, **pooled: Any
) -> CacheBudget:
    """Return the budget of a table as the released code has it.

    Args:
        rows: of each scale, counted from 1, what layers hold before it; None: all. The last row
            holds after the last scale too.
    """
    kept = [tuple(row or ()) for row in rows[2:]]
    return CacheBudget((*kept, kept[-1]), base, window, **{**RELEASED_SCORES, **pooled})


def write_budget(budget: CacheBudget, path: str | Path) -> None:
    """Write a budget to a file that `read_budget` reads."""
    with replaced(path) as target:
        target.write_text(json.dumps(asdict(budget), indent=1) + "\n", encoding="utf-8")


def read_budget(path: str | Path) -> CacheBudget:
    """Return the budget of a file: limner's own, or one of the released ones (`budgets/*.json`).

    Raises:
        CheckpointError: the file is missing or broken.
        ConfigError: a budget below the minimum.
    """
    try:
        said = json.loads(Path(path).read_text(encoding="utf-8"))
        if "kept" in said:
            told = {field.name: said[field.name] for field in fields(CacheBudget)}
            return CacheBudget(**told | {"kept": tuple(tuple(row) for row in said["kept"])})
        return _released(said)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{path} is no cache budget: {reason}") from None


def _released(table: Mapping[str, Mapping[str, int]]) -> CacheBudget:
    """Return the budget of a released table; layers hold its base capacity on average."""
    rows: list[tuple[int, ...] | None] = [None] * FIRST_LISTED
    for scale in range(FIRST_LISTED, LISTED):
        said = table[f"Scale {scale}"]
        count = sum(name.startswith("Block ") for name in said)
        blocks = [said[f"Block {block}"] for block in range(count)]
        rows.append(tuple(said["Max"] if block else said["Min"] for block in blocks))
    last = rows[-1]
    assert last is not None
    return listed_budget(rows, round(sum(last) / len(last)))
