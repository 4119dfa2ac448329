"""Noise: known answers of Philox, independence of grouping, and moments."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.core.errors import LimnerError
from limner.core.noise import ReplayedNoise, SeededNoise, philox

FULL = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # philox4x32-10 of the Random123 distribution's kat_vectors
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((FULL,) * 4, (FULL,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(
    counter: tuple[int, int, int, int], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    words = philox(tuple(torch.tensor([word]) for word in counter), key)  # type: ignore[arg-type]
    assert tuple(int(word) for word in words) == expected


@pytest.mark.parametrize("kind", ["uniform", "normal", "gumbel"])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
@given(tokens=st.lists(st.integers(0, 2000), min_size=1, max_size=12), seed=st.integers())
@settings(max_examples=15, deadline=None)
def test_a_number_depends_on_its_address_alone(
    kind: str, shape: tuple[int, ...], tokens: list[int], seed: int
) -> None:
    together = getattr(SeededNoise(seed), kind)("token", torch.tensor(tokens), 3, shape)
    assert together.shape == (len(tokens), *shape) and together.dtype == torch.float64
    noise = SeededNoise(seed)
    for index in reversed(range(len(tokens))):
        single = getattr(noise, kind)("token", torch.tensor(tokens[index : index + 1]), 3, shape)
        assert torch.equal(single[0], together[index])


def test_inner_steps_may_be_asked_for_in_any_order() -> None:
    tokens = torch.tensor([3, 1, 40])
    forward, backward = SeededNoise(5), SeededNoise(5)
    rising = [forward.normal("solver", tokens, inner, (2,)) for inner in range(80)]
    for inner in reversed(range(80)):
        assert torch.equal(backward.normal("solver", tokens, inner, (2,)), rising[inner])
        alone = SeededNoise(5).normal("solver", tokens[:1], inner, (2,))
        assert torch.equal(alone, rising[inner][:1])
        backward.normal("other", tokens, inner, (2,))
    assert len(torch.stack(rising).unique()) == 80 * 3 * 2


def test_every_part_of_the_address_matters() -> None:
    tokens = torch.arange(50)
    base = SeededNoise(1).uniform("token", tokens, 0)
    others = [
        SeededNoise(2).uniform("token", tokens, 0),
        SeededNoise(1 + 2**32).uniform("token", tokens, 0),
        SeededNoise(-1).uniform("token", tokens, 0),
        SeededNoise(1).uniform("order", tokens, 0),
        SeededNoise(1).uniform("token", tokens, 1),
        SeededNoise(1).uniform("token", tokens + 50, 0),
    ]
    for other in others:
        assert not (other == base).any()
    # only the lowest 64 bits of a seed count
    assert torch.equal(SeededNoise(1 + 2**64).uniform("token", tokens, 0), base)
    assert len(SeededNoise(1).uniform("token", torch.arange(0), 0)) == 0


COUNT = 200_000
WIDE = 5.0
"""Bound in standard errors: a right implementation fails with a chance below 1e-6; seed fixed."""


def standardised(values: torch.Tensor, mean: float, variance: float) -> float:
    return abs(values.mean().item() - mean) / math.sqrt(variance / len(values))


def test_uniform_moments() -> None:
    values = SeededNoise(0).uniform("token", torch.arange(COUNT), 0)
    assert values.min() > 0 and values.max() < 1
    assert standardised(values, 1 / 2, 1 / 12) < WIDE
    assert standardised(values**2, 1 / 3, 4 / 45) < WIDE
    counts = torch.histc(values, bins=100, min=0, max=1)
    chi2 = ((counts - COUNT / 100) ** 2 / (COUNT / 100)).sum().item()
    # chi-square with 99 degrees: mean 99, variance 198
    assert abs(chi2 - 99) < WIDE * math.sqrt(198)
    neighbours = (values[1:] - 0.5) * (values[:-1] - 0.5)
    assert standardised(neighbours, 0, 1 / 144) < WIDE


def test_normal_moments() -> None:
    values = SeededNoise(0).normal("token", torch.arange(COUNT // 4), 0, (4,))
    assert standardised(values.flatten(), 0, 1) < WIDE
    assert standardised(values.flatten() ** 2, 1, 2) < WIDE
    assert standardised(values.flatten() ** 3, 0, 15) < WIDE
    assert standardised(values.flatten() ** 4, 3, 96) < WIDE
    assert standardised(values[:, 0] * values[:, 1], 0, 1) < WIDE


def test_gumbel_moments() -> None:
    values = SeededNoise(0).gumbel("token", torch.arange(COUNT), 0)
    variance = math.pi**2 / 6
    assert standardised(values, 0.5772156649015329, variance) < WIDE
    # the fourth central moment is 27/5 variance^2
    squares = (values - 0.5772156649015329) ** 2
    assert standardised(squares, variance, 4.4 * variance**2) < WIDE
    assert standardised((values < 0).double(), math.exp(-1), math.exp(-1) * (1 - math.exp(-1))) < (
        WIDE
    )


def test_replayed_noise_is_what_was_given() -> None:
    tokens = torch.tensor([3, 0])
    given = {"token": torch.arange(8.0).reshape(4, 2), "inner": torch.arange(24.0).reshape(4, 3, 2)}
    noise = ReplayedNoise(given, per_inner=("inner",))
    assert noise.gumbel("token", tokens, 9, (2,)).tolist() == [[6, 7], [0, 1]]
    assert noise.normal("inner", tokens, 1, (2,)).tolist() == [[20, 21], [2, 3]]
    with pytest.raises(LimnerError, match="'order' was not given; given: inner, token"):
        noise.uniform("order", tokens, 0, ())
    with pytest.raises(LimnerError, match=r"\(2,\) a token, \(5,\) is needed"):
        noise.uniform("token", tokens, 0, (5,))
