"""Drawing the tokens of pictures by LlamaGen under classes, beside FoundationVision/LlamaGen.

The official step is `generate` of autoregressive/models/generate.py with the settings of
autoregressive/sample/sample_c2i.py, in float32: a guidance of 4, the 2000 likeliest codes. Decoding
tokens to pixels is not part of a step on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from limner.bench.drawing import random_labels
from limner.bench.official import fill, official_module
from limner.bench.settings import Settings
from limner.bench.subject import Candidate, Subject
from limner.bench.subjects.train_llamagen import SIDE, class_config, official_arguments
from limner.bench.work import Product, Work
from limner.core.layout import grid
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS, TOKENIZERS
from limner.core.row import Options
from limner.core.tokens import empty, stack
from limner.decoding import generate
from limner.heads.guidance import Constant
from limner.hub.build import parameter_count, weightless
from limner.hub.official.llamagen import GPT
from limner.layers.int8_linear import round_to_int8
from limner.models.llamagen import LlamaGen
from limner.pipeline import Pipeline
from limner.pipeline.compilation import compile_blocks
from limner.tokenizers.llamagen_vq import LlamaGenVQ

GUIDANCE, TOP_K = 4.0, 2000
TOKENS = SIDE**2  # of a picture


def labels(settings: Settings) -> Tensor:
    """Return random classes, int64 [B]."""
    return random_labels(settings, class_config(settings).classes)


def ours(settings: Settings) -> Candidate:
    """Return limner's side."""
    model: LlamaGen = MODELS.create(settings.model).eval()
    fill(GPT.table(model.config).to_official(model.state_dict()), settings.seed)
    model.to(settings.device)
    if settings.precision == "int8":
        round_to_int8(model)
    if settings.compile:
        compile_blocks(model, dynamic=True)
    classes = labels(settings)

    def drawn(options: Options) -> Tensor:
        rows = []
        for number, label in enumerate(classes.split(1)):
            blank = empty(grid(SIDE, SIDE), codes=1, device=settings.device)
            rows += model.begin(blank, {"label": label}, options, SeededNoise(number))
        ids = stack([row.tokens for row in generate(model, rows)]).ids
        assert ids is not None
        return ids

    def step() -> None:
        drawn(Options(Constant(GUIDANCE), top_k=TOP_K))

    def answer() -> Sequence[float]:
        ids = drawn(Options(Constant(GUIDANCE), temperature=0))
        return [float(code) for code in ids.flatten()]

    def preview() -> None:
        next(pipeline().stream(classes.tolist(), guidance=GUIDANCE, top_k=TOP_K))

    @cache  # when it is first asked for, as a step has no part in it
    def pipeline() -> Pipeline:
        return Pipeline(_tokenizer(settings).to(settings.device), model)

    return Candidate(step, answer, preview)


def official(settings: Settings, checkout: str) -> Candidate:
    """Return the official side."""
    code = official_module(checkout, "autoregressive.models.gpt")
    sampling = official_module(checkout, "autoregressive.models.generate")
    model = code.Transformer(code.ModelArgs(**official_arguments(class_config(settings)))).eval()
    fill(model.state_dict(), settings.seed)
    model.to(settings.device)
    if settings.compile:
        model = torch.compile(model, mode="reduce-overhead", fullgraph=True)
    classes = labels(settings)

    def drawn(**options: object) -> Tensor:
        ids: Tensor = sampling.generate(model, classes, TOKENS, cfg_scale=GUIDANCE, **options)
        return ids

    def step() -> None:
        drawn(top_k=TOP_K, temperature=1.0, top_p=1.0, sample_logits=True)

    def answer() -> Sequence[float]:
        return [float(code) for code in drawn(sample_logits=False).flatten()]

    return Candidate(step, answer)


def work(settings: Settings) -> Work:
    """Return what drawing has to read and compute: all weights and all that is kept, every time."""
    config = class_config(settings)
    width, rows = config.width, 2 * settings.batch
    done = Work()
    for inputs, outputs, times in (
        (width, 3 * width, config.depth),
        (width, width, config.depth),
        (width, config.hidden, 2 * config.depth),
        (config.hidden, width, config.depth),
        (width, config.codebook_size, 1),
    ):
        done.add(Product(rows, inputs, outputs), TOKENS * times)
    with weightless():
        model = LlamaGen(config)
    looked_up = parameter_count(model.tokens) + parameter_count(model.condition)
    weight = 1 if settings.precision == "int8" else 4
    entry = 4 * 2 * width * config.depth * rows  # keys and values of one place
    entries = TOKENS * (TOKENS + 1) // 2  # read in all; the first step reads one
    done.read = TOKENS * weight * (parameter_count(model) - looked_up) + entries * entry
    return done


def _tokenizer(settings: Settings) -> LlamaGenVQ:
    """Return the tokenizer that shows what is drawn; its weights say nothing of its speed."""
    published = TOKENIZERS.get_variant("llamagen-vq-16").config
    with torch.random.fork_rng([]):
        return LlamaGenVQ(replace(published, codebook_size=class_config(settings).codebook_size))


SUBJECT = Subject(
    ours,
    official,
    work,
    tolerance=0.0,
    tokens=lambda settings: TOKENS * settings.batch,
    precisions=("int8",),
)
