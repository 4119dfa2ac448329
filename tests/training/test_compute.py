"""Operations are counted to the last one, whatever computes the products."""

from __future__ import annotations

import pytest
import torch

from limner.layers import linear as layers
from limner.pipeline import Pipeline
from limner.training.compute import flops_per_example


def counted(pipeline: Pipeline) -> int:
    """Operations of an example of a LlamaGen, by hand: three times those of its forward pass."""
    config = pipeline.generator.config
    places, width = len(pipeline.tokenizer.layout(*pipeline.size)), config.width
    block = 4 * width**2 + 3 * width * config.hidden  # queries, keys, values, out; the MLP
    attention = 2 * places * width
    return 3 * 2 * places * (config.depth * (block + attention) + width * config.codebook_size)


def test_operations_of_a_small_network(tiny_pipeline: Pipeline) -> None:
    assert flops_per_example(tiny_pipeline) == counted(tiny_pipeline)
    assert flops_per_example(tiny_pipeline, 3) == counted(tiny_pipeline)


def test_products_of_another_library_are_counted_too(
    tiny_pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not layers._HAS_ONEDNN:
        pytest.skip("this build has no other library")
    monkeypatch.setattr(layers, "_SMALL", 0)
    assert flops_per_example(tiny_pipeline) == counted(tiny_pipeline)


def test_nothing_is_left_behind(tiny_pipeline: Pipeline) -> None:
    state = torch.get_rng_state()
    flops_per_example(tiny_pipeline)
    assert all(weight.grad is None for weight in tiny_pipeline.generator.parameters())
    assert torch.equal(torch.get_rng_state(), state)
