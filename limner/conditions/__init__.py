"""What a picture is asked by: classes, text; and how each becomes a prefix of the sequence."""

from limner.conditions.captions import CaptionCondition
from limner.conditions.classes import ClassCondition
from limner.conditions.text import TextCondition

__all__ = ["CaptionCondition", "ClassCondition", "TextCondition"]
