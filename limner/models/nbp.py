"""NBP: a GPT over the codes of a clip that tells a whole block at a time.

Ren et al., "Next Block Prediction: Video Generation via Semi-Autoregressive Modeling",
arXiv:2502.07737; facts from nbp/lm_transformer.py and nbp/modules/gpt.py of RenShuhuai-Andy/NBP.

Attention is bidirectional within a block and causal between blocks (`limner.orders.next_block`).
A model without prompt goes on from given frames; one with a prompt draws its first block token by
token. Prompt, special tokens and codes share one vocabulary, in that order: begin and middle
tokens, prompt, codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from limner.conditions.prompt_tokens import NOTHING, PromptTokens
from limner.core.errors import check
from limner.core.generator import Generator, Packed
from limner.core.head import LossBreakdown
from limner.core.layout import Layout
from limner.core.memory import Memory, NoMemory
from limner.core.noise import Noise
from limner.core.order import Order, Step
from limner.core.registry import MODELS
from limner.core.row import Condition, Options, Row
from limner.core.slots import Slots, batch, up_to
from limner.core.tokens import Tokens
from limner.heads.code_range import CodeRangeHead
from limner.layers.key_value_memory import KeyValueMemory
from limner.layers.vision_transformer import StackConfig, VisionBlock
from limner.orders import without_given
from limner.orders.next_block import NextBlock

EPS = 1e-5


@dataclass(frozen=True)
class NBPConfig:
    """Configuration of NBP.

    Args:
        stack: blocks of the network.
        codebook_size: V, codes of the clips.
        block: K, successive codes that are drawn together.
        hybrid: the first block is drawn token by token behind a prompt; otherwise it is given.
        prompt: tokens of the prompt, where `hybrid`.
        prompt_vocabulary: number of such tokens.
        places: longest sequence, prompt, begin and middle tokens included.
        restricted: draw codes alone; the released sampler takes what it draws beyond them for the
            first code.
        dropout: on embeddings and branches, in training.
        condition_dropout: share of prompts left out in training.
    """

    stack: StackConfig = field(default_factory=lambda: StackConfig(1536, 24, 16))
    codebook_size: int = 64000
    block: int = 16
    hybrid: bool = False
    prompt: int = 0
    prompt_vocabulary: int = 0
    places: int = 5120
    restricted: bool = True
    dropout: float = 0.1
    condition_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("codebook_size", "block", "places"):
            check(getattr(self, name) > 0, name, getattr(self, name), "1 or more")
        fits = self.prompt >= 0 and (self.hybrid or self.prompt == 0)
        check(fits, "prompt", self.prompt, "0 or more where hybrid, else 0")
        fits = (self.prompt_vocabulary > 0) == (self.prompt > 0) and self.prompt_vocabulary >= 0
        check(fits, "prompt_vocabulary", self.prompt_vocabulary, "above 0 where there is a prompt")
        for name in ("dropout", "condition_dropout"):
            value = getattr(self, name)
            check(0 <= value < 1, name, value, "at least 0 and below 1")

    @property
    def special(self) -> int:
        """Begin and middle tokens."""
        return self.block if self.hybrid else 0

    @property
    def first_code(self) -> int:
        """Entry of the vocabulary that is the first code."""
        return self.special + self.prompt_vocabulary

    @property
    def vocabulary(self) -> int:
        """All entries."""
        return self.first_code + self.codebook_size

    @property
    def pattern(self) -> NextBlock:
        """Which slots are read at which step."""
        return NextBlock(self.block, self.prompt, self.hybrid)


@MODELS.family("nbp", NBPConfig)
class NBP(Generator):
    """The transformer; a slot speaks for the token that stands as far on in the next block.

    Args:
        config: see `NBPConfig`.
    """

    config: NBPConfig
    condition: PromptTokens
    head: CodeRangeHead
    null_prompt: Tensor  # [T, width]

    def __init__(self, config: NBPConfig) -> None:
        super().__init__()
        self.config = config
        stack, width = config.stack, config.stack.width
        self.condition = PromptTokens(config.prompt, config.prompt_vocabulary)
        self.tokens = nn.Embedding(config.vocabulary, width)
        self.places = nn.Parameter(torch.zeros(1, config.places, width))
        self.register_buffer("null_prompt", torch.randn(config.prompt, width) * width**-0.5)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            VisionBlock(width, stack.heads, layer, stack.ratio, dropout=config.dropout, eps=EPS)
            for layer in range(stack.depth)
        )
        self.norm = nn.LayerNorm(width, EPS)
        self.output = nn.Linear(width, config.vocabulary, bias=False)
        self.head = CodeRangeHead(config.first_code, config.restricted)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """Block after block; what is given at the beginning is not drawn."""
        check(tokens.ids is not None, "tokens", "continuous vectors", "codes")
        self.check_layout(tokens.layout)
        known, first = tokens.known[0], self.config.block
        accepted = "the first block at least: this model goes on from given frames"
        fits = self.config.hybrid or bool(known[:first].all())
        check(fits, "given", f"{int(known.sum())} codes", accepted)
        return without_given(self.config.pattern.order(tokens.layout), known)

    def slots(self, row: Row, step: Step) -> Slots:
        """What was drawn in the step before; at first, all that is given."""
        layout, pattern = row.tokens.layout, self.config.pattern
        number = int(pattern.order(layout).step[step.first])
        if step.index == 0:
            return pattern.slots_up_to(layout, number)
        return pattern.slots(layout, number)

    def entries(self, packed: Packed) -> Tensor:
        """Return what stands in every slot, int64 [R, L], entries of the vocabulary.

        Prompts that are left out are `NOTHING`.
        """
        config, place = self.config, packed.place
        codes = packed.ids()[..., 0] + config.first_code
        if not config.hybrid:
            return codes
        front = config.prompt + 1
        middle = (-front - place).clamp(min=0)  # 0, the begin token, on other slots
        entries = torch.where(place < 0, middle, codes)
        if config.prompt:
            prompt = packed.condition["prompt"].to(place.device)
            given = prompt.gather(1, (-2 - place).clamp(0, config.prompt - 1))
            given = torch.where(given < 0, NOTHING, given + config.special)
            entries = torch.where((place < -1) & (place >= -front), given, entries)
        return entries

    def inputs(self, packed: Packed) -> Tensor:
        """The embeddings of what stands in the slots, and of their places in the sequence."""
        entries = self.entries(packed)
        x: Tensor = self.tokens(entries.clamp(min=0))
        if self.config.prompt:
            index = (-2 - packed.place).clamp(0, self.config.prompt - 1)
            left_out = (entries == NOTHING).unsqueeze(-1)
            x = torch.where(left_out, self.null_prompt[index].to(x.dtype), x)
        return x + self.places[0, self.config.pattern.position(packed.place)]

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return logits over the whole vocabulary, float [R, M, entries]."""
        reading = memory.read(packed.rows, packed.slots, up_to)
        x = self.dropout(self.inputs(packed))
        for block in self.blocks:
            x = block(x, reading)
        reading.close()
        logits: Tensor = self.output(self.norm(packed.speaking(x)))
        return logits

    def teach(self, tokens: Tokens, condition: Condition) -> Tensor:
        """Return the logits of all codes but a given first block, float [B, n, entries]."""
        self.check_layout(tokens.layout)
        slots = batch([self.config.pattern.teacher_slots(tokens.layout)] * len(tokens))
        logits: Tensor = self(Packed(tokens, slots, [condition]), NoMemory())
        return logits

    def loss(
        self, tokens: Tokens, condition: Condition, rng: torch.Generator | None = None
    ) -> LossBreakdown:
        """Return the mean cross-entropy of all codes but a given first block."""
        if rng is not None and self.config.prompt:
            condition = self.condition.drop(condition, self.config.condition_dropout, rng)
        assert tokens.ids is not None
        told = tokens.ids[:, 0 if self.config.hybrid else self.config.block :]
        return self.head.loss(self.teach(tokens, condition), told, rng, None)

    def memory(self, rows: Sequence[Row]) -> Memory:
        """Return key/value buffers for everything but the last block."""
        stack, weight = self.config.stack, self.output.weight
        longest = max(self._length(row.tokens.layout) for row in rows)
        size = (stack.depth, stack.heads, stack.width // stack.heads, longest)
        return KeyValueMemory(*size, weight.device, weight.dtype)

    def _length(self, layout: Layout) -> int:
        """Return how many slots are read of a clip."""
        config = self.config
        return len(layout) + (config.prompt if config.hybrid else -config.block)

    def check_layout(self, layout: Layout) -> None:
        """Raise ConfigError where blocks do not divide a clip or places do not suffice."""
        self.config.pattern.order(layout)
        accepted = f"a clip of at most {self.config.places} places, prompt included"
        length = self._length(layout)
        check(0 < length <= self.config.places, "size", f"{length} places", accepted)


def _register_variants() -> None:
    sizes = {  # width, depth, heads; counts of these shapes without and with a prompt
        "base": (1536, 24, 16, "884.4M", "982.8M"),
        "xl": (2048, 24, 32, "1.48B", "1.61B"),
        "3b": (3072, 32, 32, "4.03B", "4.23B"),
    }
    for name, (width, depth, heads, given, asked) in sizes.items():
        stack = StackConfig(width, depth, heads)
        MODELS.variant(f"nbp-k600-{name}", "nbp", NBPConfig(stack), given)
        prompted = NBPConfig(stack, hybrid=True, prompt=8, prompt_vocabulary=32000)
        MODELS.variant(f"nbp-ucf-{name}", "nbp", prompted, asked)


_register_variants()
