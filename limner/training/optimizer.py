"""AdamW, and a learning rate that follows the share of the budget that is used."""

from __future__ import annotations

import math

import torch
from torch import nn

from limner.training.recipe import OptimizerRecipe


def build_optimizer(model: nn.Module, recipe: OptimizerRecipe) -> torch.optim.AdamW:
    """Return AdamW; biases, norms and other tensors with one dimension are not decayed."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True)


def learning_rate(recipe: OptimizerRecipe, share: float) -> float:
    """Return the rate at a share of the budget, from 0 to 1."""
    if share < recipe.warmup:
        return recipe.lr * share / recipe.warmup
    past = min(1.0, (share - recipe.warmup) / (1 - recipe.warmup))
    left = {
        "constant": 1.0,
        "cosine": (1 + math.cos(math.pi * past)) / 2,
        "linear": 1 - past,
    }[recipe.schedule]
    floor = 0.0 if recipe.schedule == "constant" else recipe.final
    return recipe.lr * (floor + (1 - floor) * left)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give all groups one learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
