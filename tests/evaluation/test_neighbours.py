"""The nearest picture is found as comparing one by one finds it."""

from __future__ import annotations

import pytest
import torch

from limner.core.errors import ConfigError
from limner.data import load_pictures
from limner.evaluation import neighbours
from limner.evaluation.neighbours import nearest_pictures


def test_a_copy_is_found_at_distance_zero() -> None:
    pictures = load_pictures("twemoji", 16)
    chosen = torch.tensor([5, 700, 1800])
    found = nearest_pictures(pictures.to_float(chosen), pictures)
    assert found.index.tolist() == chosen.tolist()
    assert found.distance.tolist() == pytest.approx([0, 0, 0], abs=1e-3)


def test_chunks_do_not_change_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = load_pictures("twemoji", 16).subset(range(50))
    asked = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    monkeypatch.setattr(neighbours, "CHUNK", 7)
    found = nearest_pictures(asked, pictures, side=16)
    for row, picture in enumerate(asked):
        each = (pictures.to_float() - picture).square().mean(dim=(1, 2, 3)).sqrt()
        assert found.index[row] == each.argmin()
        assert found.distance[row] == pytest.approx(float(each.min()), abs=1e-4)


def test_sizes_may_differ_and_an_empty_set_is_an_error() -> None:
    pictures = load_pictures("twemoji", 16)
    large = load_pictures("twemoji", 32).to_float(torch.tensor([30, 40]))
    assert nearest_pictures(large, pictures, side=8).index.tolist() == [30, 40]
    with pytest.raises(ConfigError, match="at least one picture"):
        nearest_pictures(large, pictures.subset([]))
