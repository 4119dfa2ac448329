"""T5 features, from a tiny T5 made on the spot."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from limner.conditions import TextCondition
from limner.conditions.t5 import T5TextEncoder
from limner.core.errors import CheckpointError, MissingExtra
from limner.core.request import Request

LENGTH, FEATURES = 6, 8
WORDS = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "red": 4, "fox": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of six words and a T5 encoder of one layer, as transformers saves them."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    path = tmp_path_factory.mktemp("t5")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(path)
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=6, d_model=FEATURES, d_kv=4, d_ff=16, num_layers=1, num_heads=2
    )
    transformers.T5EncoderModel(config).save_pretrained(path)
    return path


def test_prompts_become_features_text_first(folder: Path) -> None:
    encoder = T5TextEncoder(str(folder), LENGTH)
    features, present = encoder.encode(["a red fox", "fox", "a a a a a a a a a"])
    assert features.shape == (3, LENGTH, FEATURES)
    assert features.dtype == torch.float32
    assert present.sum(1).tolist() == [4, 2, 6]  # the words and the end; long ones are cut
    assert present[0].tolist() == [True] * 4 + [False] * 2
    with torch.no_grad():
        alone = encoder.model(torch.tensor([[5, 1]])).last_hidden_state
    assert (features[1, :2] - alone[0]).abs().max() < 1e-5  # padding is not attended to
    assert not features.requires_grad


def test_half_precision_weights_still_give_float32_features(folder: Path) -> None:
    encoder = T5TextEncoder(str(folder), LENGTH, dtype=torch.bfloat16)
    assert next(encoder.model.parameters()).dtype == torch.bfloat16
    features, _ = encoder.encode(["a red fox"])
    exact, _ = T5TextEncoder(str(folder), LENGTH).encode(["a red fox"])
    assert features.dtype == torch.float32
    assert 0 < (features - exact).abs().max() < 0.1 * exact.abs().max()


def test_the_text_condition_reads_them(folder: Path) -> None:
    condition = TextCondition(LENGTH, FEATURES, width=4)
    encoder = T5TextEncoder(str(folder), LENGTH)
    asked = condition.ask(Request(2, prompts=["a red fox", "fox"], encoder=encoder))
    features, _ = encoder.encode(["a red fox", "fox"])
    assert torch.equal(asked["text"][0, 2:], features[0, :4])
    assert torch.equal(asked["text"][1, 4:], features[1, :2])
    assert condition.prefix(asked).shape == (2, LENGTH, 4)


def test_torchvision_is_not_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert T5TextEncoder(str(folder), LENGTH).encode(["fox"])[0].isfinite().all()


@pytest.mark.parametrize("broken", ["nothing", "weights missing", "weights cut short"])
def test_weights_that_cannot_be_loaded_are_named_in_one_line(
    folder: Path, tmp_path: Path, broken: str
) -> None:
    path = tmp_path / "t5"
    if broken == "nothing":
        path.mkdir()
    else:
        shutil.copytree(folder, path)
        weights = path / "model.safetensors"
        half = weights.read_bytes()[: weights.stat().st_size // 2]
        weights.unlink() if broken == "weights missing" else weights.write_bytes(half)
    with pytest.raises(CheckpointError, match=r"text_encoder=.* cannot be loaded") as error:
        T5TextEncoder(str(path))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"'transformers'.*pip install 'limner\[text\]'"):
        T5TextEncoder("anywhere")


def test_a_word_that_it_does_not_know_has_a_place(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no token <extra_id_0>"):
        T5TextEncoder(str(folder), LENGTH).encode_around(["a <it> fox"], "<it>")
    other = tmp_path / "t5"
    shutil.copytree(folder, other)
    transformers = pytest.importorskip("transformers")
    words = transformers.AutoTokenizer.from_pretrained(other)
    words.add_tokens(["<extra_id_0>"], special_tokens=True)
    words.save_pretrained(other)
    encoder = T5TextEncoder(str(other), LENGTH)
    encoder.model.resize_token_embeddings(7)
    features, present, places = encoder.encode_around(["a <it> fox", "a red fox"], "<it>")
    assert places.tolist() == [1, -1]
    assert present.sum(1).tolist() == [4, 4]
    assert torch.allclose(features[1], encoder.encode(["a red fox"])[0][0], atol=1e-5)
    assert not torch.equal(features[0], features[1])


def test_places_without_the_package() -> None:
    words = ["<pad>", "<unk>", "<extra_id_0>", "a", "red", "fox"]

    class Read(dict[str, torch.Tensor]):
        def to(self, device: object) -> Read:
            return self

    class Tokenizer:
        unk_token_id = 1

        def convert_tokens_to_ids(self, token: str) -> int:
            return words.index(token)

        def __call__(self, prompts: list[str], max_length: int, **options: object) -> Read:
            ids = [[words.index(word) for word in prompt.split()] for prompt in prompts]
            ids = [row + [0] * (max_length - len(row)) for row in ids]
            known = torch.tensor(ids)
            return Read(input_ids=known, attention_mask=(known > 0).long())

    class Model:
        def __call__(self, ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
            return SimpleNamespace(last_hidden_state=ids.unsqueeze(-1).double())

    encoder = T5TextEncoder.__new__(T5TextEncoder)
    encoder.tokenizer, encoder.model, encoder.length, encoder.device = (
        Tokenizer(),
        Model(),
        4,
        "cpu",
    )
    features, present, places = encoder.encode_around(["a <it> fox", "a red fox"], "<it>")
    assert places.tolist() == [1, -1]
    assert features[..., 0].tolist() == [[3, 2, 5, 0], [3, 4, 5, 0]]
    assert present.tolist() == [[True, True, True, False]] * 2
