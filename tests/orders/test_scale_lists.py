"""Lists of scales: the published ones, those of other sizes, and those of training."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch

from limner.core.errors import ConfigError
from limner.orders.scale_lists import PUBLISHED, random_list, scale_list, spread

USUAL, MIXED = PUBLISHED[10], ((3, 10, 5), (11, 15, 2))


def squares(*sides: int) -> tuple[tuple[int, int], ...]:
    return tuple((side, side) for side in sides)


@pytest.mark.parametrize("steps", sorted(PUBLISHED))
def test_published_lists(steps: int) -> None:
    assert len(PUBLISHED[steps]) == steps
    assert scale_list(USUAL, 16, 16, steps) == squares(*PUBLISHED[steps])


def test_512_px_go_on_from_the_13_step_list_as_published() -> None:
    assert scale_list(USUAL, 32, 32, 15) == squares(*PUBLISHED[13], 23, 32)
    assert scale_list(USUAL, 32, 32) == squares(*USUAL, 23, 32)


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (8, 8), (12, 20), (16, 32), (17, 17), (24, 48)])
def test_other_shapes_rise_to_their_grid(grid: tuple[int, int]) -> None:
    sizes = scale_list(USUAL, *grid)
    assert sizes[-1] == grid and len(set(sizes)) == len(sizes)
    for early, late in itertools.pairwise(sizes):
        assert early[0] <= late[0] and early[1] <= late[1]


def test_the_papers_rule_for_oblong_pictures() -> None:
    wanted = [(max(1, int(12 * i / 16)), max(1, int(20 * i / 16))) for i in USUAL]
    assert scale_list(USUAL, 12, 20) == tuple(wanted)


@pytest.mark.parametrize("grid", [(8, 8), (5, 9), (16, 16), (16, 32), (20, 24)])
def test_every_number_of_steps_that_is_accepted_is_had(grid: tuple[int, int]) -> None:
    got = []
    for steps in range(1, 40):
        try:
            got.append((steps, len(scale_list(USUAL, *grid, steps))))
        except ConfigError as error:
            assert f"steps={steps} is not accepted" in str(error)
    assert len(got) > 5 and all(steps == count for steps, count in got)
    assert got[-1][0] - got[0][0] == len(got) - 1


def test_lists_without_a_published_one_are_even_ratios() -> None:
    assert spread(16, 7) == (1, 2, 3, 4, 6, 10, 16)
    assert spread(8, 8) == tuple(range(1, 9))
    assert spread(64, 4) == (1, 4, 16, 64)


def test_lists_of_training_follow_the_released_trainer() -> None:
    rng = torch.Generator().manual_seed(0)
    lists = [random_list(USUAL, MIXED, rng) for _ in range(4000)]
    limit = sum(side**2 for side in USUAL)
    for sides in lists:
        assert sides[:2] == (1, 2) and list(sides) == sorted(set(sides)) and sides[-1] <= 16
        assert sum(side**2 for side in sides) <= limit
    counted = Counter(lists)
    assert 0.035 < counted[USUAL] / 4000 < 0.055  # 5 %, of which a tenth loses a scale
    assert len(counted) > 1000
    assert {side for sides in lists for side in sides} == set(range(1, 17))
    fewest = Counter(len(sides) for sides in lists)
    assert max(fewest) == 10 and min(fewest) >= 4
    assert random_list(USUAL, (), rng) == USUAL
