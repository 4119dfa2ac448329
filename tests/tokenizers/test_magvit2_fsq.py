"""NBP's tokenizer: shapes, causality, counts, official names, bad input."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from limner.core.errors import ConfigError
from limner.core.registry import TOKENIZERS
from limner.core.tokens import from_ids
from limner.hub.build import blank, parameter_count
from limner.hub.convert import detect
from limner.hub.official import magvit2_fsq as official
from limner.layers.volume import DepthToSpace
from limner.tokenizers.magvit2_fsq import MAGVIT2FSQ, MAGVIT2FSQConfig

CONFIG = MAGVIT2FSQConfig((4, 8, 12), blocks=1, groups=2, levels=(8, 5, 3), frames=5)


@pytest.fixture(scope="module")
def tokenizer() -> MAGVIT2FSQ:
    torch.manual_seed(0)
    made = MAGVIT2FSQ(CONFIG).eval().requires_grad_(False)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def test_clips_become_volumes_of_codes_and_clips_again(tokenizer: MAGVIT2FSQ) -> None:
    clips = torch.rand(2, 5, 3, 16, 24) * 2 - 1
    tokens = tokenizer.encode(clips)
    assert tokens.layout.extent == (2, 2, 3) == tokenizer.layout(16, 24).extent
    assert tokens.ids is not None and tokens.ids.shape == (2, 12, 1)
    assert int(tokens.ids.min()) >= 0 and int(tokens.ids.max()) < 120
    shown = tokenizer.decode(tokens)
    assert shown.shape == clips.shape and float(shown.abs().max()) <= 1
    beyond = from_ids(tokens.layout, torch.where(tokens.ids[..., 0] == 0, -7, tokens.ids[..., 0]))
    assert torch.equal(tokenizer.decode(beyond), shown)


def test_codes_do_not_depend_on_later_frames(tokenizer: MAGVIT2FSQ) -> None:
    clips = torch.rand(1, 9, 3, 16, 16) * 2 - 1
    other = clips.clone()
    other[:, 5:] = -other[:, 5:]
    before, after = tokenizer.encode_latents(clips), tokenizer.encode_latents(other)
    assert torch.equal(before[:, :, :2], after[:, :, :2])
    assert not torch.allclose(before[:, :, 2], after[:, :, 2])
    whole, part = tokenizer.encode(clips).ids, tokenizer.encode(clips[:, :5]).ids
    assert whole is not None and part is not None and torch.equal(whole[:, :8], part)


def test_depth_becomes_space_block_by_block() -> None:
    x = torch.arange(8.0).reshape(1, 8, 1, 1, 1)
    grown = DepthToSpace(2)(x)  # the first of two frames is left out
    assert grown.shape == (1, 1, 1, 2, 2) and grown.flatten().tolist() == [4, 5, 6, 7]
    grown = DepthToSpace(1)(x)
    assert grown.shape == (1, 2, 1, 2, 2) and grown[0, 0].flatten().tolist() == [0, 2, 4, 6]


def test_the_variant_has_the_published_count() -> None:
    entry = TOKENIZERS.get_variant("magvit2-fsq")
    network = blank(TOKENIZERS.get_family(entry.family), entry.config)
    assert round(parameter_count(network) / 1e6, 1) == 370.4
    assert network.codebook_size == 64000


@pytest.mark.parametrize("blocks", [1, 2])
def test_official_weights_are_recognised(blocks: int) -> None:
    config = replace(CONFIG, blocks=blocks)
    made = MAGVIT2FSQ(config)
    state = official.TABLE.to_official(made.state_dict())
    converter = official.MAGVIT2_FSQ
    assert detect(state) is converter
    told = {"levels": config.levels, "groups": 2, "frames": 5}
    assert converter.config(state, told) == config
    again = converter.build(config, state)
    for name, tensor in made.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_wrong_input_is_named(tokenizer: MAGVIT2FSQ) -> None:
    with pytest.raises(ConfigError, match=r"frames=4 .*multiple of 4"):
        tokenizer.encode(torch.zeros(1, 4, 3, 16, 16))
    with pytest.raises(ConfigError, match=r"clips=\[1, 3, 16, 16\]"):
        tokenizer.encode(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ConfigError, match="multiples of 8 pixels"):
        tokenizer.encode(torch.zeros(1, 5, 3, 12, 16))
    for wrong in ({"frames": 8}, {"widths": (4, 8, 9)}, {"blocks": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            replace(CONFIG, **wrong)
