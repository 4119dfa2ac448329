"""The convolutional autoencoder: shapes, padding, attention placement, published sizes."""

from __future__ import annotations

import pytest
import torch

from limner.core.errors import ConfigError
from limner.layers import convolution
from limner.layers.convolution import (
    ConvDecoder,
    ConvEncoder,
    ConvolutionConfig,
    Downsample,
    SpatialAttention,
    arranged,
)

SMALL = ConvolutionConfig(channels=32, multipliers=(1, 2, 1), blocks=1)


def test_encoder_and_decoder_mirror_sizes() -> None:
    latents = ConvEncoder(SMALL, 6)(torch.randn(2, 3, 16, 24))
    assert latents.shape == (2, 6, 4, 6)
    assert ConvDecoder(SMALL, 6)(latents).shape == (2, 3, 16, 24)


@pytest.mark.parametrize("training", [False, True])
def test_values_do_not_depend_on_the_order_in_memory(
    training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large map is held pixel by pixel; without gradients, layers work in place."""
    torch.manual_seed(0)
    encoder, decoder = ConvEncoder(SMALL, 6).double(), ConvDecoder(SMALL, 6).double()
    pictures = torch.randn(2, 3, 16, 24, dtype=torch.float64)
    before, found = pictures.clone(), []
    for pixels in (0, 10**9):
        monkeypatch.setattr(convolution, "PIXELS_A_CHANNEL", pixels)
        with torch.set_grad_enabled(training):
            latents = encoder(pictures)
            found.append((latents, decoder(latents)))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)
    assert torch.equal(pictures, before)


def test_maps_with_many_channels_keep_their_order() -> None:
    assert arranged(torch.empty(2, 8, 32, 32)).is_contiguous(memory_format=torch.channels_last)
    assert arranged(torch.empty(2, 32, 16, 16)).is_contiguous()


def test_downsample_pads_right_and_bottom_only() -> None:
    layer = Downsample(1)
    torch.nn.init.constant_(layer.conv.weight, 1.0)
    torch.nn.init.zeros_(layer.conv.bias)
    picture = torch.arange(16.0).reshape(1, 1, 4, 4)
    # the first window covers rows and columns 0..2, the last hangs over the edge
    assert layer(picture)[0, 0].tolist() == [[45.0, 39.0], [66.0, 50.0]]


def test_attention_matches_its_equation() -> None:
    layer = SpatialAttention(32)
    x = torch.randn(2, 32, 3, 4)
    normed = layer.norm(x)
    query, key, value = (part(normed).flatten(2) for part in (layer.query, layer.key, layer.value))
    weights = (query.transpose(1, 2) @ key * 32**-0.5).softmax(dim=-1)  # [B, N, N]
    expected = x + layer.projection((value @ weights.transpose(1, 2)).reshape(x.shape))
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(
    ("chosen", "levels"), [((-1,), [2]), ((), []), ((0, 1), [0, 1]), ((-3,), [0])]
)
def test_attention_stands_where_asked(chosen: tuple[int, ...], levels: list[int]) -> None:
    config = ConvolutionConfig(32, (1, 2, 1), 1, encoder_attention=chosen, decoder_attention=chosen)
    encoder, decoder = ConvEncoder(config, 4), ConvDecoder(config, 4)
    assert [i for i, level in enumerate(encoder.levels) if level.attention] == levels
    coarse_first = [i for i, level in enumerate(decoder.levels) if level.attention]
    assert sorted(2 - i for i in coarse_first) == levels


def test_every_parameter_gets_a_gradient() -> None:
    encoder, decoder = ConvEncoder(SMALL, 4), ConvDecoder(SMALL, 4)
    decoder(encoder(torch.randn(1, 3, 16, 16))).square().mean().backward()
    for part in (encoder, decoder):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name


def test_published_parameter_counts() -> None:
    """VAR and MAR count their own autoencoders, with the same parts at other widths."""
    with torch.device("meta"):
        var = ConvolutionConfig(channels=160)
        mar = ConvolutionConfig(decoder_attention=())
        parts = {
            44_107_872: [ConvEncoder(var, 32)],
            64_653_923: [ConvDecoder(var, 32)],
            66_460_000: [ConvEncoder(mar, 32), ConvDecoder(mar, 16)],
        }
    for published, modules in parts.items():
        count = sum(p.numel() for module in modules for p in module.parameters())
        assert count == pytest.approx(published, rel=1e-4)


@pytest.mark.parametrize(
    ("field", "value"),
    [("channels", 48), ("multipliers", ()), ("blocks", 0), ("encoder_attention", (3,))],
)
def test_bad_fields_are_named(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        ConvolutionConfig(**{"multipliers": (1, 2, 1), field: value})  # type: ignore[arg-type]
