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


def test_the_given_frame_and_its_time_are_uniform() -> None:
    """The times of every frame are those of all frames given alike, each with all times alike."""
    frames, chain, count = 4, 8, 20_000
    drawn = random_times(count, frames, chain, torch.Generator().manual_seed(2))
    assert bool((drawn.diff(dim=1) >= 0).all())
    every = torch.tensor(
        [times for times in itertools.product(range(chain), repeat=frames) if rising(times)]
    )
    expected = torch.zeros(frames, chain, dtype=torch.float64)
    for frame, time in itertools.product(range(frames), range(chain)):
        fits = every[every[:, frame] == time]
        for other in range(frames):
            share = torch.bincount(fits[:, other], minlength=chain) / len(fits)
            expected[other] += count * share / (frames * chain)
    found = torch.stack([torch.bincount(times, minlength=chain) for times in drawn.T])
    assert float(((found - expected).square() / expected).sum(1).max()) < 24.3  # p = 0.001 of 7
    means = drawn.double().mean(0)
    assert float(means[0]) < 2 and float(means[3]) > 5


def test_all_sequences_alike_crowd_at_the_ends() -> None:
    uniform = torch.rand(20_000, 4, generator=torch.Generator().manual_seed(3))
    drawn = forward_times(uniform, 8)
    assert float((drawn[:, 0] <= 1).double().mean()) > 0.55  # 204 of 330 sequences
    assert float((drawn[:, 3] >= 6).double().mean()) > 0.55
    mixed = random_times(20_000, 4, 8, torch.Generator().manual_seed(3))
    assert float(drawn[:, 0].double().mean()) < float(mixed[:, 0].double().mean()) - 0.2


def rising(times: tuple[int, ...]) -> bool:
    return list(times) == sorted(times)
