"""Pictures captioned by their classes are otherwise the same."""

from __future__ import annotations

from limner.data import open_source
from limner.data.class_captions import ClassCaptions
from limner.training.prepare import open_data
from limner.training.recipe import DataRecipe

CLASSES = ("Food & Drink", "Activities")


def test_captions_are_the_names_of_the_classes() -> None:
    plain = open_source("twemoji", CLASSES)
    named = ClassCaptions(plain)
    assert named.fingerprint() == plain.fingerprint() and named.keys == plain.keys
    for part, same in zip(named.split(0.1), plain.split(0.1)):
        assert part.keys == same.keys and part.labels.tolist() == same.labels.tolist()
        captions = [part.caption(index) for index in range(len(part))]
        assert captions == [CLASSES[label] for label in part.labels.tolist()]
        assert captions != [same.caption(index) for index in range(len(same))]


def test_a_recipe_says_which_captions() -> None:
    own = open_data(DataRecipe("twemoji", 16, classes=CLASSES))
    named = open_data(DataRecipe("twemoji", 16, classes=CLASSES, captions="class"))
    assert (named.caption(0), own.caption(0)) == (CLASSES[int(own.labels[0])], own.caption(0))
    assert own.caption(0) not in CLASSES
