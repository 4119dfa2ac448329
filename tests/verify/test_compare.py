"""How far a value may be from its reference."""

import pytest
import torch

from limner.verify.compare import SAMPLING_RUN, compare

INF = float("inf")
NAN = float("nan")


def _t(*values):
    return torch.tensor(values)


def test_the_error_is_relative_to_the_largest_magnitude():
    reference = _t(0.001, -10.0)
    assert compare(reference, _t(0.0015, -10.0)).ok  # 5e-5 of 10
    outcome = compare(reference, _t(0.003, -10.0))
    assert not outcome.ok and outcome.error == pytest.approx(2e-4)
    assert compare(reference, _t(0.003, -10.0), SAMPLING_RUN).ok


@pytest.mark.parametrize("value", [_t(NAN, 1.0), _t(INF, 1.0), _t(-INF, 1.0)])
def test_values_that_are_no_numbers_fail(value):
    assert not compare(_t(1.0, 1.0), value).ok


def test_nan_fails_even_where_the_reference_has_it():
    assert not compare(_t(NAN), _t(NAN)).ok


def test_removed_entries_stand_at_the_same_places_and_do_not_count():
    reference = _t(-INF, 2.0, -1e30)
    assert compare(reference, _t(-1e31, 2.0, -INF)).ok
    assert not compare(reference, _t(-1e29, 2.0, -INF)).ok
    assert not compare(reference, _t(-INF, -INF, -INF)).ok
    assert not compare(reference, _t(-INF, 2.01, -INF)).ok
    assert compare(_t(-INF, -INF), _t(-INF, -INF)).ok


def test_positive_infinity_must_stand_at_the_same_place():
    assert compare(_t(INF, 2.0), _t(INF, 2.0)).ok
    assert not compare(_t(INF, 2.0), _t(2.0, INF)).ok


def test_an_all_zero_reference_allows_a_millionth():
    assert compare(torch.zeros(3), torch.full((3,), 9e-7)).ok
    assert not compare(torch.zeros(3), torch.full((3,), 2e-6)).ok


def test_own_tolerances_count_removed_entries_in_the_magnitude():
    # a case that writes -1e30 states its tolerance relative to that
    reference, value = _t(-1e30, 2.0), _t(-1e30, 2.00001)
    assert compare(reference, value, 1e-34, own=True).ok
    assert not compare(reference, value + _t(0.0, 0.1), 1e-34, own=True).ok


def test_whole_numbers_are_exact_unless_the_case_says_otherwise():
    reference = torch.tensor([100, 200], dtype=torch.uint8)
    assert compare(reference, reference.long()).ok
    assert not compare(reference, reference + 1).ok
    assert compare(reference, reference + 1, 0.01, own=True).ok
    assert not compare(reference, reference.float()).ok
    assert compare(_t(True, False), _t(1, 0)).ok
    assert not compare(_t(True, False), _t(True, True)).ok


def test_shapes_must_be_the_same():
    outcome = compare(torch.zeros(2, 1), torch.zeros(2))
    assert not outcome.ok and "shape [2]" in outcome.note
    assert compare(torch.zeros(0, 3), torch.zeros(0, 3)).ok


def test_other_float_types_are_compared_as_they_are():
    assert compare(_t(1.0).double(), _t(1.0).half()).ok


def test_ids_may_differ_where_their_logits_are_a_tie():
    logits = torch.tensor([[[0.0, 10.0, 9.9999], [0.0, 10.0, 9.9], [-INF, 5.0, 0.0]]])
    ids = torch.tensor([[1, 1, 1]])
    tie = compare(ids, torch.tensor([[2, 1, 1]]), logits=logits)
    assert tie.ok and "ties" in tie.note and tie.error == 1
    assert not compare(ids, torch.tensor([[2, 1, 1]])).ok
    assert not compare(ids, torch.tensor([[2, 2, 1]]), logits=logits).ok
    assert not compare(ids, torch.tensor([[1, 1, 0]]), logits=logits).ok
    assert not compare(ids, torch.tensor([[7, 1, 1]]), logits=logits).ok
