"""Logits stages against brute force, row by row."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from limner.core.row import Options, Row
from limner.heads.stages import (
    DEFAULT_STAGES,
    Stage,
    min_p,
    processors,
    temperature,
    top_k,
    top_p,
    top_p_ascending,
)
from tests.heads.turns import GivenTurn

FIXTURES = Path(__file__).parents[1] / "fixtures" / "parity" / "var"


def random_logits(seed: int, rows: int = 4, count: int = 3, codes: int = 9) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(rows, count, codes, generator=rng, dtype=torch.float64)


def kept(stage: Stage, logits: Tensor, options: list[Options]) -> list[list[set[int]]]:
    """Return the codes kept for every row and token; what is kept is unchanged."""
    out = stage(logits, GivenTurn(logits, options))
    alive = out > -torch.inf
    assert torch.equal(out[alive], logits[alive])
    return [[set(token.nonzero().flatten().tolist()) for token in row] for row in alive]


def chances(logits: Tensor) -> list[float]:
    """Return the probabilities, exactly summed."""
    weights = [math.exp(value) for value in logits.tolist()]
    return [weight / math.fsum(weights) for weight in weights]


def ranked(logits: Tensor) -> list[int]:
    return sorted(range(len(logits)), key=lambda code: -logits[code].item())


def by_top_k(logits: Tensor, option: Options) -> set[int]:
    k = option.top_k or len(logits)
    least = sorted(logits.tolist(), reverse=True)[: min(k, len(logits))][-1]
    return {code for code, value in enumerate(logits.tolist()) if value >= least}


def by_top_p(logits: Tensor, option: Options) -> set[int]:
    chosen: set[int] = set()
    probabilities = chances(logits)
    for code in ranked(logits):
        if chosen and math.fsum(probabilities[c] for c in chosen) > option.top_p:
            break
        chosen.add(code)
    return chosen


def by_min_p(logits: Tensor, option: Options) -> set[int]:
    probabilities = chances(logits)
    limit = option.min_p * max(probabilities)
    return {code for code, chance in enumerate(probabilities) if chance >= limit}


@pytest.mark.parametrize(
    ("stage", "field", "values", "brute"),
    [
        (top_k, "top_k", st.integers(0, 12), by_top_k),
        (top_p, "top_p", st.floats(0.01, 1.0), by_top_p),
        (top_p_ascending, "top_p", st.floats(0.01, 1.0), by_top_p),
        (min_p, "min_p", st.floats(0.0, 0.99), by_min_p),
    ],
)
@given(data=st.data(), seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_stages_equal_brute_force_with_options_by_row(
    stage: Stage, field: str, values: st.SearchStrategy, brute, data: st.DataObject, seed: int
) -> None:
    logits = random_logits(seed)
    options = [Options(**{field: data.draw(values)}) for _ in logits]
    expected = [
        [brute(token, option) for token in row] for row, option in zip(logits, options, strict=True)
    ]
    assert kept(stage, logits, options) == expected


def test_a_row_is_filtered_as_if_it_were_alone() -> None:
    logits = random_logits(3, rows=5)
    options = [
        Options(top_k=2),
        Options(top_p=0.6),
        Options(temperature=0.5, min_p=0.2),
        Options(temperature=0.0),
        Options(),
    ]
    together, turn = logits, GivenTurn(logits, options)
    for stage in DEFAULT_STAGES:
        together = stage(together, turn)
    for index, option in enumerate(options):
        alone = logits[index : index + 1]
        own = GivenTurn(alone, [option])
        for stage in DEFAULT_STAGES:
            alone = stage(alone, own)
        assert torch.equal(together[index : index + 1], alone)
    assert torch.equal(together[4], logits[4])


def test_ties_with_the_kth_logit_stay() -> None:
    logits = torch.tensor([[[1.0, 3.0, 2.0, 2.0, 0.0]]])
    assert kept(top_k, logits, [Options(top_k=2)]) == [[{1, 2, 3}]]


def test_the_most_likely_code_always_stays() -> None:
    logits = torch.tensor([[[0.0, 1.0, 0.5]]])
    for stage in (top_p, top_p_ascending):
        assert kept(stage, logits, [Options(top_p=1e-9)]) == [[{1}]]


def test_codes_removed_before_stay_removed() -> None:
    logits = torch.tensor([[[0.0, -torch.inf, 0.3, -torch.inf]]])
    for stage in (top_p, top_p_ascending):
        assert kept(stage, logits, [Options(top_p=0.99)]) == [[{0, 2}]]


def test_the_two_top_p_differ_where_a_sum_is_exactly_p() -> None:
    """0.5 + 0.25 is p: the descending form takes one more, VAR's ascending form does not."""
    probabilities = torch.tensor([[[0.5, 0.25, 0.1875, 0.0625]]], dtype=torch.float64)
    logits, option = probabilities.log2() * math.log(2), [Options(top_p=0.75)]
    assert torch.equal(logits.softmax(-1).cumsum(-1)[0, 0, :2], torch.tensor([0.5, 0.75]).double())
    assert kept(top_p, logits, option) == [[{0, 1, 2}]]
    assert kept(top_p_ascending, logits, option) == [[{0, 1}]]


def test_the_two_top_p_may_differ_among_equals_in_which_but_not_in_how_many() -> None:
    logits = torch.zeros(1, 1, 10, dtype=torch.float64)
    option = [Options(top_p=0.35)]
    ((descending,),), ((ascending,),) = (
        kept(stage, logits, option) for stage in (top_p, top_p_ascending)
    )
    assert len(descending) == len(ascending) == 4


@pytest.mark.parametrize("stage", [top_p, top_p_ascending])
@pytest.mark.parametrize("case", ["var", "var-saln"])
@pytest.mark.parametrize(("name", "k", "p"), [("topk5", 5, 1.0), ("topp09", 0, 0.9), ("", 8, 0.7)])
def test_filters_of_the_official_var(stage: Stage, case: str, name: str, k: int, p: float) -> None:
    io = load_file(FIXTURES / case / "io.safetensors")
    logits = io["filter_in"]
    turn = GivenTurn(logits, [Options(top_k=k, top_p=p)])
    found = stage(top_k(logits, turn), turn).softmax(-1)
    torch.testing.assert_close(found, io[f"filter_{name or 'topk8_topp07'}_probs"])


def test_temperature() -> None:
    logits = random_logits(1, rows=3)
    options = [Options(temperature=2.0), Options(), Options(temperature=0.0)]
    out = temperature(logits, GivenTurn(logits, options))
    assert torch.equal(out[0], logits[0] / 2) and torch.equal(out[1], logits[1])
    assert torch.equal(out[2] > -torch.inf, logits[2] == logits[2].amax(-1, keepdim=True))


def test_processors_see_their_own_row_and_real_tokens_only() -> None:
    logits = random_logits(0, rows=2)
    seen = []

    def add(part: Tensor, row: Row, tokens: Tensor) -> Tensor:
        seen.append((row, tokens.tolist()))
        return part + 1

    turn = GivenTurn(logits, [Options(), Options(processors=(add, add))])
    turn.tokens = torch.tensor([[0, 1, 2], [0, 1, -1]])
    out = processors(logits, turn)
    assert seen == [(turn.rows[1], [0, 1])] * 2
    assert torch.equal(out[0], logits[0]) and torch.equal(out[1, 2], logits[1, 2])
    torch.testing.assert_close(out[1, :2], logits[1, :2] + 2)
