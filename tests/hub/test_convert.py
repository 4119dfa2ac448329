"""Official files into limner's format."""

import argparse
import hashlib
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from limner.core.errors import CheckpointError, ConfigError
from limner.core.registry import MODELS, TOKENIZERS
from limner.hub.convert import convert, detect, read_official
from limner.hub.official import converters
from limner.hub.official.llamagen import GPT, VQ
from limner.hub.save import load_part
from limner.layers.convolution import ConvolutionConfig
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.tokenizers.llamagen_vq import LlamaGenVQ, LlamaGenVQConfig

CLASS = LlamaGenConfig(width=48, depth=3, heads=4, codebook_size=10, classes=5, multiple_of=128)
TEXT = LlamaGenConfig(
    width=16, depth=1, heads=2, codebook_size=9, condition="text", text_length=6, text_width=12
)
PICTURES = LlamaGenVQConfig(
    ConvolutionConfig(32, (1, 2), 2), latent=24, codebook_size=20, codebook_width=4
)


def _official(module, converter):
    torch.manual_seed(0)
    state = {name: torch.randn(tensor.shape) for name, tensor in module.state_dict().items()}
    module.load_state_dict(state)
    return converter.table(module.config).to_official(state)


@pytest.fixture(
    scope="module",
    params=[(LlamaGen, CLASS, GPT), (LlamaGen, TEXT, GPT), (LlamaGenVQ, PICTURES, VQ)],
    ids=["class", "text", "tokenizer"],
)
def network(request):
    build, config, converter = request.param
    module = build(config)
    given = {"heads": config.heads} if converter is GPT else {}
    return module, _official(module, converter), given, converter


def test_tables_there_and_back_over_whole_networks(network):
    module, official, _, converter = network
    table = converter.table(module.config)
    back = table.to_ours(official)
    assert back.keys() == module.state_dict().keys()
    assert table.to_official(back).keys() == official.keys()


def test_official_names_are_those_of_the_released_files():
    names = set(_official(LlamaGen(CLASS), GPT))
    assert "layers.2.feed_forward.w3.weight" in names and "layers.0.ffn_norm.weight" in names
    assert "cls_embedding.embedding_table.weight" in names
    assert "cls_embedding.cap_proj.fc2.weight" in _official(LlamaGen(TEXT), GPT)
    names = set(_official(LlamaGenVQ(PICTURES), VQ))
    assert "decoder.conv_blocks.0.attn.2.proj_out.bias" in names
    assert "encoder.conv_blocks.1.res.0.nin_shortcut.weight" in names
    assert "decoder.conv_blocks.0.upsample.conv.weight" in names


def test_configuration_is_inferred_from_shapes(network):
    module, official, given, converter = network
    assert converter.config(official, given) == module.config


def test_published_widths_tell_the_heads():
    state = {
        "tok_embeddings.weight": torch.empty(16384, 1280, device="meta"),
        "layers.0.attention.wqkv.weight": torch.empty(3840, 1280, device="meta"),
        "layers.0.feed_forward.w1.weight": torch.empty(3584, 1280, device="meta"),
        "cls_embedding.embedding_table.weight": torch.empty(1001, 1280, device="meta"),
    }
    config = GPT.config(state)
    assert (config.heads, config.depth, config.multiple_of) == (20, 1, 256)


def test_heads_of_other_widths_must_be_given():
    with pytest.raises(ConfigError, match="width 48: give heads"):
        GPT.config(_official(LlamaGen(CLASS), GPT))
    with pytest.raises(ConfigError, match="did you mean 'heads'"):
        GPT.config(_official(LlamaGen(CLASS), GPT), {"heads": 4, "heds": 4})


@pytest.mark.parametrize("wrapper", ["model", "module", "state_dict", None])
def test_convert_writes_a_part_that_loads(network, wrapper, tmp_path):
    module, official, given, converter = network
    content = official if wrapper is None else {wrapper: official, "steps": 7}
    torch.save(content, tmp_path / "official.pt")
    summary = convert(tmp_path / "official.pt", tmp_path / "part", given=given)
    loaded = load_part(tmp_path / "part", converter.registry)
    assert loaded.config == module.config
    for name, tensor in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert summary.system == converter.system
    assert summary.parameters == sum(p.numel() for p in module.parameters())
    digest = hashlib.sha256((tmp_path / "official.pt").read_bytes()).hexdigest()
    assert summary.sha256 == digest and "MIT" in summary.licence


def test_safetensors_and_old_files_and_prefixes_are_read(tmp_path):
    official = _official(LlamaGen(TEXT), GPT)
    save_file(official, tmp_path / "a.safetensors")
    torch.save(official, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    prefixed = {f"module._orig_mod.{name}": tensor for name, tensor in official.items()}
    torch.save({"model": prefixed}, tmp_path / "c.pt")
    for file in ("a.safetensors", "b.pth", "c.pt"):
        state = read_official(tmp_path / file)
        assert state.keys() == official.keys()
        assert torch.equal(state["norm.weight"], official["norm.weight"])


def test_averaged_weights_and_training_arguments(tmp_path):
    official = _official(LlamaGen(TEXT), GPT)
    averaged = {name: tensor + 1 for name, tensor in official.items()}
    arguments = argparse.Namespace(lr=1e-4)
    torch.save({"model": official, "ema": averaged, "args": arguments}, tmp_path / "a.pt")
    plain = read_official(tmp_path / "a.pt")["norm.weight"]
    assert torch.equal(read_official(tmp_path / "a.pt", ema=True)["norm.weight"], plain + 1)
    torch.save({"model": official}, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match="no averaged weights"):
        read_official(tmp_path / "b.pt", ema=True)


def test_conversion_to_another_dtype(tmp_path):
    torch.save(_official(LlamaGen(TEXT), GPT), tmp_path / "a.pt")
    convert(tmp_path / "a.pt", tmp_path / "part", given={"heads": 2}, dtype=torch.bfloat16)
    tensors = load_file(tmp_path / "part" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


class _Payload:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [None, 2, 4])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    if protocol is None:
        torch.save({"model": _Payload()}, tmp_path / "evil.pt")
    else:
        evil = pickle.dumps({"model": _Payload()}, protocol=protocol)
        (tmp_path / "evil.pt").write_bytes(evil)
    named = r"wants to load (posix|nt)\.system" if protocol != 4 else "more than tensors"
    with pytest.raises(CheckpointError, match=rf"refused: it .*{named}"):
        convert(tmp_path / "evil.pt", tmp_path / "part")
    assert not (tmp_path / "pwned").exists() and not (tmp_path / "part").exists()


def test_broken_and_foreign_files_are_explained(tmp_path):
    official = _official(LlamaGen(TEXT), GPT)
    torch.save(official, tmp_path / "a.pt")
    whole = (tmp_path / "a.pt").read_bytes()
    for name, content in {"cut": whole[:200], "empty": b"", "text": b"hello, world"}.items():
        (tmp_path / f"{name}.pt").write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"{name}\.pt (cannot be read|is refused)"):
            convert(tmp_path / f"{name}.pt", tmp_path / "part")
    with pytest.raises(CheckpointError, match="neither a file nor"):
        convert(tmp_path / "nowhere.pt", tmp_path / "part")
    torch.save({"weights": 3}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        convert(tmp_path / "other.pt", tmp_path / "part")
    torch.save({"foreign.weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"foreign\.weight; known systems: .*llamagen"):
        convert(tmp_path / "other.pt", tmp_path / "part")
    with pytest.raises(ConfigError, match="did you mean 'llamagen'"):
        convert(tmp_path / "other.pt", tmp_path / "part", system="lamagen")
    with pytest.raises(CheckpointError, match=r"no weights of llamagen: .* is missing"):
        convert(tmp_path / "other.pt", tmp_path / "part", system="llamagen")


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_every_tensor_is_used_exactly_once(tmp_path, change):
    official = _official(LlamaGen(CLASS), GPT)
    official["freqs_cis"] = torch.zeros(2)  # documented, ignored
    if change == "missing":
        del official["layers.1.attention.wo.weight"]
    elif change == "unexpected":
        official["layers.1.attention.bias"] = torch.zeros(2)
    else:
        official["norm.weight"] = torch.zeros(47)
    torch.save(official, tmp_path / "a.pt")
    named = {
        "missing": r"missing: blocks\.1\.attention\.out\.weight",
        "unexpected": r"does not know: layers\.1\.attention\.bias",
        "shape": r"norm\.weight is \[47\], the model needs \[48\]",
    }
    with pytest.raises(CheckpointError, match=named[change]):
        convert(tmp_path / "a.pt", tmp_path / "part", given={"heads": 4})
    assert not (tmp_path / "part").exists()


def test_systems_are_told_apart():
    assert detect(_official(LlamaGen(TEXT), GPT)) is GPT
    assert detect(_official(LlamaGenVQ(PICTURES), VQ)) is VQ
    kinds = {name: converter.registry for name, converter in converters().items()}
    assert kinds["llamagen"] is MODELS and kinds["llamagen-vq"] is TOKENIZERS
