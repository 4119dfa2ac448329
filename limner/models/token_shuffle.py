"""Token-Shuffle: a Llama decoder that reads and draws a window of codes as one token.

Ma et al., "Token-Shuffle: Towards High-Resolution Image Generation with Autoregressive Models",
arXiv:2504.17789. No code or weights are published: windows, ids and positions follow the paper,
what it leaves open is a choice (docs/systems/token-shuffle.md).

Codes are further ids of the decoder's vocabulary. A prompt is followed by the picture's windows in
raster order; the state at a window is unfolded into the codes of the next one, which are drawn
independently of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from limner.conditions.written import BYTES, WrittenCondition
from limner.core.errors import check
from limner.core.generator import Generator, Packed
from limner.core.head import LossBreakdown
from limner.core.layout import Layout
from limner.core.memory import Memory, NoMemory
from limner.core.noise import Noise
from limner.core.order import Order, Partition, Step
from limner.core.registry import MODELS
from limner.core.row import Condition, Options, Row
from limner.core.slots import ABSENT, Slots, batch, concatenate, up_to
from limner.core.tokens import Tokens
from limner.heads.categorical import CategoricalHead
from limner.layers.codes import projected_codes
from limner.layers.decoder_block import DecoderBlock
from limner.layers.key_value_memory import KeyValueMemory
from limner.layers.linear import Linear, linear
from limner.layers.norms import RMSNorm
from limner.layers.rotary import line_rotation
from limner.layers.token_shuffle import ResidualMLP, TokenShuffle, TokenUnshuffle
from limner.orders.blocks import cells


@dataclass(frozen=True)
class TokenShuffleConfig:
    """Configuration of Token-Shuffle.

    Args:
        width: of the sequence.
        depth: number of blocks.
        heads: of queries.
        key_heads: of keys and values; divides `heads`.
        hidden: of the blocks' MLPs.
        codebook_size: V, number of codes.
        window: side of a window; None: every code is a token of the decoder.
        window_depth: residual MLPs on each side of the decoder.
        window_hidden: of those; None: `width`.
        text_vocabulary: number of text ids.
        begin: text id that every prompt begins with.
        text_length: places of the prefix, which holds begin, the prompt and the picture's start.
        rotary_base: of the rotary positions on the line of prompt and windows.
        norm_eps: of the RMS norms.
        tied: the embeddings are the output weights.
        log_normaliser: weight in the loss of the mean squared logarithm of softmax normalisers.
        condition_dropout: share of prompts that are emptied in training.
    """

    width: int = 3072
    depth: int = 20
    heads: int = 24
    key_heads: int = 24
    hidden: int = 8192
    codebook_size: int = 16384
    window: int | None = 2
    window_depth: int = 2
    window_hidden: int | None = None
    text_vocabulary: int = BYTES + 1
    begin: int = BYTES
    text_length: int = 128
    rotary_base: float = 10000.0
    norm_eps: float = 1e-5
    tied: bool = False
    log_normaliser: float = 0.0
    condition_dropout: float = 0.1

    def __post_init__(self) -> None:
        positive = ("width", "depth", "heads", "key_heads", "hidden", "codebook_size")
        for name in (*positive, "window_depth", "text_vocabulary", "rotary_base"):
            check(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        fits = self.width % (2 * self.heads) == 0
        check(fits, "width", self.width, f"a multiple of 2 x heads ({2 * self.heads})")
        fits = self.heads % self.key_heads == 0
        check(fits, "key_heads", self.key_heads, f"a divisor of heads ({self.heads})")
        fits = self.side > 0 and self.width % self.side**2 == 0
        accepted = f"a side whose square divides width ({self.width})"
        check(fits, "window", self.window, accepted)
        fits = 0 <= self.begin < self.text_vocabulary
        check(fits, "begin", self.begin, f"from 0 to {self.text_vocabulary - 1}")
        check(self.text_length > 1, "text_length", self.text_length, "2 or more")
        check(self.log_normaliser >= 0, "log_normaliser", self.log_normaliser, "0 or more")
        share = self.condition_dropout
        check(0 <= share <= 1, "condition_dropout", share, "from 0 to 1")

    @property
    def side(self) -> int:
        """Codes along each side of what one token of the decoder holds."""
        return 1 if self.window is None else self.window

    @property
    def start(self) -> int:
        """The id that a picture starts with; that of its end is the next and last one."""
        return self.text_vocabulary + self.codebook_size


@MODELS.family("token-shuffle", TokenShuffleConfig)
class TokenShuffleDecoder(Generator):
    """The decoder between shuffle and unshuffle.

    Args:
        config: see `TokenShuffleConfig`.
    """

    config: TokenShuffleConfig
    condition: WrittenCondition
    head: CategoricalHead
    guidance = "half-ramp"

    def __init__(self, config: TokenShuffleConfig) -> None:
        super().__init__()
        self.config = config
        text = (config.text_length, config.text_vocabulary, config.begin, config.start)
        self.condition = WrittenCondition(*text)
        self.tokens = nn.Embedding(config.start + 2, config.width)
        size = (config.width, config.side**2, config.window_depth)
        rest = (config.window_hidden or config.width, config.norm_eps)
        self.shuffle = None if config.window is None else TokenShuffle(*size, *rest)
        self.blocks = nn.ModuleList(
            DecoderBlock(
                config.width, config.heads, layer, config.hidden, config.norm_eps, config.key_heads
            )
            for layer in range(config.depth)
        )
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.unshuffle = None if config.window is None else TokenUnshuffle(*size, *rest)
        self.output = Linear(config.width, config.start + 2, bias=False)
        self.head = CategoricalHead()
        self._initialise()
        if config.tied:
            self.output.weight = self.tokens.weight

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, ResidualMLP):  # at first, windows are merged and split alone
                nn.init.zeros_(module.mlp.out.weight)

    @property
    def codes(self) -> slice:
        """The ids of the vocabulary that are codes."""
        return slice(self.config.text_vocabulary, self.config.start)

    @torch.no_grad()
    def start_from_codes(self, vectors: Tensor, rng: torch.Generator) -> None:
        """Begin with embeddings and outputs that are alike for codes that look alike.

        Not part of the paper; see `projected_codes`.
        """
        projected = projected_codes(vectors, self.config.width, rng)
        self.tokens.weight[self.codes] = 0.3 * projected
        self.output.weight[self.codes] = 0.05 * projected

    def windows(self, layout: Layout) -> Partition:
        """Return the windows of a layout, one a step.

        Raises:
            ConfigError: the layout is not one grid that windows fit into.
        """
        return cells(layout, (1, self.config.side, self.config.side))

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """One window a step, in raster order."""
        return self.windows(tokens.layout)

    def slots(self, row: Row, step: Step) -> Slots:
        """The prompt at first, then the window just drawn; each speaks for the next window."""
        windows = self.windows(row.tokens.layout)
        if step.index > 0:
            return _window_slot(windows, step.index - 1)
        return _prefix_slots(windows, tuple(self.condition.present(row.condition)[0].tolist()))

    def teacher_slots(self, layout: Layout, condition: Condition) -> Slots:
        """Return the slots of every step at once, fields [B, L], as training reads them."""
        windows = self.windows(layout)
        present = self.condition.present(condition).tolist()
        return batch([_teacher_slots(windows, tuple(row)) for row in present])

    def merged(self, tokens: Tokens, window: Tensor) -> Tensor:
        """Return windows, int64 [B, L], as tokens of the decoder, float [B, L, width]."""
        assert tokens.ids is not None
        members = _members(self.windows(tokens.layout)).to(window.device)[window]
        ids = tokens.ids[..., 0].gather(1, members.flatten(1)).view_as(members)
        embedded: Tensor = self.tokens(ids + self.config.text_vocabulary)
        return embedded.squeeze(2) if self.shuffle is None else self.shuffle(embedded)

    def inputs(self, packed: Packed) -> Tensor:
        """The prompt's embeddings on prefix slots, merged windows elsewhere."""
        place, ids = packed.place, packed.condition["ids"].to(packed.device)
        entry = (place + self.condition.length).clamp(max=self.condition.length - 1)
        given: Tensor = self.tokens(ids.gather(1, entry))
        if not bool((packed.slots.place >= 0).any()):
            return given
        merged = self.merged(packed.tokens, self._window(packed).clamp(min=0))
        return torch.where(place.unsqueeze(-1) < 0, given, merged)

    def _window(self, packed: Packed) -> Tensor:
        """Return the window at every slot, int64 [R, L]; prefix slots keep their places."""
        table = self.windows(packed.tokens.layout).step.to(packed.device)
        return torch.where(packed.place < 0, packed.place, table[packed.place.clamp(min=0)])

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return logits of the codes that are spoken for, float [R, M, V]."""
        return linear(self.said(packed, memory), self.output.weight[self.codes])

    def said(self, packed: Packed, memory: Memory) -> Tensor:
        """Return what logits are a linear map of, float [R, M, width]."""
        states = self.states(packed, memory).unsqueeze(2)
        said = states if self.unshuffle is None else self.unshuffle(states.squeeze(2))
        slot, within = packed.slots.speaks[..., :2].to(packed.device).unbind(-1)
        index = (slot * said.shape[2] + within).unsqueeze(-1)
        return said.flatten(1, 2).gather(1, index.expand(-1, -1, said.shape[-1]))

    def states(self, packed: Packed, memory: Memory) -> Tensor:
        """Return the decoder's states at all slots, float [R, L, width]."""
        x, config = self.inputs(packed), self.config
        wide = torch.promote_types(x.dtype, torch.float32)
        first = self.condition.present(packed.condition).sum(1, keepdim=True).to(packed.device)
        position = first + self._window(packed)
        rotation = line_rotation(position, config.width // config.heads, config.rotary_base, wide)
        reading = memory.read(packed.rows, packed.slots, up_to)
        for block in self.blocks:
            x = block(x, reading, rotation)
        reading.close()
        states: Tensor = self.norm(x)
        return states

    def loss(
        self, tokens: Tokens, condition: Condition, rng: torch.Generator | None = None
    ) -> LossBreakdown:
        """Return the mean cross-entropy of every code given the earlier windows.

        Where the normaliser is held down, its mean squared logarithm is a further part.
        """
        if rng is not None:
            condition = self.condition.drop(condition, self.config.condition_dropout, rng)
        packed = Packed(tokens, self.teacher_slots(tokens.layout, condition), [condition])
        said, weight = self.said(packed, NoMemory()), self.output.weight[self.codes]
        assert tokens.ids is not None
        targets = tokens.ids[:, _members(self.windows(tokens.layout)).flatten()]
        if not self.config.log_normaliser:
            return self.head.projected_loss(said, weight, targets)
        logits = linear(said, weight)
        taught = self.head.loss(logits, targets)
        size = logits.float().logsumexp(-1).square().mean()
        total = taught.total + self.config.log_normaliser * size
        return LossBreakdown(total, {**taught.parts, "log_normaliser": size.detach()})

    def memory(self, rows: Sequence[Row]) -> Memory:
        """Return key/value buffers for the prefix and all windows but the last."""
        config, weight = self.config, self.output.weight
        longest = max(len(self.windows(row.tokens.layout)) for row in rows)
        return KeyValueMemory(
            config.depth,
            config.key_heads,
            config.width // config.heads,
            config.text_length + longest,
            weight.device,
            weight.dtype,
        )


@lru_cache(maxsize=64)
def _members(windows: Partition) -> Tensor:
    """Return the tokens of every window row by row, int64 [M, side * side]."""
    return torch.stack([step.draw for step in windows.steps])


@lru_cache(maxsize=8192)
def _window_slot(windows: Partition, index: int) -> Slots:
    """The slot of a window just drawn, which speaks for the codes of the next."""
    members = _members(windows)
    place = members[index, :1]
    return Slots.of(place, torch.tensor([index + 1]), _speaks(0, members[index + 1]))


@lru_cache(maxsize=256)
def _prefix_slots(windows: Partition, present: tuple[bool, ...]) -> Slots:
    """The prefix, causal and without its padding; its last slot speaks for window 0."""
    length = len(present)
    place = torch.arange(-length, 0)
    since = torch.where(torch.tensor(present), place + 1, ABSENT)
    return Slots.of(place, since, _speaks(length - 1, _members(windows)[0]))


def _speaks(slot: int, members: Tensor) -> Tensor:
    """Return that one slot speaks for all codes of a window, one head each."""
    within = torch.arange(len(members))
    return torch.stack([torch.full_like(within, slot), within, members], dim=1)


@lru_cache(maxsize=256)
def _teacher_slots(windows: Partition, present: tuple[bool, ...]) -> Slots:
    drawn = (_window_slot(windows, index) for index in range(len(windows) - 1))
    return concatenate([_prefix_slots(windows, present), *drawn])


def _register_variants() -> None:
    # heads, MLPs and vocabulary are not published; with Llama 3's they come to the stated 2.7B
    plain = TokenShuffleConfig(
        window=None, text_vocabulary=128_256, begin=128_000, text_length=512, tied=True
    )
    merging = replace(plain, window=2)
    stages = {
        "512": plain,
        "1024": merging,
        "2048": replace(merging, log_normaliser=1e-5),
    }
    for size, config in stages.items():
        published = "2.7B" if config.window is None else None
        MODELS.variant(f"token-shuffle-2.7b-{size}", "token-shuffle", config, published)


_register_variants()
