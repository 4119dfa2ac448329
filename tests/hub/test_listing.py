"""What can be built by name, with computed and published parameter counts."""

import json

import pytest

from limner.hub.listing import agrees, as_json, list_models, list_tokenizers


@pytest.mark.parametrize(
    ("count", "published", "same"),
    [
        (110_888_448, "111M", True),
        (110_488_448, "111M", False),
        (1_410_972_672, "1.4B", True),
        (1_460_000_000, "1.4B", False),
        (1_410_972_672, "1B", True),
        (72, 72, True),
        (72, 73, False),
        (950, "1K", True),
    ],
)
def test_counts_are_compared_to_the_published_digits(count, published, same):
    assert agrees(count, published) is same


def test_a_malformed_count_is_the_authors_mistake():
    with pytest.raises(ValueError, match="111M"):
        agrees(1, "about 3 million")


def test_published_networks_have_their_published_size():
    rows = {row.name: row for row in list_models() + list_tokenizers()}
    assert rows["llamagen-b"].parameters == 110_888_448
    assert rows["llamagen-b"].matches and rows["llamagen-3b"].matches
    assert rows["llamagen-vq-16"].published == "72M" and rows["llamagen-vq-16"].matches


def test_rows_are_plain_values():
    rows = json.loads(json.dumps(as_json(list_tokenizers())))
    assert {"name", "family", "parameters", "published", "matches"} == set(rows[0])
