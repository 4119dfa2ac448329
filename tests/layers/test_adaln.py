"""VAR's block and attention against their equations."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from limner.core.memory import NoMemory, PassReading
from limner.core.slots import Slots, batch, everything
from limner.layers.adaln import (
    AdaLNBlock,
    AdaLNMixerBlock,
    AdaLNOutput,
    DropPath,
    Modulation,
    SharedModulation,
    rotary_block,
)
from limner.layers.cosine_attention import BiasedAttention, CosineAttention
from limner.layers.mamba import Mamba2
from limner.layers.mlp import MLP

WIDTH, HEADS, LENGTH = 12, 3, 5


def reading() -> object:
    place = torch.arange(LENGTH)
    slots = batch([Slots.of(place, place, torch.empty(0, 3, dtype=torch.int64))] * 2)
    return NoMemory().read([], slots, everything)


def randomise(module: torch.nn.Module) -> torch.nn.Module:
    rng = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=rng)
    return module.double()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, LENGTH, WIDTH, generator=torch.Generator().manual_seed(1)).double()


def attended(layer: BiasedAttention, x: Tensor, cosine: bool) -> Tensor:
    """Attention head by head, from the equations."""
    query, key, value = (x @ layer.qkv.weight.T).split(WIDTH, dim=-1)
    query, value = query + layer.query_bias, value + layer.value_bias
    mixed = []
    for head in range(HEADS):
        part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
        q, k = query[..., part], key[..., part]
        if cosine:
            scale = math.exp(min(layer.log_scale[head].item(), math.log(100)))
            q, k = q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True)
        else:
            scale = 0.25 / math.sqrt(WIDTH // HEADS)
        mixed.append((scale * q @ k.transpose(1, 2)).softmax(-1) @ value[..., part])
    return layer.out(torch.cat(mixed, dim=-1))


@pytest.mark.parametrize("cosine", [True, False])
@torch.no_grad()
def test_attention(x: Tensor, cosine: bool) -> None:
    layer = randomise((CosineAttention if cosine else BiasedAttention)(WIDTH, HEADS, 0))
    if cosine:
        layer.log_scale[1] = 9.0  # above the limit
    torch.testing.assert_close(layer(x, reading()), attended(layer, x, cosine))


def test_scales_start_at_four_and_the_limit_acts_at_use_only() -> None:
    layer = CosineAttention(WIDTH, HEADS, 0)
    torch.testing.assert_close(layer.log_scale.exp(), torch.full((HEADS,), 4.0))
    with torch.no_grad():
        layer.log_scale[0] = 9.0
    layer(torch.randn(2, LENGTH, WIDTH), reading())
    assert layer.log_scale[0] == 9.0


@pytest.mark.parametrize("shared", [True, False])
@torch.no_grad()
def test_block_gates_scales_and_shifts_by_kind(x: Tensor, shared: bool) -> None:
    modulation = SharedModulation(WIDTH) if shared else Modulation(WIDTH)
    attention, mlp = CosineAttention(WIDTH, HEADS, 0), MLP(WIDTH, 24, "gelu-tanh")
    block = randomise(AdaLNBlock(WIDTH, attention, mlp, modulation))
    vector = torch.randn(2, 1, 6, WIDTH).double() if shared else torch.randn(2, 1, WIDTH).double()
    if shared:
        chunks = vector[:, 0] + modulation.offset
    else:
        chunks = modulation.linear(functional.silu(vector))[:, 0].reshape(2, 6, WIDTH)
    gate1, gate2, scale1, scale2, shift1, shift2 = (chunks[:, i, None] for i in range(6))

    def norm(y: Tensor) -> Tensor:
        centred = y - y.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    y = x + gate1 * attention(norm(x) * (1 + scale1) + shift1, reading())
    y = y + gate2 * mlp(norm(y) * (1 + scale2) + shift2)
    torch.testing.assert_close(block(x, reading(), vector), y)

    output = randomise(AdaLNOutput(WIDTH))
    vector = vector[:, :, 0] if shared else vector
    scale, shift = output.modulation.linear(functional.silu(vector)).split(WIDTH, dim=-1)
    torch.testing.assert_close(output(x, vector), norm(x) * (1 + scale) + shift)


def test_a_mixer_stands_between_attention_and_mlp(x: Tensor) -> None:
    attention, mlp = BiasedAttention(WIDTH, HEADS, 0), MLP(WIDTH, 24, "gelu-tanh")
    mixer = Mamba2(WIDTH, 0, state=3, head_width=8)
    block = randomise(AdaLNMixerBlock(WIDTH, attention, mixer, mlp))
    vector = torch.randn(2, 1, WIDTH).double()
    chunks = block.modulation.linear(functional.silu(vector)).reshape(2, 3, 3, 1, WIDTH)
    y = x
    for index, branch in enumerate((attention, mixer, mlp)):
        gate, scale, shift = chunks[:, 0, index], chunks[:, 1, index], chunks[:, 2, index]
        inner = functional.layer_norm(y, (WIDTH,), eps=1e-6) * (1 + scale) + shift
        y = y + gate * (branch(inner) if branch is mlp else branch(inner, reading()))
    torch.testing.assert_close(block(x, reading(), vector), y)


def test_drop_path_leaves_out_whole_rows_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer, ones = DropPath(0.25), torch.ones(4000, 3, 2)
    out = layer(ones)
    by_row = out.flatten(1)
    assert (by_row == by_row[:, :1]).all()
    values = by_row[:, 0].unique().tolist()
    assert values == pytest.approx([0, 4 / 3])
    # share left out: standard error 0.0068
    assert (by_row[:, 0] == 0).double().mean().item() == pytest.approx(0.25, abs=0.035)
    assert layer.eval()(ones) is ones and DropPath(0.0)(ones) is ones


@torch.no_grad()
def test_chunks_are_kept_while_condition_and_weights_stay() -> None:
    layer = Modulation(8, chunks=2)
    condition = torch.randn(3, 1, 8, generator=torch.Generator().manual_seed(0))
    first = layer(condition)
    assert layer(condition.clone()) is first
    other = layer(condition + 1)
    assert not torch.equal(other, first) and torch.equal(layer(condition), first)
    layer.linear.bias += 1
    torch.testing.assert_close(layer(condition), first + 1)
    layer.load_state_dict({name: torch.zeros_like(w) for name, w in layer.state_dict().items()})
    assert not layer(condition).any()


def test_chunks_that_are_learned_are_computed_anew() -> None:
    layer, condition = Modulation(8, chunks=2), torch.ones(3, 1, 8)
    with torch.no_grad():
        layer(condition)
    layer(condition).sum().backward()
    assert layer.linear.weight.grad is not None
    with torch.inference_mode():
        assert layer(condition).shape == (3, 1, 2, 8)


def test_a_copy_of_a_compiled_block_reads_its_own_weights() -> None:
    torch.manual_seed(0)
    block = rotary_block(8, 2, 0).eval()
    block.compile(backend="eager")
    other = copy.deepcopy(block)
    x, vector = torch.randn(1, 3, 8), torch.randn(1, 1, 8)
    with torch.no_grad():
        for weight in (*other.attention.parameters(), *other.mlp.parameters()):
            weight.zero_()
        assert torch.equal(other(x, PassReading(None), vector), x)
        assert not torch.equal(block(x, PassReading(None), vector), x)
