"""AR-Diffusion's tokenizer: shapes, length, time, counts, official names, bad input."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from limner.core.errors import ConfigError
from limner.core.registry import TOKENIZERS
from limner.hub.build import blank, parameter_count
from limner.hub.convert import detect
from limner.hub.official import titok_kl as official
from limner.layers.convolution import ConvolutionConfig
from limner.layers.vision_transformer import StackConfig
from limner.tokenizers.titok_kl import TiTokKL, TiTokKLConfig

PIXELS = ConvolutionConfig(32, (1, 2), 1, encoder_attention=(), decoder_attention=())
CONFIG = TiTokKLConfig(
    StackConfig(16, 2, 2),
    size=8,
    frames=3,
    patch=4,
    latents=5,
    codes=12,
    code_width=6,
    pixels=PIXELS,
)


@pytest.fixture(scope="module")
def tokenizer() -> TiTokKL:
    torch.manual_seed(0)
    made = TiTokKL(CONFIG).eval().requires_grad_(False)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


def test_clips_become_vectors_of_length_one_and_clips_again(tokenizer: TiTokKL) -> None:
    clips = torch.rand(2, 3, 3, 8, 8) * 2 - 1
    tokens = tokenizer.encode(clips)
    assert tokens.values is not None
    assert tokens.values.shape == (2, 15, 4) and tokens.layout.extent == (3, 1, 5)
    torch.testing.assert_close(tokens.values.norm(dim=-1), torch.ones(2, 15))
    assert tokens.layout == tokenizer.layout(8, 8)
    shown = tokenizer.decode(tokens)
    assert shown.shape == clips.shape and float(shown.abs().max()) <= 1
    tokens.values *= 3.0
    torch.testing.assert_close(tokenizer.decode(tokens), shown)


def test_frames_are_decoded_by_themselves_and_earlier_ones(tokenizer: TiTokKL) -> None:
    latents = torch.randn(1, 3, 4, 5)
    other = latents.clone()
    other[:, 1] += 1
    before, after = tokenizer.code_logits(latents), tokenizer.code_logits(other)
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, 1], after[:, 1])
    assert not torch.allclose(before[:, 2], after[:, 2])


def test_without_time_frames_are_pictures() -> None:
    torch.manual_seed(0)
    still = TiTokKL(replace(CONFIG, temporal=False)).eval().requires_grad_(False)
    latents = torch.randn(1, 3, 4, 5)
    alone = torch.cat([still.code_logits(latents[:, i : i + 1]) for i in range(3)], dim=1)
    torch.testing.assert_close(still.code_logits(latents), alone)
    moving = TiTokKL(CONFIG).eval().requires_grad_(False)  # attention over time begins at zero
    moving.load_state_dict(still.state_dict(), strict=False)
    torch.testing.assert_close(moving.code_logits(latents), still.code_logits(latents))


@pytest.mark.parametrize("variant", ["titok-kl-l-32", "titok-kl-l-32-video"])
def test_variants_have_the_published_counts(variant: str) -> None:
    entry = TOKENIZERS.get_variant(variant)
    network = blank(TOKENIZERS.get_family(entry.family), entry.config)
    assert parameter_count(network) == entry.published


def test_official_weights_are_recognised(tokenizer: TiTokKL) -> None:
    converter = official.TITOK_KL
    state = converter.table(CONFIG).to_official(tokenizer.state_dict())
    assert detect(state) is converter
    assert converter.config(state, {"stack.heads": 2, "frames": 3}) == CONFIG
    again = converter.build(CONFIG, state)
    for name, tensor in tokenizer.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_wrong_input_is_named(tokenizer: TiTokKL) -> None:
    with pytest.raises(ConfigError, match=r"clips=\[3, 8, 8\]"):
        tokenizer.encode(torch.zeros(3, 8, 8))
    with pytest.raises(ConfigError, match="size='16x16'"):
        tokenizer.encode(torch.zeros(1, 3, 3, 16, 16))
    with pytest.raises(ConfigError, match="size=9"):
        replace(CONFIG, size=9)
    with pytest.raises(ConfigError, match="latents"):
        replace(CONFIG, latents=0)
