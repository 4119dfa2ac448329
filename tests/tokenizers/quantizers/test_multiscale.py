"""The multi-scale residual quantiser and canvas."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from limner.core.errors import ConfigError
from limner.core.layout import pyramid
from limner.core.tokens import Tokens, from_ids
from limner.tokenizers.quantizers.multiscale import (
    MultiScaleConfig,
    MultiScaleQuantizer,
    phi_index,
    stretched_pyramid,
)

SCALES = pyramid(((1, 1), (2, 2), (3, 3), (6, 6)))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def quantizer(ratio: float = 0.5, count: int = 4) -> MultiScaleQuantizer:
    torch.manual_seed(0)
    made = MultiScaleQuantizer(MultiScaleConfig(32, 5, phi_count=count, phi_ratio=ratio))
    torch.nn.init.normal_(made.codebook.weight)
    return made.requires_grad_(False)


def smooth_latents(count: int, seed: int = 0) -> torch.Tensor:
    coarse = torch.randn(count, 5, 3, 3, generator=rng(seed))
    smooth = torch.nn.functional.interpolate(coarse, size=(6, 6), mode="bilinear")
    return smooth + 0.2 * torch.randn(count, 5, 6, 6, generator=rng(seed + 1))


@pytest.mark.parametrize(
    "expected",
    [
        [0, 0, 1, 1, 1, 2, 2, 3, 3, 3],
        [0, 0, 1, 1, 2, 2, 2, 3, 3],
        [0, 0, 1, 1, 2, 2, 3, 3],
        [0, 0, 1, 2, 2, 3, 3],
        [0, 0, 1, 2, 3, 3],
        [0, 1, 2, 2, 3],
        [0, 1, 2, 3],
        [0, 2, 3],
        [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3],
    ],
)
def test_phi_index_is_the_published_one(expected: list[int]) -> None:
    assert [phi_index(k, len(expected), 4) for k in range(len(expected))] == expected


def test_phi_index_with_one_for_all_or_one_each() -> None:
    assert [phi_index(k, 10, 1) for k in range(10)] == [0] * 10
    for count in range(1, 15):
        assert [phi_index(k, count, count) for k in range(count)] == list(range(count))


@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_teaching_inputs_are_those_of_drawing_step_by_step(ratio: float) -> None:
    canvas_of = quantizer(ratio)
    tokens = canvas_of.encode(smooth_latents(3), SCALES)
    taught, targets = canvas_of.teach(tokens)
    assert taught is not None and taught.shape == (3, len(SCALES), 5)
    assert targets is tokens
    canvas = None
    for segment in range(4):
        seen = canvas_of.read(canvas, tokens, segment)
        assert torch.equal(taught[:, SCALES.span(segment)], seen)
        assert (segment == 0) == bool((seen == 0).all())
        canvas = canvas_of.add(canvas, tokens, segment)
    assert canvas is not None
    assert torch.equal(canvas_of.decode(tokens), canvas)


def test_a_scale_is_taught_by_coarser_scales_only() -> None:
    canvas_of = quantizer()
    tokens = canvas_of.encode(smooth_latents(2), SCALES)
    changed = tokens.clone()
    assert changed.ids is not None
    third = SCALES.span(2)
    changed.ids[:, third] = (changed.ids[:, third] + 1) % 32
    before, after = canvas_of.teach(tokens)[0], canvas_of.teach(changed)[0]
    assert before is not None and after is not None
    assert torch.equal(before[:, : third.stop], after[:, : third.stop])
    assert not torch.equal(before[:, third.stop :], after[:, third.stop :])


def test_last_scale_quantises_the_rest() -> None:
    """With one scale and no phi the quantiser is its codebook."""
    plain = quantizer(0.0)
    latents = smooth_latents(2)
    tokens = plain.encode(latents, pyramid(((6, 6),)))
    assert tokens.ids is not None
    expected = plain.codebook.nearest(latents.movedim(1, -1)).flatten(1)
    assert torch.equal(tokens.ids[..., 0], expected)


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_fitted_error_falls_with_every_scale(ratio: float) -> None:
    fitted = quantizer(ratio)
    fitted.fit(smooth_latents(200), SCALES, rng())
    latents = smooth_latents(20, seed=7)
    tokens = fitted.encode(latents, SCALES)
    errors = [latents.square().mean().item()]
    for segment in range(4):
        known = torch.zeros_like(tokens.known)
        known[:, : SCALES.span(segment).stop] = True
        prefix = fitted.decode(Tokens(SCALES, tokens.ids, None, known))
        errors.append((latents - prefix).square().mean().item())
    assert all(later < earlier for earlier, later in pairwise(errors))
    assert errors[-1] < 0.5 * errors[1]


def test_fitting_phi_helps_and_does_not_depend_on_its_start() -> None:
    errors, weights = [], []
    for ratio, seed in ((0.0, 0), (1.0, 1), (1.0, 2)):
        fitted = quantizer(ratio)
        torch.manual_seed(seed)
        for phi in fitted.phi:
            for parameter in phi.parameters():
                torch.nn.init.normal_(parameter)
        fitted.fit(smooth_latents(200), SCALES, rng())
        latents = smooth_latents(20, seed=7)
        error = (latents - fitted.decode(fitted.encode(latents, SCALES))).square().mean()
        errors.append(error.item())
        weights.append(fitted.codebook.weight)
    assert errors[1] < errors[0]
    assert torch.equal(weights[1], weights[2])


def test_rows_may_know_different_scales() -> None:
    canvas_of = quantizer()
    tokens = canvas_of.encode(smooth_latents(2), SCALES)
    known = torch.zeros_like(tokens.known)
    known[0, : SCALES.span(1).stop] = True
    decoded = canvas_of.decode(Tokens(SCALES, tokens.ids, None, known))
    two_scales = canvas_of.add(canvas_of.add(None, tokens, 0), tokens, 1)
    assert torch.equal(decoded[0], two_scales[0])
    assert (decoded[1] == 0).all()


def test_scales_are_chosen_at_call_time() -> None:
    canvas_of = quantizer()
    layout = pyramid(((1, 1), (2, 3), (4, 7)))
    latents = torch.randn(1, 5, 4, 7, generator=rng())
    tokens = canvas_of.encode(latents, layout)
    assert tokens.ids is not None and tokens.ids.shape == (1, 1 + 6 + 28, 1)
    assert canvas_of.decode(tokens).shape == latents.shape


def test_training_losses_reach_codes_phi_and_encoder() -> None:
    trained = quantizer(count=4).requires_grad_(True)
    latents = smooth_latents(2).requires_grad_(True)
    out = trained(latents, SCALES)
    torch.testing.assert_close(out.values, trained.decode(trained.encode(latents, SCALES)))
    (through,) = torch.autograd.grad(out.values.sum(), latents, retain_graph=True)
    assert torch.equal(through, torch.ones_like(latents))
    torch.testing.assert_close(out.losses["commitment"], 0.25 * out.losses["vq"])
    sum(out.losses.values()).backward()
    assert latents.grad is not None
    for name, parameter in trained.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_wrong_last_scale_is_named() -> None:
    with pytest.raises(ConfigError, match=r"scales=.*5x5"):
        quantizer().encode(torch.randn(1, 5, 5, 5), SCALES)


def test_stretched_pyramid_fits_any_grid() -> None:
    assert [s.size[1:] for s in stretched_pyramid((1, 2, 4), 4, 4).segments] == [
        (1, 1), (2, 2), (4, 4),
    ]  # fmt: skip
    assert stretched_pyramid((1, 2, 3, 4, 6, 8), 16, 8).segments[-1].size == (1, 16, 8)
    small = [s.size[1:] for s in stretched_pyramid((1, 2, 3, 4, 6, 8), 2, 2).segments]
    assert small == [(1, 1), (2, 2)]


def test_half_precision_products_leave_what_is_read_as_it_is() -> None:
    canvas = quantizer()
    tokens = from_ids(SCALES, torch.randint(32, (2, len(SCALES)), generator=rng()))
    plain, _ = canvas.teach(tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, _ = canvas.teach(tokens)
    assert torch.equal(plain, inside)
