"""AdamW, and a learning rate that follows the share of the budget that is used."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase

import torch
from torch import nn

from limner.training.recipe import OptimizerRecipe

DECAYED = "decayed"  # marks the groups whose weight decay follows the recipe


def build_optimizer(model: nn.Module, recipe: OptimizerRecipe) -> torch.optim.AdamW:
    """Return AdamW; biases, norms, other tensors with one dimension and those that the recipe
    names are not decayed."""
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    decayed = {
        name
        for name, parameter in trained.items()
        if parameter.dim() >= 2 and not any(fnmatchcase(name, p) for p in recipe.no_decay)
    }
    groups = [
        {"params": [p for n, p in trained.items() if n in decayed], DECAYED: True},
        {
            "params": [p for n, p in trained.items() if n not in decayed],
            DECAYED: False,
            "weight_decay": 0.0,
        },
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=recipe.lr,
        betas=recipe.betas,
        eps=recipe.eps,
        weight_decay=recipe.weight_decay,
        fused=True,
    )


def learning_rate(recipe: OptimizerRecipe, share: float) -> float:
    """Return the rate at a share of the budget, from 0 to 1."""
    if share < recipe.warmup:
        return recipe.lr * (recipe.start + (1 - recipe.start) * share / recipe.warmup)
    past = min(1.0, (share - recipe.warmup) / (1 - recipe.warmup))
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "steps":
        passed = sum(past >= milestone for milestone in recipe.milestones)
        return recipe.lr * recipe.drop**passed
    gone = max(0.0, past - recipe.hold) / (1 - recipe.hold)
    left = (1 + math.cos(math.pi * gone)) / 2 if recipe.schedule == "cosine" else 1 - gone
    return recipe.lr * (recipe.final + (1 - recipe.final) * left)


def weight_decay(recipe: OptimizerRecipe, share: float) -> float:
    """Return the weight decay at a share of the budget, from 0 to 1."""
    end = recipe.weight_decay if recipe.final_weight_decay is None else recipe.final_weight_decay
    left = (1 + math.cos(math.pi * min(1.0, share))) / 2
    return end + (recipe.weight_decay - end) * left


def follow_schedule(
    optimizer: torch.optim.Optimizer, recipe: OptimizerRecipe, share: float
) -> None:
    """Set learning rate and weight decay for a share of the budget, from 0 to 1."""
    rate, decay = learning_rate(recipe, share), weight_decay(recipe, share)
    for group in optimizer.param_groups:
        group["lr"] = rate
        if group[DECAYED]:
            group["weight_decay"] = decay
