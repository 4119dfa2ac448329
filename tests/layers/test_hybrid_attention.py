"""The state that goes from picture to picture, against its definition token by token."""

import torch

from limner.core.memory import PassReading
from limner.layers.hybrid_attention import HybridAttention, carried


def random(*shape, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def test_the_state_is_that_of_the_definition():
    rows, pictures, heads, count, size = 2, 3, 2, 4, 5
    query, key, value = (random(rows, pictures, heads, count, size, seed=s) for s in range(3))
    decay = -random(rows, pictures, heads, count, seed=3).abs()
    read, last = carried(query, key, value, decay)
    for row in range(rows):
        for head in range(heads):
            state = torch.zeros(size, size, dtype=torch.float64)
            for picture in range(pictures):
                at = (row, picture, head)
                faded = 0.0
                for token in range(count):
                    faded += decay[at][token]
                    expected = torch.exp(faded) * query[at][token] @ state
                    torch.testing.assert_close(read[at][token], expected)
                state = torch.exp(decay[at].mean()) * state
                for token in range(count):
                    state = state + torch.outer(key[at][token], value[at][token])
            torch.testing.assert_close(last[row, head], state)


def test_pictures_one_by_one_are_the_row_at_once():
    query, key, value = (random(2, 4, 2, 3, 5, seed=s) for s in range(3))
    decay = -random(2, 4, 2, 3, seed=3).abs()
    read, last = carried(query, key, value, decay)
    state = None
    for picture in range(4):
        one = slice(picture, picture + 1)
        part, state = carried(query[:, one], key[:, one], value[:, one], decay[:, one], state)
        torch.testing.assert_close(part, read[:, one])
    torch.testing.assert_close(state, last)


def test_a_picture_sees_all_of_itself_and_nothing_later():
    torch.manual_seed(0)
    layer = HybridAttention(8, 2, layer=0).double()
    x, vector = random(1, 3, 4, 8), random(1, 3, 1, 8, seed=1)
    before = layer(x, PassReading(), vector)
    changed = x.clone()
    changed[0, 1, 3] += 1
    moved = (layer(changed, PassReading(), vector) - before).abs().amax(-1)[0]
    assert torch.all(moved[0] == 0) and torch.all(moved[1:] > 1e-9)
