"""ARBooth: a next-scale generator that was shown a few pictures of one subject.

Chung et al., "Fine-Tuning Visual Autoregressive Models for Subject-Driven Generation",
arXiv:2504.02612; facts from infinity/models/infinity_final.py, booth_train_final.py and
booth_trainer_final.py of jiwoogit/ARBooth.

The generator is the one that was tuned, whatever it is, with a condition that knows the subject
(`limner.conditions.subjects`). Tuned are the subject's vectors and some layers of every block; the
rest stays as it was. `limner.tuning` does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limner.conditions import TextFeatures
from limner.conditions.subjects import SubjectBeside, SubjectCondition, SubjectInText
from limner.core.canvas import Canvas
from limner.core.config import from_dict, to_dict
from limner.core.errors import ConfigError, check
from limner.core.generator import Generator, Packed
from limner.core.head import Head, LossBreakdown
from limner.core.layout import Layout
from limner.core.memory import Memory, NoMemory
from limner.core.noise import Noise
from limner.core.order import Order, Step
from limner.core.registry import MODELS
from limner.core.row import Condition, Options, Row
from limner.core.slots import Slots
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens
from limner.models.infinity import Infinity, InfinityConfig

Layers = Literal["cross-attention", "mlp", "attention", "all"]

PATTERNS: dict[str, str] = {
    "cross-attention": "base.blocks.*.cross.*",
    "mlp": "base.blocks.*.mlp.*",
    "attention": "base.blocks.*.attention.*",
    "all": "base.blocks.*",
}
"""Which weights of a generator's blocks a name of layers stands for."""

FULL_SHARE = 8 / 13
"""Of the scales, those whose tokens count fully: 8 of Infinity's 13 at 1024 px."""


@dataclass(frozen=True)
class ARBoothConfig:
    """Configuration of a tuned generator.

    Args:
        family: of the generator that was tuned.
        base: its configuration.
        word: that stands for the subject in prompts.
        rows: number of the subject's vectors.
        width: of them.
        kind: class of the subject, for generators that are asked by class.
    """

    family: str = "infinity"
    base: dict[str, Any] = field(default_factory=dict)
    word: str = "<placeholder>"
    rows: int = 4
    width: int = 2048
    kind: int | None = None

    def __post_init__(self) -> None:
        check(self.family != "arbooth", "family", self.family, "one that is not tuned yet")
        check(bool(self.word.strip()), "word", self.word, "a word")
        for name in ("rows", "width"):
            check(getattr(self, name) > 0, name, getattr(self, name), "above 0")


@MODELS.family("arbooth", ARBoothConfig)
class ARBooth(Generator):
    """A generator whose condition knows a subject; all else is the generator's own.

    Args:
        config: see `ARBoothConfig`.
    """

    config: ARBoothConfig

    def __init__(self, config: ARBoothConfig) -> None:
        super().__init__()
        self.config = config
        family = MODELS.get_family(config.family)
        self.base: Generator = family.build(from_dict(family.config, config.base, "base"))
        self.base.condition = _knowing(self.base.condition, config)
        self.guidance = self.base.guidance
        self.grows = self.base.grows

    @classmethod
    def around(
        cls, generator: Generator, word: str, size: tuple[int, ...], kind: int | None
    ) -> ARBooth:
        """Return a copy of a generator that knows a subject, and nothing of it yet.

        Args:
            generator: as it was trained.
            word: that stands for the subject.
            size: rows and width of its vectors.
            kind: its class, for generators that are asked by class.
        """
        family, (rows, width) = MODELS.family_of(generator).name, size
        config = ARBoothConfig(family, to_dict(generator.config), word, rows, width, kind)
        tuned = cls(config)
        copied = {
            f"base.{name.replace('condition.', 'condition.inner.', 1)}": tensor
            for name, tensor in generator.state_dict().items()
        }
        words = {"base.condition.words": tuned.condition.words}
        tuned.load_state_dict(copied | words)
        tuned.canvas = generator.canvas
        return tuned

    @property
    def condition(self) -> SubjectCondition:  # type: ignore[override]
        """What is made of a request."""
        condition = self.base.condition
        assert isinstance(condition, SubjectCondition)
        return condition

    @property
    def head(self) -> Head:  # type: ignore[override]
        """How one step's content is drawn."""
        return self.base.head

    @property
    def canvas(self) -> Canvas:
        """What step inputs are computed from."""
        return self.base.canvas

    @canvas.setter
    def canvas(self, canvas: Canvas) -> None:
        self.base.canvas = canvas

    @property
    def blocks(self) -> nn.ModuleList:
        """The generator's blocks."""
        blocks = self.base.blocks
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    def layout(
        self,
        tokenizer: Tokenizer,
        height: int,
        width: int,
        steps: int | None = None,
        frames: int | None = None,
    ) -> Layout:
        """Return where the tokens stand of a picture that is to be drawn."""
        return self.base.layout(tokenizer, height, width, steps, frames)

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """Return the order in which one row's unknown tokens are drawn."""
        return self.base.order(tokens, options, noise)

    def null(self, condition: Condition) -> Condition:
        """Return the condition of a null row, which knows no subject."""
        return self.base.null(condition)

    def begin(
        self, tokens: Tokens, condition: Condition, options: Options, noise: Noise
    ) -> list[Row]:
        """Return the rows that draw one picture."""
        return self.base.begin(tokens, condition, options, noise)

    def slots(self, row: Row, step: Step) -> Slots:
        """Return what the network reads for this row at this step."""
        return self.base.slots(row, step)

    def inputs(self, packed: Packed) -> Tensor:
        """Return the network's inputs, float [R, L, D]."""
        return self.base.inputs(packed)

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return the outputs that speak, float [R, M, ...]."""
        outputs: Tensor = self.base(packed, memory)
        return outputs

    def loss(
        self,
        tokens: Tokens,
        condition: Condition,
        rng: torch.Generator | None = None,
        *weight: Tensor,
    ) -> LossBreakdown:
        """Return the generator's own loss."""
        return self.base.loss(tokens, condition, rng, *weight)

    def memory(self, rows: Sequence[Row]) -> Memory:
        """Return an empty memory with room for these rows."""
        return self.base.memory(rows)

    def tuned(self, layers: Sequence[Layers]) -> dict[str, nn.Parameter]:
        """Return what is tuned, by name: the subject's vectors, and these layers of every block.

        Raises:
            ConfigError: the generator has none of these layers.
        """
        patterns = [PATTERNS[name] for name in layers]
        named = dict(self.named_parameters())
        for layer, pattern in zip(layers, patterns, strict=True):
            if not any(fnmatchcase(name, pattern) for name in named):
                raise ConfigError(
                    f"layers={list(layers)} is not accepted: {type(self.base).__name__} has no "
                    f"{layer}"
                )
        patterns.append("base.condition.words")
        chosen = [name for name in named if any(fnmatchcase(name, each) for each in patterns)]
        return {name: named[name] for name in chosen}


class EachScaleAlone(Infinity):
    """Infinity as ARBooth's released code draws with its teacher: without a cache.

    No scale sees another, and each has the rotary positions of the first tokens of all.
    """

    def memory(self, rows: Sequence[Row]) -> Memory:
        """Return a memory that keeps nothing."""
        return NoMemory()

    def rotation(self, place: Tensor, layout: Layout, dtype: torch.dtype) -> Tensor:
        """Return the rotations of as many places, counted from 0."""
        return super().rotation(place - place[:, :1], layout, dtype)


def scale_weights(layout: Layout, full: int | None = None, later: float = 0.5) -> Tensor:
    """Return how much each token counts in the subject's loss, float [N].

    Args:
        full: scales that count fully; None: as many of all as published.
        later: weight of the others' tokens.
    """
    full = round(FULL_SHARE * len(layout.segments)) if full is None else full
    return torch.where(layout.segment_of() < full, 1.0, later)


def counted(loss: LossBreakdown, weight: Tensor) -> LossBreakdown:
    """Return a mean that tokens were weighted in by weight [N], with less of it for less weight."""
    return LossBreakdown(loss.total * weight.mean(), loss.parts)


def _knowing(inner: Any, config: ARBoothConfig) -> SubjectCondition:
    """Return a generator's condition with a subject.

    Raises:
        ConfigError: it is none that could know one.
    """
    size = config.word, config.rows, config.width
    if not isinstance(inner, nn.Module):
        raise ConfigError(f"family={config.family!r} is not accepted: its condition learns nothing")
    if isinstance(inner, TextFeatures):
        return SubjectInText(inner, *size)
    return SubjectBeside(inner, *size, config.kind)


def _register_variant() -> None:
    infinity = MODELS.get_variant("infinity-2b").config
    base = to_dict(infinity) | {"level_blocks": list(range(0, infinity.depth, 4))}
    config = ARBoothConfig(base=to_dict(from_dict(InfinityConfig, base)))
    MODELS.variant("arbooth-2b", "arbooth", config, 2_204_564_032 + 4 * 2048)


_register_variant()
