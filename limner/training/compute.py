"""How much a generator's training computes."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from limner.core.request import Request
from limner.core.tokens import from_ids, from_values
from limner.pipeline import Pipeline


def flops_per_example(pipeline: Pipeline, batch: int = 1) -> int:
    """Return the floating-point operations of one example in a training step.

    Counted are the products of matrices, attention and convolutions of a loss and its gradient:
    multiplications and additions, those of masked pairs included.

    Args:
        pipeline: whose generator is counted, at the pipeline's size.
        batch: examples that are counted together, for generators that learn from several in a row.
    """
    generator = pipeline.generator
    tokens = _any_tokens(pipeline, batch).to(generator.device)
    request = Request(batch, encoder=pipeline.text_encoder)
    condition = generator.condition.ask(request)
    condition = {name: value.to(generator.device) for name, value in condition.items()}
    weights = [weight for weight in generator.parameters() if weight.requires_grad]
    counter = FlopCounterMode(display=False)
    # products that the counter knows on every device: no fused attention, and under autocast
    # neither oneDNN's products nor sums in place
    plain = sdpa_kernel(SDPBackend.MATH), torch.autocast(generator.device.type, torch.bfloat16)
    with torch.enable_grad(), plain[0], plain[1], counter:
        loss = generator.loss(tokens, condition).total
        torch.autograd.grad(loss, weights, allow_unused=True)
    return int(counter.get_total_flops()) // batch


def _any_tokens(pipeline: Pipeline, batch: int) -> Any:
    """Return the tokens of pictures, or clips, of noise."""
    tokenizer, rng = pipeline.tokenizer, torch.Generator().manual_seed(0)
    layout = pipeline.generator.layout(tokenizer, *pipeline.size, frames=pipeline.frames)
    if tokenizer.width:
        return from_values(layout, torch.randn(batch, len(layout), tokenizer.width, generator=rng))
    shape = (batch, len(layout), tokenizer.codes)
    return from_ids(layout, torch.randint(tokenizer.codebook_size, shape, generator=rng))
