"""Infinity's official files, in all the shapes that they come in."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from limner.core.errors import CheckpointError
from limner.core.registry import MODELS, TOKENIZERS
from limner.hub.convert import convert, read_official
from limner.hub.official.infinity import TRANSFORMER, TRANSFORMER_TABLE, VAE, vae_table
from limner.hub.save import load_part
from limner.models.infinity import Infinity, InfinityConfig
from limner.tokenizers.infinity_vae import PLAIN, InfinityVAE, InfinityVAEConfig
from limner.tokenizers.quantizers.multiscale_bits import MultiScaleBitsConfig

CONFIG = InfinityConfig(width=24, depth=4, heads=3, bits=5, text_length=6, text_width=16)
SMALL = InfinityVAEConfig(
    replace(PLAIN, channels=32, multipliers=(1, 2), blocks=1), MultiScaleBitsConfig(width=6)
)


def official(chunks=2):
    """Return our tensors, and the official ones in chunks of blocks."""
    torch.manual_seed(0)
    ours = Infinity(CONFIG).state_dict()
    state = {}
    for name, tensor in TRANSFORMER_TABLE.to_official(ours).items():
        if name.startswith("blocks.") and chunks > 1:
            block, rest = name.removeprefix("blocks.").split(".", 1)
            chunk, within = divmod(int(block), CONFIG.depth // chunks)
            name = f"block_chunks.{chunk}.module.{within}.{rest}"
        state[name] = tensor
    buffer = "block_chunks.0.module.0.sa.zero_k_bias" if chunks > 1 else "blocks.0.ca.zero_k_bias"
    return ours, {**state, buffer: torch.zeros(24), "lvl_1L": torch.zeros(3)}


def same(found, wanted):
    return found.keys() == wanted.keys() and all(
        torch.equal(found[name], wanted[name]) for name in wanted
    )


@pytest.mark.parametrize("chunks", [1, 2, 4])
def test_blocks_are_found_in_any_chunks(chunks):
    ours, state = official(chunks)
    config = TRANSFORMER.config(state)
    for field in ("width", "depth", "heads", "bits", "text_length", "text_width", "levels"):
        assert getattr(config, field) == getattr(CONFIG, field)
    assert same(TRANSFORMER.build(config, state).state_dict(), ours)


def test_scales_of_fused_kernels_are_turned():
    ours, state = official()
    fused = {
        name: tensor.transpose(1, 2) if name.endswith("scale_mul_1H11") else tensor
        for name, tensor in state.items()
    }
    assert fused["block_chunks.0.module.0.sa.scale_mul_1H11"].shape == (1, 1, 3, 1)
    assert same(TRANSFORMER.build(TRANSFORMER.config(fused), fused).state_dict(), ours)


def test_training_files_and_shards(tmp_path):
    ours, state = official()
    torch.save({"trainer": {"gpt_fsdp": state}, "epoch": 3}, tmp_path / "training.pth")
    names = sorted(state)
    files = {}
    for shard, part in enumerate((names[:20], names[20:])):
        file = f"weights-{shard}.safetensors"
        save_file({name: state[name].contiguous() for name in part}, tmp_path / file)
        files.update(dict.fromkeys(part, file))
    index = tmp_path / "weights.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    for source in (tmp_path / "training.pth", index):
        made = convert(source, tmp_path / "converted")
        assert made.system == "infinity" and made.parameters > 0
        part = load_part(tmp_path / "converted", MODELS)
        assert same(part.state_dict(), ours)


def test_shards_that_are_missing_or_elsewhere_are_refused(tmp_path):
    index = tmp_path / "weights.index.json"
    for said, message in (
        ({"weight_map": {"head.weight": "lost.safetensors"}}, "lost.safetensors"),
        ({"weight_map": {"head.weight": "../other.safetensors"}}, "not beside it"),
        ({"weights": {}}, "weight_map"),
    ):
        index.write_text(json.dumps(said))
        with pytest.raises(CheckpointError, match=message):
            read_official(index)


def test_autoencoders_with_and_without_wrapped_layers(tmp_path):
    torch.manual_seed(0)
    ours = InfinityVAE(SMALL).state_dict()
    bare = {**vae_table(SMALL).to_official(ours), "quantizer.lfq.mask": torch.ones(6)}
    assert "encoder.down.0.downsample.conv.weight" in bare

    def wrapped(name):
        if not name.startswith(("encoder", "decoder")):
            return name
        layer, last = name.rsplit(".", 1)
        return f"{layer}.{'norm' if 'norm' in layer.rsplit('.', 1)[-1] else 'conv'}.{last}"

    around = {wrapped(name): tensor for name, tensor in bare.items()}
    assert "encoder.down.0.downsample.conv.conv.weight" in around
    assert "decoder.up.1.block.0.norm1.norm.weight" in around
    for state in (bare, around):
        config = VAE.config(state)
        assert config.convolution.factor == 2 and config.quantizer.width == 6
        assert same(VAE.build(config, state).state_dict(), ours)
    torch.save({"vae": around, "ema": None}, tmp_path / "vae.pth")
    assert convert(tmp_path / "vae.pth", tmp_path / "vae").system == "infinity-vae"
    assert same(load_part(tmp_path / "vae", TOKENIZERS).state_dict(), ours)
