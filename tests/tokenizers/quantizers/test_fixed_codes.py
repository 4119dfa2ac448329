"""FSQ, LFQ and BSQ against brute force."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.metrics.codebook import usage
from limner.tokenizers.quantizers.bits import pack, unpack
from limner.tokenizers.quantizers.bsq import BSQ, BSQConfig
from limner.tokenizers.quantizers.fsq import FSQ, FSQConfig
from limner.tokenizers.quantizers.lfq import LFQ, LFQConfig

LEVELS = st.lists(st.integers(2, 6), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(levels=LEVELS, symmetric=st.booleans())
def test_every_id_of_fsq_is_another_code(levels: list[int], symmetric: bool) -> None:
    quantizer = FSQ(FSQConfig(levels=tuple(levels), symmetric=symmetric))
    ids = torch.arange(math.prod(levels))
    codes = quantizer.lookup(ids)
    # channel 0 varies fastest
    chosen = [tuple(reversed(place)) for place in itertools.product(*map(range, reversed(levels)))]
    assert torch.equal(quantizer.level_ids(ids), torch.tensor(chosen))
    assert torch.equal(quantizer._pack(quantizer._level_of(codes)), ids)
    assert len(codes.unique(dim=0)) == len(ids)
    assert codes.abs().max() <= 1


@settings(max_examples=40, deadline=None)
@given(levels=LEVELS, seed=st.integers(0, 99))
def test_fsq_takes_the_nearest_level_of_the_bounded_value(levels: list[int], seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    vectors = 3 * torch.randn(30, len(levels), generator=rng)
    quantizer = FSQ(FSQConfig(levels=tuple(levels)))
    chosen = quantizer.level_ids(quantizer.nearest(vectors))
    for channel, count in enumerate(levels):
        reach = (count - 1) * 1.001 / 2
        offset = 0.5 if count % 2 == 0 else 0.0
        shift = math.atanh(offset / reach)
        for value, level in zip(vectors[:, channel].tolist(), chosen[:, channel], strict=True):
            bounded = math.tanh(value + shift) * reach - offset
            distances = [abs(bounded - (other - count // 2)) for other in range(count)]
            assert distances[level] <= min(distances) + 1e-5


def test_zero_is_a_level_of_odd_counts_and_extremes_are_reached() -> None:
    quantizer = FSQ(FSQConfig(levels=(5, 5)))
    values = quantizer(torch.tensor([[0.0, 0.0], [20.0, -20.0]])).values
    torch.testing.assert_close(values, torch.tensor([[0.0, 0.0], [1.0, -1.0]]))


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 62), data=st.data())
def test_bits_there_and_back(count: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, 2**count - 1))
    bits = unpack(torch.tensor(number), count)
    assert "".join(str(int(bit)) for bit in bits) == format(number, f"0{count}b")
    assert int(pack(bits)) == number


@pytest.mark.parametrize(
    "quantizer",
    [LFQ(LFQConfig(bits=5)), LFQ(LFQConfig(bits=5, spherical=True)), BSQ(BSQConfig(bits=5))],
    ids=["lfq", "spherical", "bsq"],
)
def test_signs_are_the_nearest_code(quantizer: LFQ | BSQ) -> None:
    codes = quantizer.lookup(torch.arange(32))
    assert len(codes.unique(dim=0)) == 32
    vectors = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(quantizer.nearest(vectors), (vectors @ codes.T).argmax(dim=1))
    assert quantizer.nearest(torch.zeros(5)) == 0


def test_entropies_of_bsq_by_brute_force() -> None:
    unit = torch.nn.functional.normalize(torch.randn(7, 6), dim=-1)
    quantizer = BSQ(BSQConfig(bits=6, group=3, entropy_by="group", sharpness=2.0))
    codes = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3))) / math.sqrt(6)
    single, mean = 0.0, 0.0
    for part in unit.split(3, dim=1):
        distance = torch.cdist(part, codes).square()
        chances = (-2.0 * distance).softmax(dim=1)
        single += float(-(chances * chances.log()).sum(dim=1).mean())
        used = chances.mean(dim=0)
        mean += float(-(used * used.log()).sum())
    found = quantizer.entropies(unit)
    assert float(found.single) == pytest.approx(single, rel=1e-5)
    assert float(found.mean) == pytest.approx(mean, rel=1e-5)
    # of independent bits, the entropy of a group is the sum of its bits'
    by_bit = BSQ(BSQConfig(bits=6, group=3, entropy_by="bit", sharpness=2.0)).entropies(unit)
    assert float(by_bit.single) == pytest.approx(single, rel=1e-5)


@pytest.mark.parametrize(
    "quantizer", [LFQ(LFQConfig(bits=4, sharpness=2.0)), BSQ(BSQConfig(bits=4))], ids=["lfq", "bsq"]
)
def test_the_entropy_loss_spreads_vectors_over_codes(quantizer: LFQ | BSQ) -> None:
    rng = torch.Generator().manual_seed(0)
    vectors = (0.3 + 0.2 * torch.randn(64, 4, generator=rng)).requires_grad_()
    before = usage(quantizer.nearest(vectors), 16)
    optimizer = torch.optim.Adam([vectors], lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        quantizer(vectors).losses["entropy"].backward()
        optimizer.step()
    after = usage(quantizer.nearest(vectors), 16)
    assert after.share > before.share and after.perplexity > 1.5 * before.perplexity
