"""Official weights of tokenizers: names and configurations there and back again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from limner.hub.convert import detect
from limner.hub.official import converters
from limner.layers.convolution import ConvolutionConfig
from limner.layers.vision_transformer import StackConfig
from limner.models.taming_gpt import TamingGPT, TamingGPTConfig
from limner.tokenizers.bsq_vit import BSQViTConfig
from limner.tokenizers.kl_autoencoder import KLAutoencoderConfig
from limner.tokenizers.maskgit_vq import MaskGITVQConfig
from limner.tokenizers.quantizers.bsq import BSQConfig
from limner.tokenizers.quantizers.build import VQConfig
from limner.tokenizers.quantizers.multiscale import MultiScaleConfig
from limner.tokenizers.var_vqvae import VARVQVAEConfig
from limner.tokenizers.vqgan import VQGANConfig

SMALL = ConvolutionConfig(32, (2, 1, 3), 1, encoder_attention=(0, 2), decoder_attention=(2,))
PLAIN = replace(SMALL, encoder_attention=(), decoder_attention=())
VIT = StackConfig(16, 2, 2)

CONFIGS = {
    "vqgan": VQGANConfig(SMALL, 8, VQConfig(codebook_size=20, width=4, commitment=1.0, pull=0.25)),
    "mar-vae": KLAutoencoderConfig(SMALL, latent=4),
    "var-vqvae": VARVQVAEConfig(SMALL, MultiScaleConfig(20, 8)),
    "maskgit-vq": MaskGITVQConfig(PLAIN, 20, 8),
    "bsq-vit": BSQViTConfig(8, 2, VIT, VIT, 24, BSQConfig(bits=6, commitment=0.25)),
}
GIVEN = {"bsq-vit": {"encoder.heads": 2, "decoder.heads": 2}}


@pytest.fixture(params=CONFIGS)
def system(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(system: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return a tokenizer and its weights under their official names."""
    torch.manual_seed(0)
    converter = converters()[system]
    module = converter.registry.get_family(converter.family).build(CONFIGS[system])
    return module, converter.table(CONFIGS[system]).to_official(module.state_dict())


def test_weights_come_back(system: str) -> None:
    module, official = made(system)
    converter = converters()[system]
    again = converter.build(CONFIGS[system], official)
    for name, tensor in module.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_weights_tell_their_system_and_configuration(system: str) -> None:
    _, official = made(system)
    converter = detect(official)
    assert converter.system == system
    assert converter.config(official, GIVEN.get(system)) == CONFIGS[system]


@pytest.mark.parametrize("system", ["vqgan", "mar-vae", "var-vqvae"], indirect=True)
def test_the_official_decoder_counts_levels_from_the_finest(system: str) -> None:
    module, official = made(system)
    finest = official["decoder.up.0.block.0.conv1.weight"]
    assert torch.equal(finest, module.state_dict()["decoder.levels.2.blocks.0.conv1.weight"])
    assert "decoder.up.0.upsample.conv.weight" not in official
    assert "decoder.up.2.upsample.conv.weight" in official


def test_the_gpt_is_found_beside_its_tokenizers() -> None:
    config = TamingGPTConfig(16, 1, 2, codebook_size=20, places=20)
    model = TamingGPT(config)
    alone, in_file = (converters()[name] for name in ("taming-gpt-alone", "taming-gpt"))
    bare = alone.table(config).to_official(model.state_dict())
    whole = {f"transformer.{name}": tensor for name, tensor in bare.items()}
    for part in ("first_stage_model", "cond_stage_model"):
        whole[f"{part}.quantize.embedding.weight"] = torch.zeros(1)
    for state, converter in ((bare, alone), (whole, in_file)):
        assert detect(state) is converter
        assert converter.config(state, {"heads": 2}) == config
        again = converter.build(config, state).state_dict()
        assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())


def test_the_weights_of_the_losses_are_left_aside() -> None:
    _, official = made("vqgan")
    more = {
        "loss.perceptual_loss.net.slice1.0.weight": torch.zeros(1),
        "loss.perceptual_loss.lin0.model.1.weight": torch.zeros(1),
        "loss.discriminator.main.3.running_mean": torch.zeros(1),
    }
    assert detect({**official, **more}).system == "vqgan"
    converters()["vqgan"].build(CONFIGS["vqgan"], {**official, **more})
