"""Training masks: how many tokens, and which."""

import torch

from limner.orders.masking import masked_front, masked_share, random_mask


def test_shares_follow_the_truncated_normal():
    """The same distribution as throwing away what falls outside."""
    rng = torch.Generator().manual_seed(0)
    shares = masked_share(torch.rand(100_000, generator=rng), least=0.7)
    assert shares.min() >= 0.7 and shares.max() <= 1.0
    drawn = 1 + 0.25 * torch.randn(400_000, generator=rng, dtype=torch.float64)
    drawn = drawn[(drawn >= 0.7) & (drawn <= 1.0)]
    levels = torch.tensor([0.1, 0.5, 0.9]).double()
    torch.testing.assert_close(shares.quantile(levels), drawn.quantile(levels), atol=4e-3, rtol=0)


def test_the_front_of_a_permutation_is_masked():
    permutations = torch.tensor([[2, 0, 3, 1], [1, 3, 0, 2]])
    masked = masked_front(permutations, torch.tensor([[1], [3]]))
    assert masked.int().tolist() == [[0, 0, 1, 0], [1, 1, 0, 1]]


def test_a_training_batch_has_one_share_and_many_masks():
    masked = random_mask(64, 50, 0.7, torch.Generator().manual_seed(0))
    assert len(set(masked.sum(1).tolist())) == 1
    assert len(masked.unique(dim=0)) > 60
    # no place is favoured
    assert masked.float().mean(0).min() > 0.5


def test_evaluation_covers_the_shares_evenly():
    counts = random_mask(64, 50, 0.7, torch.Generator().manual_seed(0), spread_out=True).sum(1)
    assert counts.min() == 36 and counts.max() == 50
    assert (counts.diff() >= 0).all()
