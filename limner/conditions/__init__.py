"""What a picture is asked by: classes, styles, text; and how it becomes a prefix."""

from limner.conditions.captions import CaptionCondition
from limner.conditions.classes import ClassCondition
from limner.conditions.descriptions import DescriptionCondition, DescriptionVector
from limner.conditions.text import TextCondition, TextFeatures

__all__ = [
    "CaptionCondition",
    "ClassCondition",
    "DescriptionCondition",
    "DescriptionVector",
    "TextCondition",
    "TextFeatures",
]
