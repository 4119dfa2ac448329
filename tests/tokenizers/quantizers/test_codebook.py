"""The codebook against brute force, its gradient, and its k-means."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from limner.core.errors import ConfigError, DataError
from limner.tokenizers.quantizers.codebook import Codebook


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("normalize", [False, True])
def test_nearest_is_that_of_brute_force(normalize: bool) -> None:
    book = Codebook(37, 5, normalize)
    torch.nn.init.normal_(book.weight, generator=rng())
    vectors = torch.randn(4, 6, 7, 5, generator=rng(1))
    x, codes = vectors.flatten(0, 2), book.weight
    if normalize:
        x, codes = functional.normalize(x, dim=-1), functional.normalize(codes, dim=-1)
    brute = torch.cdist(x, codes, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
    ids = book.nearest(vectors)
    assert torch.equal(ids, brute.reshape(4, 6, 7))
    torch.testing.assert_close(book(vectors).values, book.lookup(ids))


def test_many_vectors_in_chunks() -> None:
    book = Codebook(4096, 2)
    torch.nn.init.normal_(book.weight, generator=rng())
    vectors = torch.randn(3000, 2, generator=rng(1))  # 12 M scores: several chunks
    brute = torch.cdist(vectors, book.weight).min(dim=1).values
    found = (vectors - book.lookup(book.nearest(vectors))).norm(dim=1)
    torch.testing.assert_close(found, brute, atol=1e-3, rtol=1e-3)


def test_straight_through_and_losses() -> None:
    book = Codebook(8, 3, commitment=0.5)
    torch.nn.init.normal_(book.weight, generator=rng())
    vectors = torch.randn(10, 3, generator=rng(1), requires_grad=True)
    out = book(vectors)
    (gradient,) = torch.autograd.grad(out.values.sum(), vectors, retain_graph=True)
    assert torch.equal(gradient, torch.ones_like(vectors))
    error = (vectors - book.lookup(out.ids)).square().mean()
    torch.testing.assert_close(out.losses["vq"], error)
    torch.testing.assert_close(out.losses["commitment"], 0.5 * error)
    sum(out.losses.values()).backward()
    assert book.weight.grad is not None and vectors.grad is not None
    unused = torch.ones(8, dtype=torch.bool).index_fill(0, out.ids, False)
    assert (book.weight.grad[unused] == 0).all() and (book.weight.grad[~unused] != 0).any()


def test_entropy_loss_prefers_sure_and_even_choices() -> None:
    book = Codebook(4, 2, entropy=1.0)
    with torch.no_grad():
        book.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    even = book.weight.detach().repeat(8, 1)
    lopsided = book.weight.detach()[:1].repeat(32, 1)
    unsure = torch.zeros(32, 2)
    losses = [book(vectors).losses["entropy"].item() for vectors in (even, lopsided, unsure)]
    assert losses[0] == pytest.approx(-torch.log(torch.tensor(4.0)).item(), abs=1e-3)
    assert losses[0] < losses[1] - 1 and losses[0] < losses[2] - 1


def test_k_means_finds_clusters_and_uses_all_codes() -> None:
    centres = 10 * torch.randn(24, 4, generator=rng())
    vectors = (centres.unsqueeze(1) + 0.1 * torch.randn(24, 50, 4, generator=rng(1))).flatten(0, 1)
    book = Codebook(24, 4)
    book.fit(vectors, rng(2))
    error = (vectors - book.lookup(book.nearest(vectors))).square().mean()
    assert error < 0.02
    assert len(book.nearest(vectors).unique()) == 24


def test_k_means_revives_codes_that_duplicates_starve() -> None:
    # nine tenths of all vectors are one and the same, as white patches are
    vectors = torch.cat([torch.zeros(1800, 3), torch.randn(200, 3, generator=rng())])
    book = Codebook(64, 3)
    book.fit(vectors, rng(1))
    assert len(book.nearest(vectors).unique()) > 0.9 * 64


def test_k_means_of_directions_keeps_unit_codes() -> None:
    vectors = torch.randn(500, 3, generator=rng()) * torch.rand(500, 1, generator=rng(1))
    book = Codebook(16, 3, normalize=True)
    book.fit(vectors, rng(2))
    torch.testing.assert_close(book.weight.norm(dim=1), torch.ones(16))


def test_fit_depends_on_its_generator_alone() -> None:
    vectors = torch.randn(300, 3, generator=rng())
    books = [Codebook(16, 3) for _ in range(2)]
    for book in books:
        book.fit(vectors, rng(5), iterations=4)
    assert torch.equal(books[0].weight, books[1].weight)


def test_bad_input_is_named() -> None:
    with pytest.raises(ConfigError, match="codebook_size=0"):
        Codebook(0, 4)
    with pytest.raises(DataError, match="3 vectors cannot fit 8 codes"):
        Codebook(8, 4).fit(torch.randn(3, 4), rng())
