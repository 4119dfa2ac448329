"""FlexVAR's tokenizer: every scale is a whole picture, whatever the other scales are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import ConfigError
from limner.core.registry import TOKENIZERS
from limner.core.tokens import Tokens
from limner.data import load_packaged
from limner.hub.convert import detect
from limner.hub.official.flexvar import TOKENIZER
from limner.hub.official.llamagen import VQ
from limner.layers.convolution import ConvolutionConfig
from limner.metrics.pixels import psnr
from limner.tokenizers.flexvar_vq import FlexVARVQ, FlexVARVQConfig
from limner.tokenizers.patch_scales import PatchScales, PatchScalesConfig
from limner.tokenizers.patches import PatchMultiScale, PatchMultiScaleConfig

CONVOLUTION = ConvolutionConfig(
    channels=32, multipliers=(1, 1, 1), blocks=1, encoder_attention=(), decoder_attention=()
)
SCALES = (1, 2, 3, 4, 5, 6)
RESIDUAL_SCALES = (1, 2, 3, 4, 6, 8)


@pytest.fixture(scope="module")
def tokenizer() -> FlexVARVQ:
    torch.manual_seed(0)
    config = FlexVARVQConfig(
        CONVOLUTION, 8, codebook_size=32, codebook_width=8, scales=SCALES, sizes=3
    )
    return FlexVARVQ(config).eval()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Float [3, 3, 24, 24]."""
    return torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1


def known_up_to(tokens: Tokens, scales: list[int]) -> Tokens:
    """Return the tokens of which row r knows so many scales."""
    known = tokens.layout.segment_of() < torch.tensor(scales)[:, None]
    return replace(tokens, known=known)


def test_published_parameter_count() -> None:
    with torch.device("meta"):
        built = TOKENIZERS.create("flexvar-vq")
    assert sum(parameter.numel() for parameter in built.parameters()) == 72_049_827
    assert built.codebook_size == 8912 and built.factor == 16


def test_a_scale_is_the_same_in_every_list(tokenizer: FlexVARVQ, pictures: Tensor) -> None:
    every = tokenizer.encode(pictures)
    layout = tokenizer.layout(24, 24, scales=[2, 5, 6])
    some = tokenizer.encode(pictures, layout=layout)
    assert every.ids is not None and some.ids is not None
    for index, side in enumerate((2, 5, 6)):
        same = every.ids[:, every.layout.span(SCALES.index(side))]
        assert torch.equal(some.ids[:, layout.span(index)], same)


def test_ids_are_those_of_averaged_latents(tokenizer: FlexVARVQ, pictures: Tensor) -> None:
    tokens = tokenizer.encode(pictures)
    assert tokens.ids is not None
    with torch.no_grad():
        latents = tokenizer.encode_latents(pictures)
        for index, side in enumerate(SCALES):
            pooled = functional.interpolate(latents, (side, side), mode="area")
            directions = functional.normalize(pooled, dim=1)
            scores = torch.einsum("bdhw,vd->bhwv", directions, tokenizer.quantizer.codes)
            wanted = scores.argmax(-1).flatten(1)
            assert torch.equal(tokens.ids[:, tokens.layout.span(index), 0], wanted)


def test_the_finest_known_scale_is_shown(tokenizer: FlexVARVQ, pictures: Tensor) -> None:
    tokens = tokenizer.encode(pictures)
    with torch.no_grad():
        shown = tokenizer.preview(known_up_to(tokens, [6, 3, 0]))
        assert shown.shape == pictures.shape
        torch.testing.assert_close(shown[:1], tokenizer.decode(tokens)[:1], rtol=0, atol=1e-4)
        small = tokenizer.show_scale(tokens, 2)
        assert small.shape == (3, 3, 12, 12)
        wanted = functional.interpolate(small[1:2], (24, 24), mode="bicubic").clamp(-1, 1)
        torch.testing.assert_close(shown[1:2], wanted, rtol=0, atol=1e-4)
        assert not shown[2].any()


@pytest.mark.parametrize("size", [(24, 24), (12, 32), (20, 16)])
def test_pictures_of_any_shape_have_all_scales(tokenizer: FlexVARVQ, size: tuple[int, int]) -> None:
    layout = tokenizer.layout(*size)
    assert layout.extent[1:] == (size[0] // 4, size[1] // 4)
    shown = tokenizer.decode(tokenizer.encode(torch.zeros(1, 3, *size)))
    assert shown.shape == (1, 3, *size)


def test_impossible_scales_are_refused(tokenizer: FlexVARVQ) -> None:
    with pytest.raises(ConfigError, match="ends in the picture's grid, 6x6"):
        tokenizer.layout(24, 24, scales=[1, 2, 3])
    with pytest.raises(ConfigError, match="multiples of 4 pixels"):
        tokenizer.layout(23, 24)
    with pytest.raises(ConfigError, match="scales"):
        FlexVARVQConfig(scales=(3, 2))
    with pytest.raises(ConfigError, match="sizes"):
        FlexVARVQConfig(sizes=0)


def test_training_looks_at_several_sizes(tokenizer: FlexVARVQ, pictures: Tensor) -> None:
    made = tokenizer.reconstruct(pictures, torch.Generator().manual_seed(0))
    assert made.pictures.shape == pictures.shape
    sides = [shown.shape[-1] for shown, _ in made.smaller]
    assert len(sides) == 2 and set(sides) <= {16, 20}  # 4 and 5 places; less shows too little
    for shown, like in made.smaller:
        assert shown.shape == like.shape
        assert torch.equal(like, functional.adaptive_avg_pool2d(pictures, like.shape[-2:]))
        (gradient,) = torch.autograd.grad(
            shown.sum(), tokenizer.quant_conv.weight, retain_graph=True
        )
        assert gradient.any()
    places = 36 + sum((side // 4) ** 2 for side in sides)
    assert made.ids is not None and made.ids.shape == (3 * places,)
    assert made.vectors is not None and made.vectors.shape == (3 * places, 8)
    alone = tokenizer.reconstruct(pictures)
    assert not alone.smaller
    # the losses of all sizes are summed
    assert made.losses["vq"] > alone.losses["vq"]


def test_names_alone_do_not_tell_it_from_llamagens(tokenizer: FlexVARVQ) -> None:
    state = VQ.table(tokenizer.config).to_official(tokenizer.state_dict())
    state["quantize.codebook_used"] = torch.zeros(9)
    assert detect(state) is VQ
    given = {f"convolution.{half}_attention": [] for half in ("encoder", "decoder")}
    back = TOKENIZER.build(TOKENIZER.config(state, given), state)
    assert isinstance(back, FlexVARVQ)
    picture = torch.zeros(1, 3, 16, 16)
    layout = tokenizer.layout(16, 16)
    found, wanted = (each.encode(picture, layout=layout).ids for each in (back, tokenizer))
    assert found is not None and wanted is not None and torch.equal(found, wanted)


def test_linear_latents_at_every_scale() -> None:
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(60, 3, 4, 4, generator=rng) * 2 - 1
    pictures = functional.interpolate(coarse, (16, 16), mode="bicubic").clamp(-1, 1)
    tokenizer = PatchScales(PatchScalesConfig(4, 8, codebook_size=64, scales=(1, 2, 3, 4)))
    tokenizer.fit(pictures, rng)
    tokens = tokenizer.encode(pictures)
    assert tokens.layout == tokenizer.layout(16, 16) and len(tokens.layout) == 30
    still = (pictures - pictures.mean(0)).square().mean()
    assert (tokenizer.decode(tokens) - pictures).square().mean() < 0.3 * still
    some = tokenizer.encode(pictures, layout=tokenizer.layout(16, 16, scales=[2, 4]))
    assert some.ids is not None and tokens.ids is not None
    assert torch.equal(some.ids[:, :4], tokens.ids[:, tokens.layout.span(1)])
    coarser = tokenizer.preview(known_up_to(tokens, [3] * 60))
    assert coarser.shape == pictures.shape
    assert (coarser - pictures).square().mean() < still


def test_scales_alone_are_pictures_unless_they_are_residuals() -> None:
    """Against VAR's pyramid of the same sizes and codes, whose scales alone say nothing."""
    train, held_out = load_packaged(size=32).split(0.1)
    real = held_out.to_float(slice(0, 60))
    whole = PatchScales(PatchScalesConfig(4, 8, codebook_size=128, scales=RESIDUAL_SCALES))
    residual = PatchMultiScale(
        PatchMultiScaleConfig(4, 8, codebook_size=128, scales=RESIDUAL_SCALES)
    )
    better: dict[str, list[float]] = {}
    for name, tokenizer in (("whole", whole), ("residual", residual)):
        tokenizer.fit(train.to_float(slice(0, 300)), torch.Generator().manual_seed(0))
        tokens = tokenizer.encode(real)
        better[name] = []
        for scale, side in enumerate(RESIDUAL_SCALES):
            alone = tokens.layout.segment_of() == scale
            known = replace(tokens, known=alone.expand_as(tokens.known))
            shown, like = (
                functional.adaptive_avg_pool2d(each, 4 * side)
                for each in (tokenizer.decode(known), real)
            )
            still = psnr(like.mean(0).expand_as(like), like).mean()
            better[name].append(float(psnr(shown, like).mean() - still))
    assert min(better["whole"][3:]) > 3  # of 16 pixels or more
    assert max(better["residual"][1:]) < 0.5
