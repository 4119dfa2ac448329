"""Editing with a generator that draws scale by scale: what is given stays, the rest is drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from limner.core.errors import ConfigError
from limner.core.layout import grid, pyramid
from limner.data import load_packaged
from limner.models.var import VAR, VARConfig
from limner.pipeline import Pipeline, box_mask, tokens_under
from limner.pipeline.masks import place_on_canvas
from limner.tokenizers.patches import PatchMultiScale, PatchMultiScaleConfig
from tests.pipeline.small import ids

SIZE, CODES, SCALES = 16, 16, (1, 2, 3, 4)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Float [24, 3, 16, 16]."""
    return load_packaged(size=SIZE).to_float(slice(0, 1200, 50))


@pytest.fixture(scope="module")
def pipeline(pictures: Tensor) -> Pipeline:
    tokenizer = PatchMultiScale(
        PatchMultiScaleConfig(patch=4, width=8, codebook_size=CODES, scales=SCALES)
    )
    tokenizer.fit(pictures, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    config = VARConfig(32, 2, 2, CODES, latent=8, classes=3, scales=SCALES, gate_gain=1.0)
    model = VAR(config)
    torch.nn.init.normal_(model.output.weight, std=0.3)
    return Pipeline(tokenizer, model, ("Fox", "Oak", "Tulip"), (SIZE, SIZE))


def given_ids(pipeline: Pipeline, picture: Tensor) -> Tensor:
    """Int64 [N]."""
    found = pipeline.tokenizer.encode(picture[None]).ids
    assert found is not None
    return found[0, :, 0]


def test_masks_of_scales_follow_the_finest() -> None:
    layout = pyramid(((1, 1), (1, 3), (2, 2), (3, 3), (4, 4)))
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[1, 1] = True  # one pixel redraws its token
    mask[4:, 4:] = True
    redrawn = [tokens_under(mask, layout)[layout.span(k)] for k in range(len(layout.segments))]
    assert not redrawn[0].any() and not redrawn[1].any()  # so small that they are kept
    assert redrawn[2].tolist() == [False, False, False, True]
    assert redrawn[4].nonzero().flatten().tolist() == [0, 10, 11, 14, 15]
    kept = (~redrawn[4]).float().reshape(1, 1, 4, 4)
    wanted = functional.interpolate(kept, (3, 3), mode="bilinear", align_corners=False) <= 0.5
    assert torch.equal(redrawn[3], wanted.flatten())
    everything = tokens_under(torch.ones(8, 8, dtype=torch.bool), layout, kept=0)
    assert everything.all()
    single = tokens_under(mask[:2, :2], grid(1, 1))
    assert single.tolist() == [True]


def test_boxes() -> None:
    mask = box_mask((0.25, 0.5, 0.75, 1.0), (4, 8))
    assert mask.nonzero().tolist() == [[row, column] for row in (1, 2) for column in range(4, 8)]
    for box in ((0.5, 0, 0.5, 1), (-0.1, 0, 1, 1), (0, 0, 1, 1.5)):
        with pytest.raises(ConfigError, match="box="):
            box_mask(box, (4, 8))


def test_in_painting_holds_every_scale(pipeline: Pipeline, pictures: Tensor) -> None:
    mask = box_mask((0.0, 0.5, 1.0, 1.0), (SIZE, SIZE))
    result = pipeline.edit(pictures[3], mask, classes=["Fox"] * 6, guidance=2.0)
    given = given_ids(pipeline, pictures[3])
    redrawn = tokens_under(mask, result.tokens.layout)
    assert redrawn.any() and not redrawn.all()
    assert torch.equal(ids(result)[:, ~redrawn], given[~redrawn].expand(6, -1))
    assert (ids(result)[:, redrawn] != given[redrawn]).any(0).float().mean() > 0.7


def test_mixtures_are_drawn_around_what_is_held(pipeline: Pipeline, pictures: Tensor) -> None:
    mask = box_mask((0.0, 0.5, 1.0, 1.0), (SIZE, SIZE))
    asked: dict[str, Any] = {"classes": [0, 1], "seed": 4, "smooth": True}
    result = pipeline.edit(pictures[3], mask, **asked)
    codes = pipeline.tokenizer.code_vectors()
    values = result.tokens.values
    assert codes is not None and values is not None
    held = ~tokens_under(mask, result.tokens.layout)
    exact = codes[given_ids(pipeline, pictures[3])[held]]
    assert torch.equal(values[:, held], exact.expand(2, -1, -1))
    apart = torch.cdist(values[:, ~held], codes).amin(-1)
    assert (apart > 1e-3).float().mean() > 0.1  # no single codes
    assert result.settings[0]["smooth"] is True
    plain = pipeline.edit(pictures[3], mask, **{**asked, "smooth": False})
    assert (plain.pictures - result.pictures).abs().max() > 1e-3
    assert "smooth" not in plain.settings[0]
    again = pipeline.edit(pictures[3], mask, **{**asked, "classes": [0]})
    torch.testing.assert_close(again.pictures[0], result.pictures[0], rtol=0, atol=1e-4)


def test_out_painting_draws_what_the_picture_does_not_cover(
    pipeline: Pipeline, pictures: Tensor
) -> None:
    small = pictures[2][:, :8, :8]
    result = pipeline.out_paint(small, (0, 4), classes=[1] * 6)
    canvas, inside = place_on_canvas(small, (SIZE, SIZE), (0, 4))
    assert inside.nonzero().amin(0).tolist() == [0, 4]
    assert inside.nonzero().amax(0).tolist() == [7, 11]
    assert torch.equal(canvas[:, :8, 4:12], small)
    assert torch.equal(canvas[:, :8, 15], small[:, :, 7])
    known = ~tokens_under(~inside, result.tokens.layout, kept=0)
    finest = known[result.tokens.layout.span(3)].reshape(4, 4)
    assert finest.nonzero().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    assert not known[0]  # most of the canvas is drawn: so is what sums it up
    assert torch.equal(ids(result)[:, known], given_ids(pipeline, canvas)[known].expand(6, -1))
    assert len(ids(result)[:, ~known].unique(dim=0)) == 6

    shifted = pipeline.out_paint(pictures[2], (-8, 0), classes=[1])
    canvas, inside = place_on_canvas(pictures[2], (SIZE, SIZE), (-8, 0))
    assert torch.equal(canvas[:, :8], pictures[2][:, 8:])
    known = ~tokens_under(~inside, shifted.tokens.layout, kept=0)
    assert known.any()
    assert torch.equal(ids(shifted)[0, known], given_ids(pipeline, canvas)[known])


def test_refining_keeps_coarse_scales(pipeline: Pipeline, pictures: Tensor) -> None:
    result = pipeline.refine(pictures[5], 2, classes=[0] * 4)
    given = given_ids(pipeline, pictures[5])
    assert torch.equal(ids(result)[:, :5], given[:5].expand(4, -1))
    assert len(ids(result)[:, 5:].unique(dim=0)) == 4


def test_upscaling_takes_scales_that_a_small_picture_has(
    pipeline: Pipeline, pictures: Tensor
) -> None:
    small = functional.interpolate(pictures[5:6], (8, 8), mode="area")[0]
    enlarged = functional.interpolate(small[None], (SIZE, SIZE), mode="bicubic")[0].clamp(-1, 1)
    given = given_ids(pipeline, enlarged)
    result = pipeline.upscale(small, classes=[0] * 4)
    assert result.pictures.shape == (4, 3, SIZE, SIZE)
    assert torch.equal(ids(result)[:, :5], given[:5].expand(4, -1))  # 1x1 and 2x2 tokens
    assert len(ids(result)[:, 5:].unique(dim=0)) == 4
    more = pipeline.upscale(small, 3, classes=[0] * 4)
    assert torch.equal(ids(more)[:, :14], given[:14].expand(4, -1))


@pytest.mark.parametrize(
    ("verb", "arguments", "message"),
    [
        ("edit", (torch.zeros(16, 16),), "mask is empty"),
        ("edit", (torch.ones(16, 16),), "mask is full"),
        ("edit", (torch.ones(16, 8),), "mask='16x8'"),
        ("out_paint", (), "place='0,0' .* leaves something to draw"),
        ("out_paint", ((16, 0),), "place='16,0' .* on the canvas"),
        ("out_paint", ((14, 14),), "covers no whole token"),
        ("refine", (0,), "keep=0 .* from 1 to 3, of 4 scales"),
        ("refine", (4,), "keep=4"),
        ("upscale", (), "size='16x16' .* larger than the picture's 16x16"),
    ],
)
def test_edits_that_cannot_be_done(
    pipeline: Pipeline, pictures: Tensor, verb: str, arguments: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        getattr(pipeline, verb)(pictures[0], *arguments, classes=[0])


def test_sizes_that_the_generator_cannot_draw(pipeline: Pipeline, pictures: Tensor) -> None:
    with pytest.raises(ConfigError, match="scales="):
        pipeline.out_paint(pictures[0], classes=[0], size=(32, 32))
    with pytest.raises(ConfigError, match="of the same shape"):
        pipeline.upscale(pictures[0], classes=[0], size=(32, 48))


def test_generators_without_scales(tiny_pipeline: Pipeline, pictures: Tensor) -> None:
    for verb, arguments in (("refine", (1,)), ("upscale", ())):
        picture = pictures[0][:, :8, :8] if verb == "upscale" else pictures[0]
        with pytest.raises(ConfigError, match="PatchKMeans has no scales"):
            getattr(tiny_pipeline, verb)(picture, *arguments, classes=[0])
    with pytest.raises(ConfigError, match=r"smooth=True .* PatchKMeans cannot be mixed"):
        tiny_pipeline(classes=[0], smooth=True)
    wide = tiny_pipeline.out_paint(Image.new("RGB", (8, 16)), (0, 0), classes=[0], size=(16, 24))
    assert wide.pictures.shape == (1, 3, 16, 24)
