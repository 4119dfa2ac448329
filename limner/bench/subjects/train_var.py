"""A training step of VAR under classes, beside FoundationVision/VAR.

The official step is `train_step` of trainer.py on models/var.py without its tokenizer's encoder:
the inputs of all scales by `idxBl_to_var_input`, forward, label-smoothed cross-entropy (0 here, as
by default), backward, gradients clipped to a norm of 2, AdamW. In float32 and on one process.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limner.bench.counting import counted
from limner.bench.settings import Settings
from limner.bench.subject import Candidate, Subject
from limner.bench.subjects.sample_var import (
    labels,
    official_tokenizer,
    official_transformer,
    square_config,
    tokenizer,
    transformer,
)
from limner.bench.work import Work
from limner.core.layout import pyramid
from limner.core.seeds import seeded
from limner.core.tokens import from_ids
from limner.hub.build import parameter_count
from limner.models.var import VAR
from limner.pipeline.compilation import compile_blocks
from limner.training.optimizer import build_optimizer
from limner.training.recipe import OptimizerRecipe

LR, DECAY, BETAS, CLIP = 1e-4, 0.05, (0.9, 0.95), 2.0


def codes(settings: Settings) -> Tensor:
    """Return random codes of all scales, int64 [B, N]."""
    config = square_config(settings)
    rng = seeded(settings.seed, "codes")
    return torch.randint(config.codebook_size, (settings.batch, config.length), generator=rng)


def taught(settings: Settings) -> tuple[VAR, Candidate]:
    """Return our model, and its steps."""
    canvas, model = tokenizer(settings).canvas, transformer(settings)
    model.canvas = canvas
    recipe = OptimizerRecipe(lr=LR, betas=BETAS, weight_decay=DECAY, clip=CLIP)
    optimizer = build_optimizer(model, recipe)
    tokens = from_ids(pyramid(model.config.sizes), codes(settings))
    condition, rng = {"label": labels(settings)}, seeded(settings.seed, "loss")
    if settings.compile:
        compile_blocks(model)

    def step() -> None:
        model.train()
        optimizer.zero_grad()
        model.loss(tokens, condition, rng).total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()

    @torch.no_grad()
    def answer() -> list[float]:
        model.eval()
        return [float(model.loss(tokens, condition).total)]

    return model, Candidate(step, answer)


def ours(settings: Settings) -> Candidate:
    """Return limner's side."""
    return taught(settings)[1]


def official(settings: Settings, checkout: str) -> Candidate:
    """Return the official side."""
    pixels = official_tokenizer(settings, checkout)
    model = official_transformer(settings, checkout, pixels)
    # as filter_params of utils/lr_control.py groups them: what has one dimension does not decay
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": DECAY},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS, fused=True)
    ids, classes = codes(settings), labels(settings)
    scales = list(ids.split([n * n for n in model.patch_nums], dim=1))
    call = torch.compile(model) if settings.compile else model

    def loss() -> Tensor:
        given = pixels.quantize.idxBl_to_var_input(scales)
        logits = call(classes, given)
        each = nn.functional.cross_entropy(
            logits.view(-1, logits.shape[-1]), ids.flatten(), reduction="none"
        )
        return each.view(len(ids), -1).mul(1 / ids.shape[1]).sum(-1).mean()

    def step() -> None:
        model.train()
        loss().backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def answer() -> list[float]:
        model.eval()
        model.cond_drop_rate, rate = 0.0, model.cond_drop_rate  # it drops in evaluation too
        found = [float(loss())]
        model.cond_drop_rate = rate
        return found

    return Candidate(step, answer)


def work(settings: Settings) -> Work:
    """Return the products of our step, and what clipping and AdamW have to read and write."""
    model, candidate = taught(settings)
    done = counted(candidate.step)
    # the norm reads gradients; AdamW reads them, weights and two moments, and writes the last three
    done.bytes = 4 * parameter_count(model) * (1 + 7)
    return done


SUBJECT = Subject(ours, official, work, tolerance=1e-4)
