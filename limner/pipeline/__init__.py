"""Pipeline: tokenizer, generator and conditions as users hold them."""

from limner.pipeline.editing import Editing
from limner.pipeline.index import find, read_index
from limner.pipeline.masks import box_mask, check_mask, tokens_under
from limner.pipeline.pipeline import Pipeline, Preview, Result
from limner.pipeline.settings import Settings

__all__ = [
    "Editing",
    "Pipeline",
    "Preview",
    "Result",
    "Settings",
    "box_mask",
    "check_mask",
    "find",
    "read_index",
    "tokens_under",
]
