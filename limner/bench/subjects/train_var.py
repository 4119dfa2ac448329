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
from limner.bench.training import official_step, our_steps, updated_bytes
from limner.bench.work import Work
from limner.core.layout import pyramid
from limner.core.seeds import seeded
from limner.core.tokens import from_ids
from limner.hub.build import parameter_count
from limner.models.var import VAR
from limner.training.recipe import OptimizerRecipe

RECIPE = OptimizerRecipe(lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05, clip=2.0)


def codes(settings: Settings) -> Tensor:
    """Return random codes of all scales, int64 [B, N]."""
    config = square_config(settings)
    rng = seeded(settings.seed, "codes")
    ids = torch.randint(config.codebook_size, (settings.batch, config.length), generator=rng)
    return ids.to(settings.device)


def taught(settings: Settings) -> tuple[VAR, Candidate]:
    """Return our model, and its steps."""
    canvas, model = tokenizer(settings).canvas, transformer(settings)
    model.canvas = canvas
    tokens = from_ids(pyramid(model.config.sizes), codes(settings))
    condition = {"label": labels(settings)}
    steps = our_steps(model, settings, RECIPE, lambda rng: model.loss(tokens, condition, rng).total)
    return model, steps


def ours(settings: Settings) -> Candidate:
    """Return limner's side."""
    return taught(settings)[1]


def official(settings: Settings, checkout: str) -> Candidate:
    """Return the official side."""
    pixels = official_tokenizer(settings, checkout)
    model = official_transformer(settings, checkout, pixels)
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

    @torch.no_grad()
    def answer() -> list[float]:
        model.eval()
        model.cond_drop_rate, rate = 0.0, model.cond_drop_rate  # it drops in evaluation too
        found = [float(loss())]
        model.cond_drop_rate = rate
        return found

    return Candidate(official_step(model, RECIPE, loss), answer)


def work(settings: Settings) -> Work:
    """Return the products of our step, and what clipping and AdamW have to read and write."""
    model, candidate = taught(settings)
    done = counted(candidate.step)
    done.bytes = updated_bytes(parameter_count(model))
    return done


SUBJECT = Subject(ours, official, work, tolerance=1e-4)
