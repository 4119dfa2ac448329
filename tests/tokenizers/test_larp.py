"""LARP: clips to codes of the whole clip and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from limner.core.errors import ConfigError
from limner.core.registry import TOKENIZERS
from limner.hub.build import blank, parameter_count
from limner.hub.convert import detect
from limner.hub.official import larp as official
from limner.layers.sine_places import volume_places
from limner.layers.vision_transformer import StackConfig
from limner.tokenizers.larp import LARP, LARPConfig

CONFIG = LARPConfig(
    size=8, frames=4, patch=4, patch_frames=2, encoder=StackConfig(16, 2, 2),
    decoder=StackConfig(24, 1, 2), volume=(1, 2, 3), codebook_size=12, codebook_width=4,
)  # fmt: skip


def build(config: LARPConfig = CONFIG) -> LARP:
    torch.manual_seed(0)
    tokenizer = LARP(config).eval()
    for parameter in tokenizer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return tokenizer


def clips(count: int = 2) -> Tensor:
    return torch.rand(count, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_codes_are_laid_out_in_the_volume_and_come_back_as_clips() -> None:
    tokenizer = build()
    tokens = tokenizer.encode(clips())
    assert tokens.layout.extent == (1, 2, 3) and tokens.ids is not None
    assert tokens.ids.shape == (2, 6, 1) and int(tokens.ids.max()) < 12
    decoded = tokenizer.decode(tokens)
    assert decoded.shape == clips().shape and bool((decoded.abs() <= 1).all())
    assert torch.equal(tokenizer.preview(tokens), decoded)


def test_pixels_of_a_patch_go_where_the_patch_is() -> None:
    tokenizer = build()
    patches = torch.zeros(1, 8, 2 * 4 * 4 * 3)
    patches[0, 5] = torch.arange(96.0)  # second frames, first row, second column
    clip = tokenizer._painted(patches)
    assert clip.shape == (1, 4, 3, 8, 8) and bool((clip[0, :2] == 0).all())
    assert bool((clip[0, 2:, :, 4:] == 0).all()) and bool((clip[0, 2:, :, :4, :4] == 0).all())
    # frame, row, column, channel within the patch
    assert float(clip[0, 3, 1, 2, 5]) == ((1 * 4 + 2) * 4 + 1) * 3 + 1


def test_every_code_tells_of_the_whole_clip() -> None:
    tokenizer = build()
    tokens = tokenizer.encode(clips(1))
    before = tokenizer.decode(tokens)
    assert tokens.ids is not None
    tokens.ids[0, 3] = (tokens.ids[0, 3] + 1) % 12
    moved = (tokenizer.decode(tokens) - before).abs().amax((2, 3, 4))
    assert bool((moved > 0).all())


def test_training_gets_gradients_through_the_codes() -> None:
    tokenizer = build()
    made, quantized = tokenizer(clips())
    ((made - clips()).square().mean() + quantized.loss).backward()
    still = [n for n, p in tokenizer.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_places_of_a_clip_by_hand() -> None:
    table = volume_places(2, 2, 3, 8).unflatten(0, (2, 2, 3))
    frame = torch.tensor([1.0, 0.1, 0.01, 0.001], dtype=torch.float64)
    plane = torch.tensor([1.0, 0.01], dtype=torch.float64)
    wanted = torch.cat([frame.sin(), frame.cos()])
    wanted += torch.cat([(2 * plane).sin(), (2 * plane).cos(), plane.sin(), plane.cos()])
    torch.testing.assert_close(table[1, 1, 2], wanted)


@pytest.mark.parametrize("query_type", [True, False])
def test_official_names_go_both_ways(query_type: bool) -> None:
    tokenizer = build(LARPConfig(**{**vars(CONFIG), "query_type": query_type}))
    state = official.TABLE.to_official(tokenizer.state_dict())
    state["encoder_patch_pe"] = torch.zeros(1, 8, 16)
    state["prior_model.wte.weight"] = torch.zeros(2)
    assert detect(state) is official.LARP
    given = {"frames": 4, "volume": (1, 2, 3), "encoder.heads": 2, "decoder.heads": 2}
    config = official.LARP.config(state, given)
    assert config == tokenizer.config
    again = official.LARP.build(config, state).state_dict()
    assert all(torch.equal(again[name], value) for name, value in tokenizer.state_dict().items())


def test_the_published_size() -> None:
    entry = TOKENIZERS.get_variant("larp")
    assert entry.config.patches == (4, 16, 16)
    assert parameter_count(blank(TOKENIZERS.get_family("larp"), entry.config)) == 172_179_984


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 3, 8, 8), "frames=3 .* window, 4"),
        ((1, 4, 3, 8, 12), "size='8x12'"),
        ((1, 4, 1, 8, 8), r"clips=\[1, 4, 1, 8, 8\]"),
        ((4, 3, 8, 8), r"clips=\[4, 3, 8, 8\]"),
    ],
)
def test_wrong_clips_are_named(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build().encode(torch.zeros(shape))


@pytest.mark.parametrize(
    "wrong", [{"size": 10}, {"frames": 3}, {"volume": (0, 1, 1)}, {"encoder": StackConfig(6, 1, 1)}]
)
def test_wrong_configurations_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LARPConfig(**{**vars(CONFIG), **wrong})
