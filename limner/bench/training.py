"""What subjects share that take training steps: both sides' optimizers and steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from limner.bench.settings import Settings
from limner.bench.subject import Candidate
from limner.core.generator import Generator
from limner.core.seeds import seeded
from limner.pipeline.compilation import compile_blocks
from limner.training.optimizer import build_optimizer
from limner.training.recipe import OptimizerRecipe


def our_steps(
    model: Generator,
    settings: Settings,
    recipe: OptimizerRecipe,
    loss: Callable[[torch.Generator | None], Tensor],
) -> Candidate:
    """Return limner's side, which answers by its loss.

    Args:
        model: that learns.
        settings: of both sides.
        recipe: of AdamW, with a largest norm of the gradient.
        loss: of the model; None as the generator: nothing is dropped.
    """
    optimizer, rng = build_optimizer(model, recipe), seeded(settings.seed, "loss")
    assert recipe.clip is not None
    clip = recipe.clip
    if settings.compile:
        compile_blocks(model)

    def step() -> None:
        model.train()
        optimizer.zero_grad()
        loss(rng).backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()

    @torch.no_grad()
    def answer() -> list[float]:
        model.eval()
        return [float(loss(None))]

    return Candidate(step, answer)


def official_step(
    model: nn.Module, recipe: OptimizerRecipe, loss: Callable[[], Tensor]
) -> Callable[[], None]:
    """Return a training step of an official network.

    What has one dimension does not decay, as `creat_optimizer` of LlamaGen's train_c2i.py and
    `filter_params` of VAR's utils/lr_control.py have it.

    Args:
        model: that learns.
        recipe: of AdamW, with a largest norm of the gradient.
        loss: of the model.
    """
    decay = recipe.weight_decay
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": decay},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True)
    assert recipe.clip is not None
    clip = recipe.clip

    def step() -> None:
        model.train()
        loss().backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def updated_bytes(parameters: int) -> int:
    """Return the bytes that clipping and AdamW have to read and write for float32 parameters.

    The norm reads gradients; AdamW reads them, weights and two moments, and writes the last three.
    """
    return 4 * parameters * (1 + 7)
