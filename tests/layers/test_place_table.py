"""A table of places averaged to maps of any size."""

from __future__ import annotations

import math

import torch

from limner.layers.place_table import PlaceTable, waves


def test_waves_tell_rows_by_sines_and_columns_by_cosines() -> None:
    table = waves(6, 3, 4)
    for channel in range(6):
        frequency = 10000.0 ** (-2 * (channel // 2) / 6)
        for row in range(3):
            for column in range(4):
                even = math.sin(row * frequency)
                wanted = even if channel % 2 == 0 else math.cos(column * frequency)
                assert abs(float(table[channel, row, column]) - wanted) < 1e-6


def test_a_map_takes_the_means_of_its_areas() -> None:
    table = PlaceTable(4, 8)
    torch.nn.init.normal_(table.weight, generator=torch.Generator().manual_seed(0))
    found = table((3, 5)).unflatten(0, (3, 5))
    for row in range(3):
        for column in range(5):
            rows = slice(row * 8 // 3, math.ceil((row + 1) * 8 / 3))
            columns = slice(column * 8 // 5, math.ceil((column + 1) * 8 / 5))
            wanted = table.weight[:, rows, columns].mean((1, 2))
            torch.testing.assert_close(found[row, column], wanted)
    assert torch.equal(table((8, 8)), table.weight.flatten(1).T)
    assert table((12, 10)).shape == (120, 4)  # larger maps repeat places
