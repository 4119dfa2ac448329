"""AR-Diffusion's staircases: lengths, limits, windows, given frames, bad input."""

import pytest
import torch

from limner.core.errors import ConfigError
from limner.core.layout import grid
from limner.core.noise import SeededNoise
from limner.core.row import Row
from limner.core.tokens import empty
from limner.orders.staircase import (
    StaircaseOrder,
    Stairs,
    ddim_timesteps,
    staircase,
    timesteps,
    window_slots,
    windows,
)


@pytest.mark.parametrize(("frames", "steps", "lag"), [(4, 5, 0), (4, 5, 2), (6, 10, 5), (3, 4, 4)])
def test_every_frame_takes_every_step_once_and_follows_the_one_before(frames, steps, lag):
    table = staircase(Stairs(frames, frames, steps, lag))
    assert len(table) == steps + (frames - 1) * lag
    moves = table.diff(dim=0, prepend=0 * table[:1])
    assert set(moves.flatten().tolist()) <= {0, 1} and bool((table[-1] == steps).all())
    started = (table > 0).int().argmax(0)
    assert started.tolist() == [lag * frame for frame in range(frames)]


def test_a_lag_of_all_steps_is_frame_after_frame():
    table = staircase(Stairs(3, 3, 4, 4))
    done = (table == 4).int().argmax(0)
    started = (table > 0).int().argmax(0)
    assert bool((started[1:] == done[:-1] + 1).all())


def test_networks_are_told_steps_of_the_chain():
    assert ddim_timesteps(5).tolist() == [801, 601, 401, 201, 1]
    assert timesteps(Stairs(2, 2, 5, 2))[:3].tolist() == [[801, 999], [601, 999], [401, 801]]


def test_windows_slide_when_the_frame_behind_them_starts():
    stairs = Stairs(7, 4, 5, 2)
    spans, table = windows(stairs), staircase(stairs)
    assert bool((spans[:, 1] - spans[:, 0] == 4).all()) and spans[-1].tolist() == [3, 7]
    for (first, end), row in zip(spans.tolist(), table, strict=True):
        assert bool((row[end:] == 0).all()) and bool((row[:first] == 5).all())


def test_given_frames_are_finished_from_the_first():
    stairs = Stairs(4, 4, 5, 2, given=2)
    table = staircase(stairs)
    assert bool((table[:, :2] == 5).all()) and len(table) == 5 + 2
    assert len(staircase(Stairs(4, 4, 5, 2, given=4))) == 0


def test_steps_lower_levels_to_zero():
    layout = grid(1, 3, 4, kind="values")
    order = StaircaseOrder(layout, Stairs(4, 4, 5, 2))
    tokens = empty(layout, width=1)
    row = Row(tokens, order, SeededNoise(0), {})
    level = torch.full((12,), 999.0)
    while (step := order.next(row)) is not None:
        assert step.draw.tolist() == list(range(12)) and step.level is not None
        moved = step.level[:, 0] != step.level[:, 1]
        unfinished = level > 0
        assert bool((step.level[moved & unfinished, 1] < level[moved & unfinished]).all())
        level = torch.where(step.finishes(), 0.0, torch.where(moved, step.level[:, 1], level))
        row.step += 1
    assert row.step == len(order) == 11 and bool((level == 0).all())


def test_slots_of_a_window_count_frames_from_its_beginning():
    slots = window_slots(2, 3, 6, 6)
    assert slots.place.tolist() == [-2, -1, 6, 7, 8, 9, 10, 11]
    assert slots.since.tolist() == [-1, -1, 0, 0, 0, 1, 1, 1]
    assert slots.copy.tolist() == [0, 0, 1, 1, 1, 1, 1, 1] and not bool(slots.commit.any())
    assert slots.speaks[:, 0].tolist() == [2, 3, 4, 5, 6, 7]
    assert slots.speaks[:, 2].tolist() == [6, 7, 8, 9, 10, 11]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("steps", (4, 4, 7, 0)),
        ("steps", (4, 4, 1000, 0)),
        ("lag", (4, 4, 5, 6)),
        ("lag", (4, 4, 5, -1)),
        ("frames", (3, 4, 5, 0)),
    ],
)
def test_wrong_input_is_named(field, values):
    with pytest.raises(ConfigError, match=f"^{field}="):
        Stairs(*values)


def test_a_small_lag_leaves_frames_unfinished():
    assert Stairs(8, 4, 8, 2).finishes and not Stairs(8, 4, 8, 1).finishes
    assert Stairs(4, 4, 8, 0).finishes
