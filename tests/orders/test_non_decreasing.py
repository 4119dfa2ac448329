"""FoPP: counts against brute force, and the distribution of what is drawn."""

import itertools
from collections import Counter

import torch

from limner.orders.non_decreasing import (
    beginnings,
    continuations,
    fopp_times,
    forward_times,
    random_times,
)

FRAMES, CHAIN = 3, 5
SEQUENCES = [
    times
    for times in itertools.product(range(CHAIN), repeat=FRAMES)
    if list(times) == sorted(times)
]


def test_counts_are_those_of_brute_force():
    for frame in range(FRAMES):
        for time in range(CHAIN):
            begin = {times[: frame + 1] for times in SEQUENCES if times[frame] == time}
            go_on = {times[frame:] for times in SEQUENCES if times[frame] == time}
            assert beginnings(FRAMES, CHAIN)[time, frame] == len(begin)
            assert continuations(FRAMES, CHAIN)[time, frame] == len(go_on)


def test_forward_draws_are_uniform_over_all_sequences():
    rng = torch.Generator().manual_seed(0)
    drawn = forward_times(torch.rand(35_000, FRAMES, generator=rng), CHAIN)
    counts = Counter(map(tuple, drawn.tolist()))
    assert set(counts) == set(SEQUENCES) and len(SEQUENCES) == 35
    assert all(850 < count < 1150 for count in counts.values())


def test_given_one_time_the_others_are_uniform():
    rng = torch.Generator().manual_seed(1)
    frame, time = torch.full((20_000,), 1), torch.full((20_000,), 2)
    drawn = fopp_times(frame, time, torch.rand(20_000, 2, generator=rng), FRAMES, CHAIN)
    counts = Counter(map(tuple, drawn.tolist()))
    fits = [times for times in SEQUENCES if times[1] == 2]
    assert set(counts) == set(fits)
    assert all(0.9 < count * len(fits) / 20_000 < 1.1 for count in counts.values())


def test_training_times_rise_over_the_frames():
    times = random_times(2000, 4, 1000, torch.Generator().manual_seed(0))
    assert times.shape == (2000, 4) and bool((times.diff(dim=1) >= 0).all())
    means = times.float().mean(0)
    assert means[0] + 200 < means[3] and times.min() >= 0 and times.max() < 1000
