"""Bits on a pyramid, and their flips in training."""

import pytest
import torch
from torch.nn import functional

from limner.core.canvas import read_all
from limner.core.errors import ConfigError
from limner.core.layout import pyramid
from limner.core.tokens import Tokens
from limner.tokenizers.quantizers.multiscale_bits import MultiScaleBits, MultiScaleBitsConfig

LAYOUT = pyramid(((1, 1), (2, 2), (3, 4), (6, 8)))


def latents(width=6, patch=1):
    rng = torch.Generator().manual_seed(0)
    coarse = torch.randn(3, width, 4, 4, generator=rng)
    return 0.4 * functional.interpolate(coarse, size=(6 * patch, 8 * patch), mode="bicubic")


def quantizer(**changes):
    return MultiScaleBits(MultiScaleBitsConfig(**{"width": 6, **changes}))


def test_bits_are_the_signs_of_what_is_left_and_codes_have_length_one():
    model, given = quantizer(), latents()
    bits = model.encode(given, LAYOUT).ids
    rest = given
    for segment, part in enumerate(LAYOUT.segments):
        size = part.size[1:]
        pooled = functional.adaptive_avg_pool2d(rest, size)
        own = bits[:, LAYOUT.span(segment)].transpose(1, 2).unflatten(2, size)
        assert torch.equal(own, (pooled > 0).long())
        codes = (2.0 * own - 1) / 6**0.5
        torch.testing.assert_close(codes.norm(dim=1), torch.ones(3, *size))
        up = functional.interpolate(codes.unsqueeze(2), (1, 6, 8), mode="trilinear").squeeze(2)
        rest = rest - up
    torch.testing.assert_close(given - rest, model.decode(model.encode(given, LAYOUT)))


def test_later_scales_come_nearer():
    model, given = quantizer(), 2 * latents()
    tokens = model.encode(given, LAYOUT)
    places, errors = torch.arange(len(LAYOUT)), []
    for segment in range(len(LAYOUT.segments)):
        known = (places < LAYOUT.span(segment).stop).expand_as(tokens.known)
        shown = model.decode(Tokens(LAYOUT, tokens.ids, None, known))
        errors.append(float((shown - given).square().mean()))
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("patch", [1, 2])
def test_taught_inputs_are_those_that_are_read_while_drawing(patch):
    model = quantizer(patch=patch)
    tokens = model.encode(latents(patch=patch), LAYOUT)
    fed, targets = model.teach(tokens)
    torch.testing.assert_close(fed, read_all(model, tokens))
    canvas = None
    for segment in range(len(LAYOUT.segments)):
        canvas = model.add(canvas, tokens, segment)
    torch.testing.assert_close(model.decode(tokens), canvas)
    assert torch.equal(targets.ids, tokens.ids)
    assert fed.shape == (3, len(LAYOUT), 6 * patch**2)


def test_a_patch_is_a_square_of_codes():
    square, plain = quantizer(patch=2), quantizer()
    given = latents(patch=2)
    fine = pyramid(tuple((2 * s.size[1], 2 * s.size[2]) for s in LAYOUT.segments))
    tokens, codes = square.encode(given, LAYOUT), plain.encode(given, fine)
    torch.testing.assert_close(square.decode(tokens), plain.decode(codes))
    first = codes.ids[0, :4].T.reshape(-1)  # by channel, then rows and columns of the square
    assert torch.equal(tokens.ids[0, 0], first)


def test_flips_with_strength_zero_change_nothing():
    model = quantizer(flip_strength=0.0)
    tokens = model.encode(latents(), LAYOUT)
    fed, targets = model.teach(tokens, torch.Generator().manual_seed(1))
    plain, same = model.teach(tokens)
    assert torch.equal(fed, plain) and torch.equal(targets.ids, same.ids)


def test_what_was_flipped_is_read_and_later_bits_mend_it():
    model, given = quantizer(), latents()
    tokens = model.encode(given, LAYOUT)
    flip = torch.zeros(3, 1, 6, dtype=torch.bool)
    flip[0, 0, 2] = True
    inputs, bits = model.corrected(given, LAYOUT, [flip])
    first = LAYOUT.span(0)
    assert torch.equal(bits[:, first], tokens.ids[:, first])  # what is to be learned is not flipped
    assert torch.equal(bits[1:], tokens.ids[1:])
    moved = inputs[0, LAYOUT.span(1)] - model.corrected(given, LAYOUT, ())[0][0, LAYOUT.span(1)]
    sign = 1.0 - 2.0 * tokens.ids[0, 0, 2]
    assert torch.allclose(moved[:, 2], sign * 2 / 6**0.5) and not moved[:, [0, 1, 3, 4, 5]].any()
    mended = Tokens(LAYOUT, bits.clone(), None, tokens.known)
    mended.ids[:, first] ^= flip.long()
    kept = Tokens(LAYOUT, tokens.ids.clone(), None, tokens.known)
    kept.ids[:, first] ^= flip.long()
    errors = [(model.decode(each) - given)[0].square().mean() for each in (mended, kept)]
    assert errors[0] < errors[1]


def test_latents_beside_bits_are_what_flips_are_mended_by():
    model, given = quantizer(patch=2), latents(patch=2)
    tokens = model.encode(given, LAYOUT)
    last = LAYOUT.span(len(LAYOUT.segments) - 1)
    values = torch.zeros(3, len(LAYOUT), 24)
    values[:, last] = functional.pixel_unshuffle(given, 2).flatten(2).transpose(1, 2)
    beside = Tokens(LAYOUT, tokens.ids, values, tokens.known)
    rng = torch.Generator().manual_seed(3)
    flips = model._flips(tokens, torch.Generator().manual_seed(3))
    fed, targets = model.teach(beside, rng)
    inputs, bits = model.corrected(given, LAYOUT, flips)
    assert torch.equal(targets.ids, bits)
    torch.testing.assert_close(fed, inputs)


def test_flipped_shares_are_hundredths_up_to_the_strength():
    model = quantizer(width=32, flip_strength=0.3, flipped_scales=2)
    tokens = Tokens(LAYOUT, None, None, torch.ones(64, len(LAYOUT), dtype=torch.bool))
    shares = []
    for seed in range(30):
        flips = model._flips(tokens, torch.Generator().manual_seed(seed))
        assert len(flips) == 2
        shares.append(float(flips[1].float().mean()))
    assert max(shares) < 0.32 and max(shares) > 0.2 and min(shares) < 0.1


def test_training_pulls_residuals_to_codes():
    model, given = quantizer(commitment=1.0), latents().requires_grad_()
    quantized = model(given, LAYOUT)
    tokens = model.encode(given.detach(), LAYOUT)
    assert torch.equal(quantized.ids, tokens.ids)
    torch.testing.assert_close(quantized.values, model.decode(tokens))
    assert quantized.vectors is not None and torch.equal(quantized.vectors > 0, tokens.ids > 0)
    quantized.loss.backward()
    assert given.grad is not None and given.grad.abs().sum() > 0


def test_bad_input():
    with pytest.raises(ConfigError, match="scales"):
        quantizer().encode(latents()[..., :-1], LAYOUT)
    with pytest.raises(ConfigError, match="flip_strength"):
        MultiScaleBitsConfig(flip_strength=1.5)
    with pytest.raises(ConfigError, match="width"):
        MultiScaleBitsConfig(width=100)
