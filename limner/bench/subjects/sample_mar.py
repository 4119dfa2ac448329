"""Drawing the tokens of pictures by MAR under classes, beside LTH14/mar.

The official step is `sample_tokens` of models/mar.py in float32 with the settings of its README:
256 autoregressive steps of 100 denoising steps, a guidance of 2.9 that rises linearly. That takes
minutes on a CPU: `drawing_steps` and `head_steps` ask for fewer of both sides. Decoding is not part
of a step. The same weights on both sides, random ones.
"""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import torch
from torch import Tensor

from limner.bench.counting import counted
from limner.bench.drawing import large, random_labels
from limner.bench.official import fill, official_module, stay_on_cpu
from limner.bench.settings import Settings
from limner.bench.subject import Candidate, Subject
from limner.bench.work import Work
from limner.core.layout import grid
from limner.core.noise import Noise, SeededNoise
from limner.core.registry import MODELS
from limner.core.row import Options, Row
from limner.core.tokens import empty, stack
from limner.decoding import generate
from limner.heads.diffusion import SameSteps
from limner.heads.guidance import schedule
from limner.hub.official import mar as hub
from limner.models.mar import MAR, MARConfig
from limner.pipeline.compilation import compile_blocks

STEPS, GUIDANCE = 256, 2.9
CHECKED_STEPS, CHECKED_HEAD_STEPS = 2, "4"
"""Steps after which both sides must agree."""


class StillNoise:
    """Noise for a comparison: all zeros, and an order that draws the last tokens first."""

    def normal(
        self, purpose: str, tokens: Tensor, inner: int, shape: tuple[int, ...] = ()
    ) -> Tensor:
        """Return zeros, float64 [n, *shape]."""
        return torch.zeros(len(tokens), *shape, dtype=torch.float64)

    def uniform(
        self, purpose: str, tokens: Tensor, inner: int, shape: tuple[int, ...] = ()
    ) -> Tensor:
        """Return numbers that rise from token to token, float64 [n]."""
        return (tokens + 1.0).double() / (tokens.max() + 2)

    gumbel = normal


def mar_config(settings: Settings) -> MARConfig:
    """Return the configuration of the model."""
    config: MARConfig = MODELS.get_variant(settings.model).config
    return config


def labels(settings: Settings) -> Tensor:
    """Return random classes, int64 [B]."""
    return random_labels(settings, mar_config(settings).classes)


def made(settings: Settings) -> MAR:
    """Return our model with the weights that both sides have."""
    model: MAR = MODELS.create(settings.model).eval()
    fill(hub.MAR.table(model.config).to_official(model.state_dict()), settings.seed)
    model.to(settings.device)
    if settings.head_steps is not None:
        model.head.inner_steps = SameSteps(str(settings.head_steps))
    if settings.compile:
        compile_blocks(model, dynamic=True)
    return model


def options(settings: Settings) -> Options:
    """Return how pictures are drawn on both sides."""
    return Options(schedule("drawn", GUIDANCE), steps=drawing_steps(settings))


def drawing_steps(settings: Settings) -> int:
    """Return the autoregressive steps of a picture."""
    return settings.drawing_steps or min(STEPS, mar_config(settings).tokens)


def begun(model: MAR, settings: Settings, asked: Options, noise: Noise | None = None) -> list[Row]:
    """Return the rows of the pictures; noise by their numbers where none is given."""
    side = round(model.config.tokens**0.5)
    rows = []
    for number, label in enumerate(labels(settings).split(1)):
        layout, width = grid(side, side, kind="values"), model.config.token_width
        blank = empty(layout, width=width, device=settings.device)
        rows += model.begin(blank, {"label": label}, asked, noise or SeededNoise(number))
    return rows


def ours(settings: Settings) -> Candidate:
    """Return limner's side."""
    model = made(settings)

    def step() -> None:
        generate(model, begun(model, settings, options(settings)))

    def answer() -> list[float]:
        asked = replace(options(settings), steps=CHECKED_STEPS, temperature=0.0)
        usual, model.head.inner_steps = model.head.inner_steps, SameSteps(CHECKED_HEAD_STEPS)
        drawn = generate(model, begun(model, settings, asked, StillNoise()))
        model.head.inner_steps = usual
        values = stack([row.tokens for row in drawn]).values
        assert values is not None
        return [float(value) for value in values.flatten()]

    return Candidate(step, answer)


def official(settings: Settings, checkout: str) -> Candidate:
    """Return the official side."""
    if settings.device == "cpu":
        stay_on_cpu()
    code = official_module(checkout, "models.mar")
    chains = official_module(checkout, "diffusion.__init__")
    config, side = mar_config(settings), round(mar_config(settings).tokens ** 0.5)
    stacks = {
        f"{name}_{field}": value
        for name, stack in (("encoder", config.encoder), ("decoder", config.decoder))
        for field, value in (
            ("embed_dim", stack.width),
            ("depth", stack.depth),
            ("num_heads", stack.heads),
        )
    }
    norm = code.partial(code.nn.LayerNorm, eps=1e-6)
    model = code.MAR(
        img_size=16 * side,
        vae_embed_dim=config.token_width,
        class_num=config.classes,
        buffer_size=config.buffer,
        mlp_ratio=config.encoder.ratio,
        diffloss_d=config.head.depth,
        diffloss_w=config.head.width,
        num_sampling_steps=str(settings.head_steps or config.head.steps),
        norm_layer=norm,
        **stacks,
    ).eval()
    fill(dict(model.named_parameters()), settings.seed)
    model.to(settings.device)
    if settings.compile:
        for block in (*model.encoder_blocks, *model.decoder_blocks, *model.diffloss.net.res_blocks):
            block.compile(dynamic=True)
    classes = labels(settings)

    @torch.no_grad()
    def drawn(steps: int, temperature: float) -> Tensor:
        pictures: Tensor = model.sample_tokens(
            len(classes), steps, GUIDANCE, "linear", classes, temperature
        )
        return pictures

    def step() -> None:
        drawn(drawing_steps(settings), 1.0)

    def answer() -> list[float]:
        places = torch.arange(config.tokens).expand(len(classes), -1)
        few = chains.create_diffusion(CHECKED_HEAD_STEPS, noise_schedule="cosine")
        usual, model.diffloss.gen_diffusion = model.diffloss.gen_diffusion, few
        with (
            patch.object(model, "sample_orders", lambda batch: places),
            patch.object(torch, "randn", torch.zeros),
        ):
            pictures = drawn(CHECKED_STEPS, 0.0)
        model.diffloss.gen_diffusion = usual
        return [float(value) for value in pictures.flatten(2).transpose(1, 2).flatten()]

    return Candidate(step, answer)


def work(settings: Settings) -> Work:
    """Return what our drawing computes."""
    candidate = ours(replace(settings, compile=False))
    return counted(candidate.step, reads=large(made(settings)))


SUBJECT = Subject(
    ours,
    official,
    work,
    tolerance=1e-3,
    tokens=lambda settings: mar_config(settings).tokens * settings.batch,
)
