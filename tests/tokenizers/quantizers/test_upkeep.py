"""Moving averages, revival and the k-means start."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.core.errors import ConfigError
from limner.metrics.codebook import usage
from limner.tokenizers.quantizers.codebook import Codebook
from limner.tokenizers.quantizers.fsq import FSQ, FSQConfig
from limner.tokenizers.quantizers.projected import Projected
from limner.tokenizers.quantizers.upkeep import MovingAverages, Upkeep, UpkeepConfig

AVERAGE = UpkeepConfig(fit=False, patience=0.0, decay=0.8, average=True)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clusters(count: int, each: int) -> Tensor:
    centres = 5 * torch.randn(count, 1, 3, generator=rng())
    return (centres + 0.1 * torch.randn(count, each, 3, generator=rng(1))).flatten(0, 1)


def test_moving_averages_follow_their_formula() -> None:
    book = Codebook(4, 2, pull=0.0)
    torch.nn.init.normal_(book.weight, generator=rng())
    upkeep = Upkeep(book, AVERAGE)
    counts, sums = [1.0] * 4, book.weight.detach().clone()
    for step in range(3):
        vectors = torch.randn(10, 2, generator=rng(step))
        ids = book.nearest(vectors)
        for code in range(4):
            own = vectors[ids == code]
            counts[code] = 0.8 * counts[code] + 0.2 * len(own)
            sums[code] = 0.8 * sums[code] + 0.2 * own.sum(dim=0)
        upkeep.update(book, vectors, ids, rng())
        total = sum(counts)
        for code in range(4):
            size = (counts[code] + 1e-5) / (total + 4e-5) * total
            torch.testing.assert_close(book.weight[code], sums[code] / size)


def test_a_code_goes_to_the_mean_of_its_vectors_and_only_by_averages() -> None:
    vectors = 2 + 0.1 * torch.randn(64, 3, generator=rng())
    for config, moves in ((AVERAGE, True), (UpkeepConfig(fit=False, patience=0.0), False)):
        book = Codebook(1, 3, pull=0.0)
        before = book.weight.detach().clone()
        upkeep = Upkeep(book, config)
        for _ in range(50):
            upkeep.update(book, vectors, book(vectors).ids, rng())
        assert torch.equal(book.weight, before) != moves
        assert ((book.weight - vectors.mean(dim=0)).abs().max() < 1e-2) == moves
        assert book.weight.requires_grad != moves


def test_directions_stay_unit_vectors() -> None:
    book = Codebook(4, 3, normalize=True, pull=0.0)
    upkeep = Upkeep(book, AVERAGE)
    vectors = torch.randn(30, 3, generator=rng())
    upkeep.update(book, vectors, book.nearest(vectors), rng())
    torch.testing.assert_close(book.weight.norm(dim=1), torch.ones(4))


def test_dead_codes_are_revived_and_found() -> None:
    vectors = clusters(8, 32)
    book = Codebook(16, 3)
    with torch.no_grad():
        book.weight[1:] = 1e3  # far from everything: a single code takes all vectors
        book.weight[0] = 0.0
    upkeep = Upkeep(book, UpkeepConfig(fit=False, decay=0.5))
    assert usage(book.nearest(vectors), 16).share == 1 / 16
    for step in range(20):
        upkeep.update(book, vectors, book.nearest(vectors), rng(step))
    assert usage(book.nearest(vectors), 16).share > 0.9


def test_codes_are_moved_when_patience_is_over_and_to_what_is_served_badly() -> None:
    vectors = torch.tensor([[0.0, 0.0]] * 98 + [[9.0, 9.0], [8.0, 0.0]])
    book = Codebook(4, 2)
    with torch.no_grad():
        book.weight.copy_(torch.tensor([[0.0, 0.0], [50.0, 50.0], [60.0, 60.0], [70.0, 70.0]]))
    # 25 vectors a code go by in a step
    upkeep = Upkeep(book, UpkeepConfig(fit=False, patience=60.0))
    for step in range(2):
        upkeep.update(book, vectors, book.nearest(vectors), rng(step))
    assert book.weight[1:].min() >= 50, "two steps are not more than the patience"
    upkeep.update(book, vectors, book.nearest(vectors), rng(2))
    assert {tuple(code) for code in book.weight.tolist()} >= {(0.0, 0.0), (9.0, 9.0), (8.0, 0.0)}


def test_revival_takes_the_first_vectors_and_never_more_than_there_are() -> None:
    book = Codebook(5, 2)
    averages = MovingAverages(book)
    averages.counts.copy_(torch.tensor([0.0, 2.0, 0.1, 3.0, 0.2]))
    vectors = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert averages.revive(book, vectors, threshold=0.5).tolist() == [0, 2]
    assert torch.equal(book.weight[[0, 2]], vectors)
    torch.testing.assert_close(averages.counts, torch.tensor([0.5, 2.0, 0.5, 3.0, 0.2]))
    assert torch.equal(averages.sums[[0, 2]], 0.5 * vectors)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("count", [200, 10])
def test_codes_start_where_the_first_vectors_are(normalize: bool, count: int) -> None:
    book = Codebook(16, 3, normalize)
    upkeep = Upkeep(book)
    vectors = 4 + torch.randn(count, 3, generator=rng())
    upkeep.update(book, vectors, book.nearest(vectors), rng())
    assert usage(book.nearest(vectors), 16).share >= min(0.4, count / 16)
    before = book.weight.detach().clone()
    upkeep.update(book, vectors, book.nearest(vectors), rng())
    # the start happens once: then only codes without vectors move
    used = torch.bincount(book.nearest(vectors), minlength=16) > 0
    assert (book.weight == before).all(dim=1).any() or not used.any()


def test_its_state_can_be_saved_and_continued() -> None:
    first, second = (Codebook(8, 3, pull=0.0) for _ in range(2))
    upkeeps = [Upkeep(first, AVERAGE), Upkeep(second, AVERAGE)]
    vectors = torch.randn(50, 3, generator=rng())
    upkeeps[0].update(first, vectors, first.nearest(vectors), rng())
    second.load_state_dict(first.state_dict())
    upkeeps[1].load_state_dict(upkeeps[0].state_dict())
    for book, upkeep in zip((first, second), upkeeps, strict=True):
        upkeep.update(book, vectors, book.nearest(vectors), rng(1))
    assert torch.equal(first.weight, second.weight)


def test_averages_leave_projections_to_gradients() -> None:
    projected = Projected(Codebook(8, 3, pull=0.0), 5)
    Upkeep(projected, AVERAGE)
    assert not projected.codebooks()[0].weight.requires_grad
    assert projected.into.weight.requires_grad


def test_fixed_codes_need_no_upkeep() -> None:
    quantizer = FSQ(FSQConfig())
    vectors = torch.randn(5, 4)
    Upkeep(quantizer).update(quantizer, vectors, quantizer.nearest(vectors), rng())
    assert not Upkeep(quantizer).kept


def test_bad_configurations_are_named() -> None:
    with pytest.raises(ConfigError, match="decay=1"):
        UpkeepConfig(decay=1.0)
    with pytest.raises(ConfigError, match="patience=-1"):
        UpkeepConfig(patience=-1.0)
