"""CLIP features, from a tiny CLIP made on the spot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from limner.conditions.clip import CLIPTextEncoder
from limner.conditions.pooled_text import PooledText
from limner.conditions.t5 import T5TextEncoder
from limner.conditions.text_encoders import load_text_encoder
from limner.core.errors import CheckpointError
from limner.core.request import Request

FEATURES, VECTOR = 8, 4
WORDS = {"<pad>": 0, "<start>": 1, "<unk>": 2, "a": 3, "red": 4, "fox": 5, "<end>": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of four words and a CLIP encoder of two layers, as transformers saves them."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    path = tmp_path_factory.mktemp("clip")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 6)]
    )
    special = {"pad_token": "<pad>", "eos_token": "<end>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(path)
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        vocab_size=7,
        hidden_size=FEATURES,
        intermediate_size=16,
        projection_dim=VECTOR,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=1,
        eos_token_id=6,
        pad_token_id=0,
    )
    transformers.CLIPTextModelWithProjection(config).save_pretrained(path)
    return path


def test_features_are_those_before_the_last_layer(folder: Path) -> None:
    encoder = load_text_encoder(str(folder))
    assert isinstance(encoder, CLIPTextEncoder)
    features, present = encoder.encode(["a red fox", "fox"])
    assert features.shape == (2, 77, FEATURES) and bool(present.all())
    assert not features.requires_grad
    ids = torch.tensor([[1, 5, 6]])
    with torch.no_grad():
        alone = encoder.model(ids, output_hidden_states=True)
    torch.testing.assert_close(features[1, :3], alone.hidden_states[-2][0])  # it is causal
    vectors = encoder.pooled(["a red fox", "fox"])
    assert vectors.shape == (2, VECTOR)
    torch.testing.assert_close(vectors[1], alone.text_embeds[0])


def test_the_pooled_condition_reads_them(folder: Path) -> None:
    condition = PooledText(length=77, features=FEATURES, width=VECTOR)
    encoder = CLIPTextEncoder(str(folder))
    asked = condition.ask(Request(1, prompts=["fox"], encoder=encoder))
    assert torch.equal(asked["text"], encoder.encode(["fox"])[0])
    assert torch.equal(asked["null_pooled"], encoder.pooled([""]))


def test_other_folders_are_taken_for_t5(folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(vocab_size=6, d_model=8, d_kv=4, d_ff=16, num_layers=1)
    transformers.T5EncoderModel(config).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    assert isinstance(load_text_encoder(str(tmp_path)), T5TextEncoder)
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_text_encoder(str(tmp_path / "nothing"))
