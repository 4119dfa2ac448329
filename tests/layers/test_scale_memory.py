"""A memory within a budget, against a memory that forgets nothing."""

from __future__ import annotations

import pytest
import torch

from limner.core.errors import ConfigError
from limner.core.layout import pyramid
from limner.core.noise import SeededNoise
from limner.core.order import Partition
from limner.core.row import Row
from limner.core.slots import batch, up_to
from limner.core.tokens import empty
from limner.layers.key_value_memory import KeyValueMemory
from limner.layers.scale_memory import CacheBudget, ScaleMemory
from limner.orders import scale_slots

LAYOUT = pyramid(((1, 1), (2, 2), (3, 3), (4, 4), (5, 5)))
LAYERS, HEADS, WIDTH = 2, 3, 4


def rows(count: int) -> list[Row]:
    order = Partition(LAYOUT.segment_of())
    return [Row(empty(LAYOUT, codes=1), order, SeededNoise(0), {}) for _ in range(count)]


def full() -> KeyValueMemory:
    kept = len(LAYOUT) - len(LAYOUT.segments[-1])
    return KeyValueMemory(LAYERS, HEADS, WIDTH, kept, torch.device("cpu"), torch.float64)


def given(scale: int, count: int) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(scale)
    shape = (3, count, HEADS, len(LAYOUT.segments[scale]), WIDTH)
    return list(torch.randn(shape, generator=rng, dtype=torch.float64))


def run(memory, drawn: list[Row], scales: list[int]) -> list[torch.Tensor]:
    """Send rows through one pass, each at a scale of its own; return what each layer mixes."""
    slots = batch([scale_slots(LAYOUT, scale) for scale in scales])
    reading = memory.read(drawn, slots, up_to)
    longest = max(len(LAYOUT.segments[scale]) for scale in scales)
    parts = []
    for index, scale in enumerate(scales):
        own = torch.stack(given(scale, len(drawn)))[:, index]
        parts.append(torch.nn.functional.pad(own, (0, 0, 0, longest - own.shape[2])))
    query, key, value = torch.stack(parts, dim=1)
    mixed = [reading.attend(layer, query, key + layer, value) for layer in range(LAYERS)]
    reading.close()
    return mixed


def test_a_budget_for_everything_changes_nothing():
    whole, within = full(), ScaleMemory(LAYERS, CacheBudget(((99, 99),), base=99, window=4))
    sides = [rows(2), rows(2)]
    for memory, drawn in zip((whole, within), sides, strict=True):
        memory.admit(drawn)
    for scale in range(len(LAYOUT.segments)):
        found = [run(memory, drawn, [scale] * 2) for memory, drawn in zip((whole, within), sides)]
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    assert within.bytes() == whole.bytes() == within.peak == within.whole


def test_layers_hold_their_budgets_and_no_more_is_allocated():
    budget = CacheBudget(((), (), (13, 7), (20, 5)), base=6, window=4)
    memory, drawn = ScaleMemory(LAYERS, budget), rows(2)
    memory.admit(drawn)
    lengths = []
    for scale in range(len(LAYOUT.segments)):
        run(memory, drawn, [scale] * 2)
        lengths.append([len(held) for held in memory.rows[0]])
    # scale 2 ends with 14 entries: above the base; nothing is kept of the last scale
    assert lengths == [[1, 1], [5, 5], [13, 7], [20, 5], [20, 5]]
    assert memory.bytes() == 2 * 2 * (20 + 5) * HEADS * WIDTH * 8
    assert memory.whole == 2 * 2 * 2 * 30 * HEADS * WIDTH * 8
    for held in memory.rows[1]:
        assert held.keys.untyped_storage().nbytes() == held.keys.nbytes
        assert held.total == 30


def test_what_is_kept_is_read_with_its_own_keys():
    memory, drawn = ScaleMemory(LAYERS, CacheBudget(((9, 9),), base=9, window=4)), rows(1)
    memory.admit(drawn)
    every = [torch.cat([given(s, 1)[part] for s in range(4)], dim=2) for part in (1, 2)]
    for scale in range(4):
        run(memory, drawn, [scale])
    held = memory.rows[0][1]
    index = held.place.unsqueeze(-1).expand(-1, -1, WIDTH)
    torch.testing.assert_close(held.keys, (every[0][0] + 1).gather(1, index))
    torch.testing.assert_close(held.values, every[1][0].gather(1, index))
    query, key, value = given(4, 1)
    keys, values = torch.cat([held.keys, key[0] + 1], 1), torch.cat([held.values, value[0]], 1)
    wanted = (query[0] @ keys.transpose(1, 2) / 2).softmax(-1) @ values
    torch.testing.assert_close(run(memory, drawn, [4])[1][0], wanted)


def test_once_bounded_a_layer_stays_so_until_the_picture_is_done():
    budget = CacheBudget(((), (), (4, 4), (25, 4), (30, 4)), base=6, window=4)
    memory, drawn = ScaleMemory(LAYERS, budget), rows(1)
    memory.admit(drawn)
    for scale in range(4):
        run(memory, drawn, [scale])
    assert [len(held) for held in memory.rows[0]] == [20, 4]
    memory.release(drawn)
    assert memory.bytes() == 0 and memory.rows == []
    again = rows(1)
    memory.admit(again)
    run(memory, again, [0])
    run(memory, again, [1])
    assert [len(held) for held in memory.rows[0]] == [5, 5] and not memory.rows[0][0].bounded


def test_rows_at_different_scales_are_read_as_if_alone():
    budget = CacheBudget(((8, 6),), base=6, window=4)
    together, drawn = ScaleMemory(LAYERS, budget), rows(2)
    together.admit(drawn)
    alone = [ScaleMemory(LAYERS, budget) for _ in range(2)]
    singles = [rows(1) for _ in range(2)]
    for memory, row in zip(alone, singles, strict=True):
        memory.admit(row)
    for scale in range(2):  # the first row is two scales ahead
        run(together, [drawn[0]], [scale])
        run(alone[0], singles[0], [scale])
    for scale in range(3):
        mixed = run(together, drawn, [scale + 2, scale])
        for index, own in enumerate((scale + 2, scale)):
            slots = batch([scale_slots(LAYOUT, own)])
            reading = alone[index].read(singles[index], slots, up_to)
            query, key, value = (part[index : index + 1] for part in given(own, 2))
            for layer in range(LAYERS):
                wanted = reading.attend(layer, query, key + layer, value)
                found = mixed[layer][index : index + 1, :, : wanted.shape[2]]
                torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
            reading.close()


def test_marks_bring_back_what_was_forgotten():
    memory, drawn = ScaleMemory(LAYERS, CacheBudget(((5, 5),), base=5, window=4)), rows(1)
    memory.admit(drawn)
    run(memory, drawn, [0])
    run(memory, drawn, [1])
    mark = memory.mark(drawn[0])
    run(memory, drawn, [2])
    memory.rewind(drawn[0], mark)
    assert memory.rows[0][0].place.tolist() == [[0, 1, 2, 3, 4]] * HEADS
    memory.keep(drawn[0], 0, torch.tensor([1, 3]))
    assert memory.rows[0][0].place.tolist() == [[1, 3]] * HEADS
    assert len(memory.rows[0][1]) == 5


def test_budgets_below_the_window_are_refused():
    with pytest.raises(ConfigError, match="at least the window of 16"):
        CacheBudget(((40, 12),), base=40)
    with pytest.raises(ConfigError, match="at least the window of 16"):
        CacheBudget(((40, 40),), base=8)
    with pytest.raises(ConfigError, match="kernel"):
        CacheBudget(((40, 40),), base=40, kernel=4)
    with pytest.raises(ConfigError, match="3 layers"):
        ScaleMemory(2, CacheBudget(((40, 40, 40),), base=40))
