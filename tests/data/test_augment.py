"""Augmentation: decided by the generator alone, and nothing is invented."""

from __future__ import annotations

import pytest
import torch

from limner.core.errors import ConfigError
from limner.data import Augment, random_flip, random_shift


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 10, 8), generator=rng(9), dtype=torch.uint8)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_same_generator_same_pictures(dtype: torch.dtype) -> None:
    pictures = batch().to(dtype)
    before = pictures.clone()
    augment = Augment(shift=2, flip=0.5)
    first = augment(pictures, rng(1))
    assert first.dtype == dtype and first.shape == pictures.shape
    assert torch.equal(first, augment(pictures, rng(1)))
    assert not torch.equal(first, augment(pictures, rng(2)))
    assert torch.equal(pictures, before)


def test_global_random_state_is_neither_read_nor_moved() -> None:
    state = torch.get_rng_state()
    first = Augment(2, 0.5)(batch(), rng(1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert torch.equal(Augment(2, 0.5)(batch(), rng(1)), first)


def test_shift_moves_by_whole_pixels_and_repeats_the_edge() -> None:
    pictures = batch(64)
    shifted = random_shift(pictures, 2, rng(3))
    padded = torch.nn.functional.pad(pictures.float(), (2, 2, 2, 2), mode="replicate")
    moves = set()
    for i in range(64):
        for down in range(5):
            for right in range(5):
                window = padded[i, :, down : down + 10, right : right + 8]
                if torch.equal(window, shifted[i].float()):
                    moves.add((down, right))
                    break
            else:
                continue
            break
        else:
            pytest.fail(f"picture {i} is no shift of the original by at most 2")
    assert len(moves) > 15  # of 25


def test_shift_keeps_a_white_edge_white() -> None:
    pictures = torch.full((8, 3, 12, 12), 255, dtype=torch.uint8)
    pictures[:, :, 4:8, 4:8] = 0
    shifted = random_shift(pictures, 4, rng(0))
    assert torch.equal((shifted == 0).sum((1, 2, 3)), (pictures == 0).sum((1, 2, 3)))


def test_flip_mirrors_about_the_given_share() -> None:
    pictures = batch(1000)
    flipped = random_flip(pictures, 0.3, rng(4))
    mirrored = (flipped == pictures.flip(-1)).flatten(1).all(1)
    same = (flipped == pictures).flatten(1).all(1)
    assert torch.equal(mirrored, ~same)
    assert 230 < int(mirrored.sum()) < 370
    assert torch.equal(random_flip(pictures, 1.0, rng(4)), pictures.flip(-1))


def test_doing_nothing_draws_nothing() -> None:
    generator = rng(5)
    state = generator.get_state()
    assert torch.equal(Augment()(batch(), generator), batch())
    assert torch.equal(generator.get_state(), state)


def test_values_are_checked() -> None:
    with pytest.raises(ConfigError, match="shift"):
        Augment(shift=-1)
    with pytest.raises(ConfigError, match="flip"):
        Augment(flip=1.5)
