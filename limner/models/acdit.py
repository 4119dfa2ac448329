"""ACDiT: block after block, each denoised whole under the clean blocks before it.

Hu et al., "ACDiT: Interpolating Autoregressive Conditional Modeling and Diffusion Transformer",
arXiv:2412.07720; facts from models.py and rope.py of thunlp/ACDiT.

One network reads clean tokens, unmodulated, and noisy ones, modulated by time and class. A noisy
block sees itself and the clean blocks before it (`skip_causal`), so training reads all blocks in
one pass and sampling remembers the clean ones. One block of all tokens is a plain DiT; blocks of
one token are autoregression with a diffusion transformer as head. Blocks of a clip are runs of its
tokens, frame after frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from limner.conditions import ClassCondition
from limner.core.errors import check
from limner.core.generator import Generator, Packed
from limner.core.head import LossBreakdown
from limner.core.layout import Layout
from limner.core.memory import Memory, NoMemory
from limner.core.noise import Noise
from limner.core.order import Order, Partition, Step
from limner.core.registry import MODELS
from limner.core.row import Condition, Options, Row
from limner.core.slots import Slots, batch, skip_causal
from limner.core.tokens import Tokens
from limner.heads.denoising import EVALUATION_SEED, DenoisingConfig, DenoisingHead
from limner.layers.adaln import AdaLNOutput
from limner.layers.axial_mixing import HEAD, mix_positions, mixing_table
from limner.layers.grouped_adaln import GroupedBlock, Groups, group_levels
from limner.layers.key_value_memory import KeyValueMemory
from limner.layers.norms import RMSNorm
from limner.layers.timestep import TimestepEmbedding
from limner.layers.vision_transformer import StackConfig
from limner.orders import runs, without_given
from limner.orders.blocks import cells
from limner.orders.copies import block_slots

EPS = 1e-6


@dataclass(frozen=True)
class ACDiTConfig:
    """Configuration of ACDiT.

    Args:
        stack: blocks of the network; heads are 64 wide.
        head: how a block is denoised.
        token_width: D of a token.
        block: B, tokens that are drawn together.
        square: blocks are squares of a picture; otherwise runs of tokens, as of clips.
        split: shares of the axes in a head's channels: rows and columns, or frames, rows and
            columns; none: 1, 1 for pictures and 2, 3, 3 for clips.
        classes: number of classes, the null class not counted.
        condition_dropout: share of classes replaced by the null class in training.
    """

    stack: StackConfig = field(default_factory=StackConfig)
    head: DenoisingConfig = field(default_factory=DenoisingConfig)
    token_width: int = 4
    block: int = 256
    square: bool = True
    split: tuple[int, ...] = ()
    classes: int = 1000
    condition_dropout: float = 0.1

    def __post_init__(self) -> None:
        heads = self.stack.width / HEAD
        check(self.stack.heads == heads, "stack.heads", self.stack.heads, f"width / {HEAD}")
        for name in ("token_width", "block", "classes"):
            check(getattr(self, name) > 0, name, getattr(self, name), "1 or more")
        fits = not self.square or math.isqrt(self.block) ** 2 == self.block
        check(fits, "block", self.block, "the square of a number, where blocks are squares")
        fits = not self.split or (
            len(self.split) in (2, 3) and min(self.split) > 0 and HEAD // 2 % sum(self.split) == 0
        )
        check(fits, "split", self.split, f"2 or 3 shares whose sum divides {HEAD // 2}")
        share = self.condition_dropout
        check(0 <= share < 1, "condition_dropout", share, "at least 0 and below 1")

    def blocks(self, layout: Layout) -> Partition:
        """Return the order of a layout: block after block.

        Raises:
            ConfigError: a block does not divide it.
        """
        if not self.square:
            return runs(layout, self.block)
        side = math.isqrt(self.block)
        return cells(layout, (1, side, side))

    def shares(self, layout: Layout) -> tuple[int, ...]:
        """Return the shares of the axes of a layout in a head's channels.

        Raises:
            ConfigError: they are given for pictures and this is a clip, or the other way round.
        """
        usual = (1, 1) if layout.extent[0] == 1 else (2, 3, 3)
        fits = len(self.split or usual) == len(usual)
        check(fits, "split", self.split, f"{len(usual)} shares for {layout.extent[0]} frame(s)")
        return self.split or usual


@MODELS.family("acdit", ACDiTConfig)
class ACDiT(Generator):
    """The transformer over clean and noisy blocks, which is its own denoiser.

    Args:
        config: see `ACDiTConfig`.
    """

    config: ACDiTConfig
    condition: ClassCondition
    head: DenoisingHead

    def __init__(self, config: ACDiTConfig) -> None:
        super().__init__()
        self.config = config
        stack = config.stack
        self.condition = ClassCondition(config.classes, stack.width)
        self.time = TimestepEmbedding(stack.width)
        self.into = nn.Linear(config.token_width, stack.width, bias=False)
        self.blocks = nn.ModuleList(
            GroupedBlock(stack.width, stack.heads, layer, stack.ratio, mix_positions, EPS)
            for layer in range(stack.depth)
        )
        self.norm = AdaLNOutput(stack.width, norm=RMSNorm(stack.width, EPS))
        self.output = nn.Linear(stack.width, config.token_width)
        self.head = DenoisingHead(config.token_width, config.head)
        self._initialise()

    def _initialise(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
                if "modulation" in name or module is self.output:
                    nn.init.zeros_(module.weight)
        self.time.initialise()
        nn.init.normal_(self.condition.table.weight, std=0.02)

    def check_layout(self, layout: Layout) -> None:
        """Raise ConfigError where blocks do not divide a layout, or axes have other shares."""
        self.config.shares(layout)
        self.config.blocks(layout)

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """One block a step; blocks at the beginning that are given are not drawn."""
        check(tokens.values is not None, "tokens", "codes", "continuous vectors")
        self.config.shares(tokens.layout)
        return without_given(self.config.blocks(tokens.layout), tokens.known[0])

    def slots(self, row: Row, step: Step) -> Slots:
        """The clean blocks drawn or given since the step before, and a draft of the next one."""
        order = self.config.blocks(row.tokens.layout)
        block = int(order.step[step.first])
        return block_slots(order, (block - 1 if step.index else 0, block), (block, block + 1))

    def inputs(self, packed: Packed) -> Tensor:
        """The contents of clean and noisy places, float [R, L, width]."""
        into: Tensor = self.into(packed.values().to(self.into.weight.dtype))
        return into

    def groups(self, packed: Packed) -> Groups:
        """Return what modulates the slots: time and class, one vector a noisy block."""
        since, noisy = packed.slots.since, packed.slots.copy == 1
        first = since.masked_fill(~noisy, torch.iinfo(torch.int64).max).amin(1, keepdim=True)
        group = (since - first + 1).where(noisy, 0)
        time = self.time(group_levels(group, packed.levels()))
        return Groups(time + self.condition.prefix(packed.condition), group.to(packed.device))

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return the noise in the drafts, float [R, M, D]."""
        layout, weight = packed.tokens.layout, self.output.weight
        table = mixing_table(layout, self.config.shares(layout), packed.device, weight.dtype)
        place = packed.place[:1] if packed.slots.shared else packed.place
        positions = table[place.clamp(min=0)].unsqueeze(1)
        groups = self.groups(packed)
        reading = memory.read(packed.rows, packed.slots, skip_causal)
        x = self.inputs(packed)
        for block in self.blocks:
            x = block(x, reading, groups, positions)
        reading.close()
        guide = packed.speaking(groups.of_slots())
        told: Tensor = self.output(self.norm(packed.speaking(x), guide))
        return told

    def loss(
        self, tokens: Tokens, condition: Condition, rng: torch.Generator | None = None
    ) -> LossBreakdown:
        """Return the squared error of the noise in all blocks, each at a time of its own."""
        if rng is not None:
            condition = self.condition.drop(condition, self.config.condition_dropout, rng)
        rng = rng or torch.Generator().manual_seed(EVALUATION_SEED)
        assert tokens.values is not None
        values, order = tokens.values, self.config.blocks(tokens.layout)
        size = (len(tokens), len(order))
        time = torch.randint(self.config.head.chain, size, generator=rng, device=rng.device)
        time = time.cpu()[:, order.step]
        noise = torch.randn(values.shape, generator=rng, device=rng.device).to(values)
        noisy = self.head.tables.add_noise(values, time, noise)
        return self.head.loss(self.teach(tokens, condition, noisy, time), noise)

    def teach(self, tokens: Tokens, condition: Condition, noisy: Tensor, time: Tensor) -> Tensor:
        """Return the noise in all blocks in one pass, float [B, N, D].

        Args:
            tokens: clean.
            noisy: float [B, N, D], the same noised.
            time: int64 [B, N], how far, in steps of the chain; alike within a block.
        """
        order = self.config.blocks(tokens.layout)
        # nothing reads the last block when it is clean
        slots = block_slots(order, (0, len(order) - 1), (0, len(order)))
        level = time.to(tokens.known.device, torch.float32)
        rows = batch([slots] * len(tokens))
        packed = Packed(tokens, rows, [condition], noisy=noisy, level=level)
        told: Tensor = self(packed, NoMemory())
        return told[:, torch.cat([step.draw for step in order.steps]).argsort()]

    def memory(self, rows: Sequence[Row]) -> Memory:
        """Return key/value buffers for the clean blocks, and room for the draft behind them."""
        stack, weight = self.config.stack, self.output.weight
        longest = max(len(row.tokens.layout) for row in rows)
        size = (stack.depth, stack.heads, HEAD, longest)
        return KeyValueMemory(*size, weight.device, weight.dtype)


def _register_variants() -> None:
    sizes = {  # width, depth, heads; counted from the official code with 1000 classes
        "b": (768, 12, "130.31M"),
        "l": (1024, 24, "457.85M"),
        "xl": (1152, 28, "674.86M"),
        "h": (1280, 32, "950.96M"),
    }
    for name, (width, depth, published) in sizes.items():
        stack = StackConfig(width, depth, width // HEAD)
        MODELS.variant(f"acdit-{name}", "acdit", ACDiTConfig(stack), published)
    for name, published in {"xl": "673.82M", "h": "949.81M"}.items():
        width, depth, _ = sizes[name]
        clips = ACDiTConfig(StackConfig(width, depth, width // HEAD), square=False, classes=101)
        MODELS.variant(f"acdit-{name}-video", "acdit", clips, published)


_register_variants()
