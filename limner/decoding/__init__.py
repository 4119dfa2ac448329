"""The one generation loop, and what calls it."""

from limner.decoding.loop import advance, generate

__all__ = ["advance", "generate"]
