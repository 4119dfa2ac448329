"""The categorical head: draws follow the distribution, losses follow the definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from limner.core.row import Options
from limner.heads.categorical import CategoricalHead, Sampler, gumbel_max, inverse_cdf
from tests.heads.turns import GivenTurn

samplers = pytest.mark.parametrize("sampler", [inverse_cdf, gumbel_max])


@samplers
def test_draws_follow_the_distribution(sampler: Sampler) -> None:
    chances = torch.tensor([0.4, 0.0, 0.3, 0.15, 0.1, 0.04, 0.01], dtype=torch.float64)
    count = 20_000
    turn = GivenTurn(chances.log().expand(1, count, -1), [Options()])
    ids = sampler(turn.logits, turn)  # type: ignore[arg-type]
    observed = torch.bincount(ids.flatten(), minlength=7).double()
    assert observed[1] == 0
    real = chances > 0
    expected = count * chances[real]
    chi2 = ((observed[real] - expected) ** 2 / expected).sum().item()
    # 5 degrees of freedom: above 35 with a chance below 2e-6
    assert chi2 < 35


@samplers
def test_rows_draw_by_their_own_seeds(sampler: Sampler) -> None:
    logits = torch.zeros(3, 40, 8, dtype=torch.float64)
    turn = GivenTurn(logits, [Options()] * 3)
    ids = sampler(logits.log_softmax(-1), turn)
    assert not torch.equal(ids[0], ids[1]) and not torch.equal(ids[1], ids[2])
    turn.rows.reverse()
    assert torch.equal(sampler(logits.log_softmax(-1), turn), ids.flip(0))


class FixedTurn(GivenTurn):
    """A turn whose noise is one number."""

    def __init__(self, logits: Tensor, number: float) -> None:
        super().__init__(logits, [Options()])
        self.number = number

    def noise(self, kind: str, purpose: str, inner: int = 0, shape: tuple[int, ...] = ()) -> Tensor:
        return torch.full((*self.logits.shape[:2], *shape), self.number, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("number", "expected"),
    [(2.0**-33, 1), (0.2, 1), (0.26, 2), (0.74, 2), (0.76, 4), (1 - 2.0**-33, 4)],
)
def test_inverse_cdf_at_its_edges(dtype: torch.dtype, number: float, expected: int) -> None:
    """Codes without probability are never drawn, wherever they stand."""
    chances = torch.tensor([[[0.0, 0.25, 0.5, 0.0, 0.25, 0.0]]], dtype=dtype)
    assert inverse_cdf(chances.log(), FixedTurn(chances.log(), number)).item() == expected


def test_log_probabilities_are_those_of_what_was_drawn() -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 9, generator=rng)
    turn = GivenTurn(logits, [Options(temperature=0.7, top_k=3), Options(top_p=0.8)])
    drawn = CategoricalHead().draw(turn)
    assert drawn.ids is not None and drawn.logprob is not None
    filtered = CategoricalHead().filtered(turn)
    for row in range(2):
        for token in range(5):
            chances = filtered[row, token].softmax(-1)
            chosen = drawn.ids[row, token, 0]
            assert drawn.logprob[row, token].item() == pytest.approx(chances[chosen].log().item())


def test_loss_is_the_mean_cross_entropy_and_weights_choose_tokens() -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, generator=rng)
    targets = torch.randint(5, (2, 3, 1), generator=rng)
    each = [
        [
            math.log(sum(math.exp(v) for v in logits[b, n].tolist()))
            - logits[b, n, targets[b, n, 0]].item()
            for n in range(3)
        ]
        for b in range(2)
    ]
    head = CategoricalHead()
    mean = sum(map(sum, each)) / 6
    assert head.loss(logits, targets).total.item() == pytest.approx(mean, rel=1e-5)
    weight = torch.tensor([[1, 0, 0], [0, 0, 3.0]])
    chosen = (each[0][0] + 3 * each[1][2]) / 4
    weighted = head.loss(logits, targets, weight=weight)
    assert weighted.total.item() == pytest.approx(chosen, rel=1e-5)
    assert weighted.parts["cross_entropy"].item() == pytest.approx(chosen, rel=1e-5)


def test_the_share_of_wrong_tokens_is_told_where_it_is_measured() -> None:
    rng = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(2, 7, 6, generator=rng), torch.randn(9, 6, generator=rng)
    logits = hidden @ weight.T
    targets = torch.where(torch.rand(2, 7, generator=rng) < 0.5, logits.argmax(-1), 0)
    wrong = (logits.argmax(-1) != targets).float()
    counts = torch.rand(2, 7, generator=rng)
    targets, head = targets.unsqueeze(-1), CategoricalHead()
    assert "token_error" not in head.loss(logits, targets).parts
    with torch.no_grad():
        for found in (head.loss(logits, targets), head.projected_loss(hidden, weight, targets)):
            torch.testing.assert_close(found.parts["token_error"], wrong.mean())
        for found in (
            head.loss(logits, targets, weight=counts),
            head.projected_loss(hidden, weight, targets, counts),
        ):
            expected = (wrong * counts).sum() / counts.sum()
            torch.testing.assert_close(found.parts["token_error"], expected)
