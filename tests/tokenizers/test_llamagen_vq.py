"""LlamaGen's tokenizer."""

from __future__ import annotations

import pytest
import torch

from limner.core.errors import ConfigError
from limner.core.registry import TOKENIZERS
from limner.layers.convolution import ConvolutionConfig
from limner.tokenizers import convolutional
from limner.tokenizers.llamagen_vq import LlamaGenVQ, LlamaGenVQConfig

TINY = LlamaGenVQConfig(
    ConvolutionConfig(channels=32, multipliers=(1, 1), blocks=1),
    latent=8,
    codebook_size=64,
    codebook_width=4,
)


@pytest.fixture(scope="module")
def tokenizer() -> LlamaGenVQ:
    torch.manual_seed(0)
    return LlamaGenVQ(TINY).eval()


def test_tokens_stand_on_the_raster(tokenizer: LlamaGenVQ) -> None:
    pictures = torch.rand(2, 3, 8, 12) * 2 - 1
    tokens = tokenizer.encode(pictures)
    assert tokens.ids is not None and tokens.ids.shape == (2, 24, 1)
    assert tokens.layout.extent == (1, 4, 6)
    latents = tokenizer.encode_latents(pictures)
    place = tokenizer.quantizer.nearest(latents[:, :, 2, 5])
    assert torch.equal(tokens.ids[:, 2 * 6 + 5, 0], place)


def test_decoding_ids_is_what_the_forward_pass_shows(tokenizer: LlamaGenVQ) -> None:
    pictures = torch.rand(2, 3, 8, 8) * 2 - 1
    with torch.no_grad():
        shown, quantized = tokenizer(pictures)
        tokens = tokenizer.encode(pictures)
        assert tokens.ids is not None
        assert torch.equal(quantized.ids.flatten(1), tokens.ids[..., 0])
        decoded = tokenizer.decode(tokens)
    torch.testing.assert_close(decoded, shown.clamp(-1, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(quantized.values.norm(dim=1), torch.ones(2, 4, 4))


def test_many_pictures_are_encoded_in_parts(
    tokenizer: LlamaGenVQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = torch.rand(5, 3, 8, 8) * 2 - 1
    together = tokenizer.encode(pictures).ids
    parts: list[int] = []
    watch = tokenizer.encoder.register_forward_hook(lambda _, x, __: parts.append(len(x[0])))
    monkeypatch.setattr(convolutional, "PIXELS_AT_ONCE", 2 * 64)
    found = tokenizer.encode(pictures).ids
    watch.remove()
    assert found is not None and together is not None
    assert parts == [2, 2, 1]
    assert torch.equal(found, together)


def test_training_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    tokenizer = LlamaGenVQ(TINY)
    pictures = torch.rand(2, 3, 8, 8) * 2 - 1
    shown, quantized = tokenizer(pictures)
    ((shown - pictures).square().mean() + sum(quantized.losses.values())).backward()
    for name, parameter in tokenizer.named_parameters():
        assert parameter.grad is not None, name


def test_preview_leaves_unknown_places_grey(tokenizer: LlamaGenVQ) -> None:
    tokens = tokenizer.encode(torch.rand(1, 3, 8, 8) * 2 - 1)
    tokens.known[:, 8:] = False
    with torch.no_grad():
        shown = tokenizer.preview(tokens)
    assert (shown[:, :, 4:] == 0).all() and (shown[:, :, :4] != 0).any()


@pytest.mark.parametrize(
    ("name", "published", "factor"), [("llamagen-vq-16", 72e6, 16), ("llamagen-vq-8", 70e6, 8)]
)
def test_published_sizes(name: str, published: float, factor: int) -> None:
    with torch.device("meta"):
        tokenizer = TOKENIZERS.create(name)
    assert sum(p.numel() for p in tokenizer.parameters()) == pytest.approx(published, rel=0.005)
    assert tokenizer.factor == factor
    assert len(tokenizer.layout(256, 256)) == (256 // factor) ** 2


def test_sizes_that_do_not_fit_are_named(tokenizer: LlamaGenVQ) -> None:
    with pytest.raises(ConfigError, match=r"9x8.*multiples of 2"):
        tokenizer.encode(torch.zeros(1, 3, 9, 8))
    with pytest.raises(ConfigError, match="codebook_size"):
        LlamaGenVQConfig(codebook_size=0)
