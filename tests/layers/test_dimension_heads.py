"""Heads by dimension: each entry is said by its own head, and means are one product."""

import torch
from torch import nn

from limner.layers.dimension_heads import by_norms, by_outputs, side_by_side


def test_entries_are_said_by_their_own_head_and_slot():
    rng = torch.Generator().manual_seed(0)
    streams = [torch.randn(2, 3, 4, generator=rng) for _ in range(2)]
    norms, outputs = [nn.LayerNorm(4), nn.LayerNorm(4)], [nn.Linear(4, 5), nn.Linear(4, 5)]
    # rows with other entries, as in a batch of rows at different steps
    speaks = torch.tensor([[[2, 0, 3], [0, 1, 4], [1, 1, 5]], [[1, 0, 2], [1, 1, 2], [0, 0, -1]]])
    logits = by_outputs(by_norms(streams, norms, speaks), outputs, speaks)
    for row in range(2):
        for entry, (slot, head, _) in enumerate(speaks[row].tolist()):
            wanted = outputs[head](norms[head](streams[head][row, slot]))
            torch.testing.assert_close(logits[row, entry], wanted)


def test_a_head_that_nobody_speaks_with_is_left_out():
    speaks = torch.tensor([[[0, 0, 1]]])
    streams = [torch.ones(1, 1, 2)] * 2
    assert by_norms(streams, [nn.Identity()] * 2, speaks).tolist() == [[[1.0, 1.0]]]


def test_mean_logits_are_one_product():
    rng = torch.Generator().manual_seed(0)
    speaks = torch.tensor([[0, 0, 0], [0, 1, 0], [1, 0, 1]])
    shares = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    hidden = torch.randn(2, 3, 4, generator=rng)
    outputs = [nn.Linear(4, 5, bias=False) for _ in range(2)]
    side = side_by_side(hidden, speaks, shares)
    logits = side @ torch.cat([output.weight for output in outputs], dim=1).T
    each = by_outputs(hidden, outputs, speaks.expand(2, -1, -1))
    torch.testing.assert_close(logits[:, 0], (each[:, 0] + each[:, 1]) / 2)
    torch.testing.assert_close(logits[:, 1], each[:, 2])
