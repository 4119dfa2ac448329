"""The one generation loop, and what calls it."""

from limner.decoding.loop import advance, generate, steps

__all__ = ["advance", "generate", "steps"]
