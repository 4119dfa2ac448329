"""limner's own checkpoint format."""

import json
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from limner.core.errors import CheckpointError, ConfigError
from limner.core.registry import MODELS, TOKENIZERS, Family
from limner.hub.build import weightless
from limner.hub.save import load_part, read_header, save_part
from limner.layers.convolution import ConvolutionConfig
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.tokenizers.llamagen_vq import LlamaGenVQ, LlamaGenVQConfig

SMALL = LlamaGenConfig(width=16, depth=2, heads=2, codebook_size=12, classes=3, multiple_of=8)
SMALL_VQ = LlamaGenVQConfig(ConvolutionConfig(32, (1, 2), 1), latent=8, codebook_size=16)


@dataclass(frozen=True)
class ToyConfig:
    width: int = 4


class Toy(nn.Module):
    """An output tied to its embedding, and a slice of a larger tensor."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(6, config.width)
        self.output = nn.Linear(config.width, 6, bias=False)
        self.output.weight = self.embedding.weight
        self.register_buffer("part", torch.arange(8.0).reshape(2, 4)[1])


class Computing(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.register_buffer("table", torch.arange(3.0), persistent=False)


@pytest.fixture(params=[Toy, Computing])
def toy(request, monkeypatch):
    monkeypatch.setitem(MODELS._families, "toy", Family("toy", request.param, ToyConfig))
    return request.param(ToyConfig())


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = LlamaGen(SMALL)
    save_part(model, tmp_path / "part")
    return model, tmp_path / "part"


def test_a_part_comes_back_as_it_was(saved):
    model, directory = saved
    loaded = load_part(directory, MODELS)
    assert type(loaded) is LlamaGen and loaded.config == SMALL and not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_a_tokenizer_comes_back_and_encodes_alike(tmp_path):
    torch.manual_seed(0)
    tokenizer = LlamaGenVQ(SMALL_VQ).eval()
    save_part(tokenizer, tmp_path / "tokenizer")
    loaded = load_part(tmp_path / "tokenizer", TOKENIZERS)
    pictures = torch.rand(1, 3, 8, 8) * 2 - 1
    assert torch.equal(loaded.encode(pictures).ids, tokenizer.encode(pictures).ids)


def test_header_says_what_it_is(saved):
    header = json.loads((saved[1] / "config.json").read_text())
    assert header["limner"] == 1
    assert (header["kind"], header["family"], header["variant"]) == ("model", "llamagen", None)
    assert header["config"]["width"] == 16


def test_the_published_name_is_found_by_the_configuration(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS._variants, "tiny", None)
    MODELS.variant("tiny", "llamagen", SMALL)
    save_part(LlamaGen(SMALL), tmp_path / "part")
    assert read_header(tmp_path / "part")["variant"] == "tiny"


def test_weights_are_readable_by_whoever_may_read_the_config(saved):
    config, weights = saved[1] / "config.json", saved[1] / "model.safetensors"
    assert config.stat().st_mode == weights.stat().st_mode


def test_a_shared_tensor_is_stored_once_and_shared_again(toy, tmp_path):
    save_part(toy, tmp_path / "part")
    assert set(load_file(tmp_path / "part" / "model.safetensors")) == {"embedding.weight", "part"}
    loaded = load_part(tmp_path / "part", MODELS)
    assert loaded.output.weight is loaded.embedding.weight
    assert torch.equal(loaded.output.weight, toy.output.weight)
    assert torch.equal(loaded.part, torch.arange(4.0, 8.0))


def test_tensors_that_are_not_saved_are_computed_again(monkeypatch, tmp_path):
    monkeypatch.setitem(MODELS._families, "toy", Family("toy", Computing, ToyConfig))
    save_part(Computing(ToyConfig()), tmp_path / "part")
    assert torch.equal(load_part(tmp_path / "part", MODELS).table, torch.arange(3.0))


def test_loading_in_another_dtype(saved):
    loaded = load_part(saved[1], MODELS, dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.bfloat16}


def test_weights_are_never_initialised_when_loading(saved, monkeypatch):
    def meta_only(tensor, *args, **kwargs):
        assert tensor.is_meta
        return tensor

    monkeypatch.setattr(nn.init, "normal_", meta_only)
    load_part(saved[1], MODELS)


def test_saving_again_replaces_the_part(saved):
    model, directory = saved
    with torch.no_grad():
        model.norm.weight.fill_(3.0)
    save_part(model, directory)
    assert load_part(directory, MODELS).norm.weight.tolist() == [3.0] * 16
    assert [path.name for path in directory.parent.iterdir()] == ["part"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("disk")])
def test_a_failed_save_leaves_the_old_part_and_no_rubbish(saved, monkeypatch, error):
    _, directory = saved
    before = (directory / "model.safetensors").read_bytes()

    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr("limner.hub.save.save_file", full)
    with pytest.raises(CheckpointError, match=r"cannot be written: (No space|disk)"):
        save_part(LlamaGen(SMALL), directory)
    assert (directory / "model.safetensors").read_bytes() == before
    assert [path.name for path in directory.parent.iterdir()] == ["part"]


def test_other_files_are_never_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(CheckpointError, match=r"thesis\.tex"):
        save_part(LlamaGen(SMALL), tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "important"
    with pytest.raises(CheckpointError, match="is a file"):
        save_part(LlamaGen(SMALL), tmp_path / "thesis.tex")


def test_an_unregistered_module_is_not_saved(tmp_path):
    with pytest.raises(ConfigError, match="Toy is not a registered model"):
        save_part(Toy(ToyConfig()), tmp_path / "part")


def _edit(directory, **fields):
    header = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**header, **fields}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"limner": 2}, "newer limner .format 2.*upgrade"),
        ({"limner": None}, "not written by limner"),
        ({"family": "lamagen"}, "did you mean 'llamagen'"),
        ({"family": 3}, "'family' is missing or broken"),
        ({"kind": "tokenizer"}, "holds a tokenizer, and a model is needed"),
        ({"config": {"widht": 16}}, "did you mean 'width'"),
        ({"config": {"width": -4}}, "width=-4 is not accepted"),
        ({"config": {"width": "wide"}}, "must be a whole number"),
    ],
)
def test_a_wrong_config_is_explained(saved, fields, message):
    _edit(saved[1], **fields)
    with pytest.raises(CheckpointError, match=message):
        load_part(saved[1], MODELS)


def test_missing_and_broken_files_are_explained(saved, tmp_path):
    directory = saved[1]
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        load_part(tmp_path / "nowhere", MODELS)
    weights = directory / "model.safetensors"
    content = weights.read_bytes()
    for broken in (content[: len(content) // 2], b"", b"nonsense" * 9):
        weights.write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"model\.safetensors is truncated"):
            load_part(directory, MODELS)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        load_part(directory, MODELS)
    (directory / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        load_part(directory, MODELS)


def test_tensors_that_do_not_fit_are_named(saved):
    weights = saved[1] / "model.safetensors"
    tensors = load_file(weights)
    tensors["norm.weight"] = torch.zeros(7)
    for index in range(8):
        tensors[f"stranger.{index}"] = torch.zeros(1)
    del tensors["output.weight"]
    save_file(tensors, weights)
    with pytest.raises(CheckpointError) as error:
        load_part(saved[1], MODELS)
    message = str(error.value)
    assert "missing: output.weight;" in message
    assert "stranger.4, ... (8 in all)" in message and "stranger.5" not in message
    assert "norm.weight is [7], the model needs [16]" in message


@pytest.mark.slow
def test_building_without_weights_loads_no_compiler():
    script = (
        "import sys; from limner.core.registry import MODELS; from limner.hub.build import blank;"
        "v = MODELS.get_variant('llamagen-b'); m = blank(MODELS.get_family(v.family), v.config);"
        "assert m.output.weight.is_meta; assert 'torch._dynamo' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_a_module_computes_off_the_meta_device_is_left_alone():
    with weightless():
        table = torch.zeros(3, device="cpu").add(2.0).clamp_(max=1.0)
        assert nn.Linear(2, 2).weight.is_meta
        assert nn.init.ones_(torch.zeros(2, device="cpu")).tolist() == [1.0, 1.0]
    assert table.tolist() == [1.0, 1.0, 1.0]
