"""A training step of LlamaGen under classes, beside FoundationVision/LlamaGen.

The official step is that of autoregressive/train/train_c2i.py on autoregressive/models/gpt.py:
forward with targets, backward, gradients clipped to a norm of 1, AdamW. Here it is in float32 and
on one process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.bench.official import fill, official_module
from limner.bench.settings import BenchError, Settings
from limner.bench.subject import Candidate, Subject
from limner.bench.training import official_step, our_steps, updated_bytes
from limner.bench.work import Product, Work, trained
from limner.core.layout import grid
from limner.core.registry import MODELS
from limner.core.seeds import seeded
from limner.core.tokens import from_ids
from limner.hub.build import parameter_count, weightless
from limner.hub.official.llamagen import GPT
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.training.recipe import OptimizerRecipe

SIDE = 16  # tokens along each side of a picture
RECIPE = OptimizerRecipe(lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05, clip=1.0)


@dataclass(frozen=True)
class Batch:
    """Codes and classes that both sides learn from.

    Args:
        ids: int64 [B, N].
        labels: int64 [B].
    """

    ids: Tensor
    labels: Tensor


def batch(settings: Settings) -> Batch:
    """Return random codes and classes."""
    config = class_config(settings)
    rng = seeded(settings.seed, "batch")
    ids = torch.randint(config.codebook_size, (settings.batch, SIDE**2), generator=rng)
    labels = torch.randint(config.classes, (settings.batch,), generator=rng)
    return Batch(ids.to(settings.device), labels.to(settings.device))


def ours(settings: Settings) -> Candidate:
    """Return limner's side."""
    model: LlamaGen = MODELS.create(settings.model)
    fill(GPT.table(model.config).to_official(model.state_dict()), settings.seed)
    model.to(settings.device)
    given = batch(settings)
    tokens, condition = from_ids(grid(SIDE, SIDE), given.ids), {"label": given.labels}
    return our_steps(model, settings, RECIPE, lambda rng: model.loss(tokens, condition, rng).total)


def official(settings: Settings, checkout: str) -> Candidate:
    """Return the official side."""
    code = official_module(checkout, "autoregressive.models.gpt")
    model = code.Transformer(code.ModelArgs(**official_arguments(class_config(settings))))
    fill(model.state_dict(), settings.seed)
    model.to(settings.device)
    given = batch(settings)
    call = torch.compile(model) if settings.compile else model

    def loss() -> Tensor:
        found: Tensor
        _, found = call(idx=given.ids[:, :-1], cond_idx=given.labels, targets=given.ids)
        return found

    @torch.no_grad()
    def answer() -> Sequence[float]:
        model.eval()
        places = torch.arange(SIDE**2, device=settings.device)  # in evaluation it asks where it is
        _, found = model(given.ids[:, :-1], given.labels, places, targets=given.ids)
        return [float(found)]

    return Candidate(official_step(model, RECIPE, loss), answer)


def work(settings: Settings) -> Work:
    """Return the products of a step, and what clipping and AdamW have to read and write."""
    config = class_config(settings)
    rows, width = settings.batch * SIDE**2, config.width
    done = Work()
    done.add(trained(rows, width, 3 * width), config.depth)
    done.add(trained(rows, width, width), config.depth)
    done.add(trained(rows, width, config.hidden), 2 * config.depth)
    done.add(trained(rows, config.hidden, width), config.depth)
    done.add(trained(rows, width, config.codebook_size))
    pairs, head = settings.batch * config.heads, width // config.heads
    scores, mixed = (
        Product(SIDE**2, head, SIDE**2, pairs),
        Product(SIDE**2, SIDE**2, head, pairs),
    )
    # one of each forward; backward a second one of the scores' shape and three of the other
    done.add(scores, 2 * config.depth / 2)
    done.add(mixed, 4 * config.depth / 2)
    with weightless():
        count = parameter_count(LlamaGen(config))
    done.bytes = updated_bytes(count)
    return done


def class_config(settings: Settings) -> LlamaGenConfig:
    """Return the configuration of a model that is asked by class; another one is refused."""
    config: LlamaGenConfig = MODELS.get_variant(settings.model).config
    if config.condition != "class":
        raise BenchError(f"model={settings.model!r} is not accepted: it must be asked by class")
    return config


def official_arguments(config: LlamaGenConfig) -> dict[str, object]:
    """Return the official `ModelArgs` of our configuration."""
    return {
        "dim": config.width,
        "n_layer": config.depth,
        "n_head": config.heads,
        "multiple_of": config.multiple_of,
        "rope_base": config.rotary_base,
        "norm_eps": config.norm_eps,
        "token_dropout_p": config.dropout,
        "resid_dropout_p": config.dropout,
        "ffn_dropout_p": config.dropout,
        "num_classes": config.classes,
        "class_dropout_prob": config.condition_dropout,
        "vocab_size": config.codebook_size,
        "block_size": SIDE**2,
    }


SUBJECT = Subject(ours, official, work, tolerance=1e-5)
