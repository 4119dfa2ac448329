"""FlowAR: next-scale prediction over any autoencoder's latents, each scale drawn by one flow.

Ren et al., "FlowAR: Scale-wise Autoregressive Image Generation Meets Flow Matching",
arXiv:2412.15205; facts from models/{flowar,flowmodel,flowloss,sampler}.py of OliverRensu/FlowAR.

The scales are the latents averaged to sides 1, 2, 4, ...; none is a residual. What the network
reads at a scale is the one before, enlarged and averaged to its size (the tokenizer's canvas); the
first reads the class. Its outputs are the condition of a small transformer that moves the whole
scale from noise to latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from limner.conditions import ClassCondition
from limner.core.errors import check
from limner.core.generator import Packed
from limner.core.head import LossBreakdown
from limner.core.memory import Memory, NoMemory
from limner.core.noise import Noise
from limner.core.order import Order
from limner.core.registry import MODELS
from limner.core.row import Condition, Options, Row
from limner.core.slots import batch, up_to
from limner.core.tokens import Tokens
from limner.heads.flow import EVALUATION_SEED, FlowConfig, FlowHead, by_area, random_times
from limner.layers.adaln import rotary_block
from limner.layers.flow_transformer import FlowTransformer, FlowTransformerConfig, TokenPlaces
from limner.layers.key_value_memory import KeyValueMemory
from limner.layers.norms import RMSNorm
from limner.layers.rotary import spanning_rotation
from limner.models.next_scale import NextScale, Scaled
from limner.orders import teacher_slots

EPS = 1e-6


@dataclass(frozen=True)
class FlowARConfig(Scaled):
    """Configuration of FlowAR.

    Args:
        width: of the sequence.
        encoder_depth: blocks of the first stack.
        decoder_depth: blocks of the second stack.
        heads: of each attention.
        velocity: the network that moves a scale.
        flow: how it is moved.
        token_width: D of a token.
        classes: number of classes, the null class not counted.
        scales: sides of the maps, coarse to fine: one number for squares, or (rows, columns).
            Places are learned, so they are fixed.
        ratio: the gated MLPs are two thirds of this times `width` wide.
        span: what the side of a scale measures in rotary positions.
        base: of the rotary frequencies.
        attention_dropout: on attention weights, in training.
        dropout: on the blocks' branches and in the MLPs, in training.
        condition_dropout: share of classes replaced by the null class in training.
    """

    width: int = 768
    encoder_depth: int = 6
    decoder_depth: int = 6
    heads: int = 12
    velocity: FlowTransformerConfig = field(default_factory=FlowTransformerConfig)
    flow: FlowConfig = field(default_factory=lambda: FlowConfig(times="flowar", guided_from=0.9))
    token_width: int = 16
    classes: int = 1000
    scales: tuple[int | tuple[int, int], ...] = (1, 2, 4, 8, 16)
    ratio: float = 4.0
    span: float = 16.0
    base: float = 10000.0
    attention_dropout: float = 0.1
    dropout: float = 0.1
    condition_dropout: float = 0.1

    def __post_init__(self) -> None:
        positive = ("width", "encoder_depth", "decoder_depth", "heads", "token_width", "classes")
        for name in (*positive, "ratio", "span", "base"):
            check(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        fits = self.width % (4 * self.heads) == 0
        check(fits, "width", self.width, f"a multiple of 4 heads ({4 * self.heads})")
        self.check_scales()
        for name in ("attention_dropout", "dropout", "condition_dropout"):
            value = getattr(self, name)
            check(0 <= value < 1, name, value, "at least 0 and below 1")


@MODELS.family("flowar", FlowARConfig)
class FlowAR(NextScale):
    """The next-scale transformer with a flow head. Its canvas is the scale drawn last.

    Args:
        config: see `FlowARConfig`.
    """

    config: FlowARConfig
    condition: ClassCondition
    head: FlowHead
    guidance = "ramp"

    def __init__(self, config: FlowARConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.condition = ClassCondition(config.classes, width)
        self.into = nn.Linear(config.token_width, width)
        self.encoder_places = nn.Parameter(torch.empty(1, config.length, width))
        self.into_norm = RMSNorm(width, EPS)
        self.encoder = self._stack(config.encoder_depth, first=0)
        self.encoder_norm = RMSNorm(width, EPS)
        self.between = nn.Linear(width, width)
        self.decoder_places = nn.Parameter(torch.empty(1, config.length, width))
        self.decoder = self._stack(config.decoder_depth, first=config.encoder_depth)
        self.decoder_norm = RMSNorm(width, EPS)
        self.output_places = nn.Parameter(torch.empty(1, config.length, width))
        network = FlowTransformer(config.token_width, width, config.velocity)
        self.head = FlowHead(config.token_width, network, config.flow)
        self._initialise()

    def _stack(self, depth: int, first: int) -> nn.ModuleList:
        config = self.config
        sizes = (config.ratio, config.attention_dropout, config.dropout)
        return nn.ModuleList(
            rotary_block(config.width, config.heads, first + index, *sizes, EPS)
            for index in range(depth)
        )

    def _initialise(self) -> None:
        # the head too, of which nothing starts at zero: as released
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        places = (self.encoder_places, self.decoder_places, self.output_places)
        for table in (self.condition.table.weight, *places):
            nn.init.normal_(table, std=0.02)

    @property
    def blocks(self) -> list[nn.Module]:
        """What is worth compiling."""
        assert isinstance(self.head.network, FlowTransformer)
        return [*self.encoder, *self.decoder, *self.head.network.blocks]

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """One scale a step."""
        check(tokens.values is not None, "tokens", "codes", "continuous vectors")
        return super().order(tokens, options, noise)

    def inputs(self, packed: Packed) -> Tensor:
        """The class on the first scale, the canvas elsewhere: [R, L, width]."""
        assert packed.fed is not None, "FlowAR reads a canvas: set `canvas` to the tokenizer's"
        first = (packed.coordinates()[..., 0] == 0).unsqueeze(-1)
        contents = self.into(packed.fed.to(self.into.weight.dtype))
        return torch.where(first, self.condition.prefix(packed.condition), contents)

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return what the head draws tokens from, float [R, M, width]."""
        config, place = self.config, packed.place
        vector = self.condition.prefix(packed.condition)
        position = (config.width // config.heads, config.span, config.base, vector.dtype)
        rotation = spanning_rotation(packed.tokens.layout, place, *position)
        reading = memory.read(packed.rows, packed.slots, up_to)
        x = self.into_norm(self.inputs(packed) + self.encoder_places[0][place])
        for block in self.encoder:
            x = block(x, reading, vector, rotation)
        x = self.between(self.encoder_norm(x)) + self.decoder_places[0][place]
        for block in self.decoder:
            x = block(x, reading, vector, rotation)
        reading.close()
        return packed.speaking(self.decoder_norm(x) + self.output_places[0][place])

    def loss(
        self, tokens: Tokens, condition: Condition, rng: torch.Generator | None = None
    ) -> LossBreakdown:
        """Return the squared error of the velocities, a sum over scales by their area.

        The parts are means over the tokens of all scales: "mse", and "still", the error of a
        velocity of 0.
        """
        if rng is not None:
            condition = self.condition.drop(condition, self.config.condition_dropout, rng)
        rng = rng or torch.Generator().manual_seed(EVALUATION_SEED)
        assert tokens.values is not None
        places = TokenPlaces(tokens.layout, torch.arange(len(tokens.layout)).unsqueeze(0))
        time = random_times(tokens.values, rng, places)
        noise = torch.randn(tokens.values.shape, generator=rng, device=rng.device)
        outputs = self.teach(tokens, condition)
        errors = self.head.errors(outputs, tokens.values, time, noise, places)
        still = (noise.to(tokens.values) - tokens.values).square().mean()
        parts = {"mse": errors.detach().mean(), "still": still}
        return LossBreakdown(by_area(errors, tokens.layout), parts)

    def teach(self, tokens: Tokens, condition: Condition) -> Tensor:
        """Return the outputs of all scales of known tokens in one pass, float [B, N, width]."""
        fed, _ = self.canvas.teach(tokens)
        slots = batch([teacher_slots(tokens.layout)] * len(tokens))
        outputs: Tensor = self(Packed(tokens, slots, [condition], fed=fed), NoMemory())
        return outputs

    def memory(self, rows: Sequence[Row]) -> Memory:
        """Return key/value buffers for all scales but the last, which nothing reads later."""
        config, weight = self.config, self.into.weight
        depth = config.encoder_depth + config.decoder_depth
        kept = config.length - config.sizes[-1][0] * config.sizes[-1][1]
        size = (depth, config.heads, config.width // config.heads, kept)
        return KeyValueMemory(*size, weight.device, weight.dtype)


def _register_variants() -> None:
    sizes = {  # width, depth of both stacks, heads; head's depth, steps, guided from; count
        "small": (768, 6, 12, 2, 25, 0.9, 171_718_072),
        "large": (1024, 8, 16, 12, 25, 0.9, 586_862_912),
        "huge": (1536, 15, 16, 12, 50, 0.7, 1_913_316_880),
    }
    for name, (width, depth, heads, blocks, steps, limit, published) in sizes.items():
        velocity = FlowTransformerConfig(max(width, 1024), blocks, cross=name != "small")
        flow = FlowConfig(steps, times="flowar", guided_from=limit)
        config = FlowARConfig(width, depth, depth, heads, velocity, flow)
        MODELS.variant(f"flowar-{name}", "flowar", config, published)


_register_variants()
