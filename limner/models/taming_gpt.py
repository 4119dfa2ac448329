"""The GPT of VQGAN: a plain causal transformer over the codes of a picture.

Esser et al., "Taming transformers for high-resolution image synthesis", CVPR 2021
(arXiv:2012.09841); facts from taming/modules/transformer/mingpt.py and
taming/models/cond_transformer.py of CompVis/taming-transformers.

What a picture is asked by are tokens too: a class, the codes of a depth map, or a constant start
token. They stand before the picture's codes and share the codes' table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from limner.core.errors import ConfigError, LimnerError, check, unknown
from limner.core.generator import Generator, Packed
from limner.core.head import LossBreakdown
from limner.core.layout import Layout
from limner.core.memory import Memory, NoMemory
from limner.core.noise import Noise
from limner.core.order import Order, Step
from limner.core.registry import MODELS
from limner.core.request import Request
from limner.core.row import Condition, Options, Row
from limner.core.slots import Slots, batch, concatenate, up_to
from limner.core.tokens import Tokens
from limner.heads.categorical import CategoricalHead
from limner.layers.key_value_memory import KeyValueMemory
from limner.layers.vision_transformer import VisionBlock
from limner.orders.curves import CURVES, along

_EPS = 1e-5


@dataclass(frozen=True)
class TamingGPTConfig:
    """Configuration of the GPT.

    Args:
        width: of the sequence.
        depth: number of blocks.
        heads: of each attention.
        codebook_size: V, codes and tokens of the condition together.
        places: longest sequence, condition included.
        prefix: T, tokens of the condition.
        open_prefix: how many of the first tokens see each other whole.
        classes: number of classes, where the condition is a class; 0: a start token, or codes.
        curve: along which codes are drawn; see `limner.orders.curves.CURVES`.
        dropout: on embeddings, attention and outputs, in training.
        keep: share of the codes that are read as they are in training; others are replaced by
            random ones.
    """

    width: int = 1024
    depth: int = 24
    heads: int = 16
    codebook_size: int = 1024
    places: int = 512
    prefix: int = 1
    open_prefix: int = 0
    classes: int = 0
    curve: str = "raster"
    dropout: float = 0.0
    keep: float = 1.0

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "codebook_size", "places", "prefix"):
            check(getattr(self, name) > 0, name, getattr(self, name), "1 or more")
        check(self.width % self.heads == 0, "heads", self.heads, f"a divisor of {self.width}")
        fits = 0 <= self.open_prefix <= self.prefix
        check(fits, "open_prefix", self.open_prefix, f"from 0 to the prefix, {self.prefix}")
        fits = 0 <= self.classes <= self.codebook_size
        check(fits, "classes", self.classes, f"from 0 to {self.codebook_size}")
        if self.curve not in CURVES:
            raise unknown("curve", self.curve, CURVES)
        check(0 <= self.dropout < 1, "dropout", self.dropout, "at least 0 and below 1")
        check(0 < self.keep <= 1, "keep", self.keep, "above 0 and at most 1")


class TokenPrefix:
    """A condition that is tokens: {"prefix": int64 [B, T]}.

    Args:
        length: T.
        classes: number of classes; 0: pictures are not asked by class.
    """

    by: tuple[str, ...] = ("class",)

    def __init__(self, length: int, classes: int) -> None:
        self.length = length
        self.classes = classes

    def ask(self, request: Request) -> Condition:
        """Return the classes as tokens, or the start token 0 where there are none.

        Raises:
            ConfigError: prompts are given, a class is given to a model without, or does not
                exist, or the condition is longer than one token.
        """
        if request.prompts is not None:
            raise ConfigError("prompts are not accepted: this model is asked by tokens")
        check(self.length == 1, "prefix", self.length, "1: longer conditions are given as codes")
        if request.labels is None:
            return {"prefix": torch.zeros(request.count, 1, dtype=torch.int64)}
        if not self.classes:
            raise ConfigError("classes are not accepted: this model has none")
        for label in request.labels:
            check(0 <= label < self.classes, "class", label, f"from 0 to {self.classes - 1}")
        return {"prefix": torch.tensor(list(request.labels), dtype=torch.int64).unsqueeze(1)}

    def null(self, condition: Condition) -> Condition:
        """Raise: there is no null condition to guide with."""
        raise LimnerError("guidance is not accepted: taming-gpt was trained without it")


@MODELS.family("taming-gpt", TamingGPTConfig)
class TamingGPT(Generator):
    """The causal transformer; a slot's output speaks for the next code.

    Args:
        config: see `TamingGPTConfig`.
    """

    config: TamingGPTConfig
    head: CategoricalHead

    def __init__(self, config: TamingGPTConfig) -> None:
        super().__init__()
        self.config = config
        self.condition = TokenPrefix(config.prefix, config.classes)
        self.tokens = nn.Embedding(config.codebook_size, config.width)
        self.places = nn.Parameter(torch.zeros(config.places, config.width))
        self.dropout = nn.Dropout(config.dropout)
        drop = config.dropout
        self.blocks = nn.ModuleList(
            VisionBlock(
                config.width,
                config.heads,
                layer,
                attention_dropout=drop,
                dropout=drop,
                eps=_EPS,
            )
            for layer in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, _EPS)
        self.output = nn.Linear(config.width, config.codebook_size, bias=False)
        self.head = CategoricalHead()
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """One token a step, along the configured curve."""
        return along(self.config.curve, tokens.layout)

    def slots(self, row: Row, step: Step) -> Slots:
        """The prefix at first, then the token just drawn; each speaks for the next one."""
        if step.index == 0:
            return self._prefix_slots(step.first)
        return _token_slot(self._path(row.tokens.layout)[step.index - 1], step.index, step.first)

    def teacher_slots(self, layout: Layout) -> Slots:
        """Return the slots of all steps at once, as training reads them."""
        path = self._path(layout)
        steps = [_token_slot(path[k - 1], k, path[k]) for k in range(1, len(path))]
        return concatenate([self._prefix_slots(path[0]), *steps])

    def inputs(self, packed: Packed) -> Tensor:
        """The embeddings of condition and codes, and of their places in the sequence."""
        prefix = packed.condition["prefix"].to(packed.device)
        length = self.config.prefix
        given = prefix.gather(1, (packed.place + length).clamp(0, length - 1))
        ids = torch.where(packed.place < 0, given, packed.ids()[..., 0])
        rank = along(self.config.curve, packed.tokens.layout).step.to(packed.device)
        at = torch.where(packed.place < 0, packed.place, rank[packed.place.clamp(min=0)])
        embedded: Tensor = self.tokens(ids) + self.places[at + length]
        return embedded

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return logits, float [R, M, V]."""
        x = self.dropout(self.inputs(packed))
        reading = memory.read(packed.rows, packed.slots, up_to)
        for block in self.blocks:
            x = block(x, reading)
        reading.close()
        logits: Tensor = self.output(self.norm(packed.speaking(x)))
        return logits

    def teach(self, tokens: Tokens, condition: Condition) -> Tensor:
        """Return the logits of every code given the earlier ones, [B, N, V] in drawing order."""
        check_length(self.config, tokens.layout)
        slots = batch([self.teacher_slots(tokens.layout)] * len(tokens))
        logits: Tensor = self(Packed(tokens, slots, [condition]), NoMemory())
        return logits

    def loss(
        self, tokens: Tokens, condition: Condition, rng: torch.Generator | None = None
    ) -> LossBreakdown:
        """Return the mean cross-entropy of every code given the earlier ones, some replaced."""
        assert tokens.ids is not None
        read = tokens
        if rng is not None and self.config.keep < 1:
            shape = tokens.ids.shape
            kept = torch.rand(shape, generator=rng) < self.config.keep
            other = torch.randint(self.config.codebook_size, shape, generator=rng)
            read = corrupted(tokens, kept, other)
        path = torch.tensor(self._path(tokens.layout), device=tokens.ids.device)
        return self.head.loss(self.teach(read, condition), tokens.ids[:, path], rng, None)

    def memory(self, rows: Sequence[Row]) -> Memory:
        """Return key/value buffers for the prefix and all codes but the last."""
        config, weight = self.config, self.output.weight
        for row in rows:
            check_length(config, row.tokens.layout)
        longest = max(len(row.tokens.layout) for row in rows)
        return KeyValueMemory(
            config.depth,
            config.heads,
            config.width // config.heads,
            config.prefix + longest,
            weight.device,
            weight.dtype,
        )

    def _path(self, layout: Layout) -> tuple[int, ...]:
        return _path(self.config.curve, layout)

    def _prefix_slots(self, first: int) -> Slots:
        return _prefix_slots(self.config.prefix, self.config.open_prefix, first)


def corrupted(tokens: Tokens, kept: Tensor, other: Tensor) -> Tokens:
    """Return tokens whose ids [B, N, 1] are replaced by others where `kept` is False."""
    assert tokens.ids is not None
    device = tokens.ids.device
    return replace(tokens, ids=torch.where(kept.to(device), tokens.ids, other.to(device)))


def check_length(config: TamingGPTConfig, layout: Layout) -> None:
    """Raise ConfigError where a picture has more codes than there are places."""
    longest = config.places - config.prefix + 1
    check(len(layout) <= longest, "size", f"{len(layout)} tokens", f"{longest} tokens at most")


@lru_cache(maxsize=64)
def _path(curve: str, layout: Layout) -> tuple[int, ...]:
    return tuple(step.first for step in along(curve, layout).steps)


@lru_cache(maxsize=4096)
def _token_slot(place: int, step: int, following: int) -> Slots:
    """The slot of a code just drawn, known at `step`, which speaks for the following one."""
    return Slots.of(torch.tensor([place]), torch.tensor([step]), torch.tensor([[0, 0, following]]))


@lru_cache(maxsize=64)
def _prefix_slots(length: int, open_: int, first: int) -> Slots:
    """The prefix, causal but for its open part; its last slot speaks for the first code."""
    place = torch.arange(-length, 0)
    since = torch.where(torch.arange(length) < open_, open_ - length, place + 1)
    return Slots.of(place, since, torch.tensor([[length - 1, 0, first]]))


def _register_variants() -> None:
    depth_to_picture = TamingGPTConfig(prefix=256)
    scene = TamingGPTConfig(1408, 40, 16, codebook_size=8192, places=348, prefix=92)
    classes = TamingGPTConfig(1536, 48, 24, codebook_size=16384, places=256, classes=1000)
    published: dict[str, tuple[TamingGPTConfig, str | int]] = {
        "drin": (depth_to_picture, 304_932_864),
        "faces": (replace(depth_to_picture, prefix=1), 304_932_864),
        "coco-scene": (scene, 975_876_352),
        "openimages-scene": (replace(scene, width=1536, depth=36, dropout=0.1), 1_045_638_144),
        "imagenet": (classes, "1.4B"),
    }
    for name, (config, count) in published.items():
        MODELS.variant(f"taming-gpt-{name}", "taming-gpt", config, count)


_register_variants()
