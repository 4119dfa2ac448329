"""Infinity's templates."""

import itertools

import pytest

from limner.core.errors import ConfigError
from limner.orders.aspect_ratios import nearest_grid, reference_grid, template_scales, templates


def test_templates_are_thirteen_scales_that_never_shrink():
    assert len(templates()) == 15 and len(set(templates())) == 15
    for scales in templates():
        assert len(scales) == 13 and scales[0] == (1, 1)
        for (rows, columns), (more_rows, more_columns) in itertools.pairwise(scales):
            assert more_rows >= rows and more_columns >= columns
        ratio = scales[-1][0] / scales[-1][1]
        assert any(
            abs(max(ratio, 1 / ratio) - each) < 0.01
            for each in (1, 1.25, 4 / 3, 1.5, 1.75, 2, 2.5, 3)
        )


def test_published_lengths():
    assert sum(rows * columns for rows, columns in template_scales(64, 64)) == 10521
    assert len(template_scales(16, 16)) == 7 and len(template_scales(32, 32)) == 10
    assert template_scales(52, 78)[:4] == ((1, 1), (2, 2), (2, 3), (4, 6))


def test_positions_are_measured_by_the_largest_resolution():
    assert reference_grid(template_scales(16, 16)) == (64, 64)
    assert reference_grid(template_scales(21, 14)) == (78, 52)
    assert reference_grid(((1, 1), (2, 2), (5, 5))) == (5, 5)


def test_other_grids_are_refused_and_the_nearest_named():
    assert nearest_grid(30, 31) == (32, 32) and nearest_grid(20, 62) == (18, 54)
    with pytest.raises(ConfigError, match="32x32 is the nearest"):
        template_scales(33, 33)
