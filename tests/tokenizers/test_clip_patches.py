"""Clip tokenizers that are fitted in closed form, on moving drawings."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from limner.core.errors import ConfigError, LimnerError
from limner.core.tokens import Tokens
from limner.data import Window, open_clips
from limner.data.source import collect
from limner.metrics.pixels import psnr
from limner.tokenizers.clip_patches import (
    ClipContinuous,
    ClipContinuousConfig,
    ClipKMeans,
    ClipKMeansConfig,
    ClipPatches,
)

FAMILIES = {
    "codes": lambda: ClipKMeans(ClipKMeansConfig(patch_frames=2, codebook_size=256)),
    "values": lambda: ClipContinuous(ClipContinuousConfig(patch_frames=2)),
    "values a frame": lambda: ClipContinuous(ClipContinuousConfig(patch=8, width=32)),
}


@cache
def clips() -> tuple[Tensor, Tensor]:
    """Float [120, 8, 3, 16, 16] and [20, 8, 3, 16, 16]."""
    source = open_clips("moving-twemoji", Window(8), ["Smileys & Emotion"])
    made = collect(source.at(range(0, 140)), 16).to_float()
    return made[:120], made[120:]


@cache
def fitted(family: str) -> ClipPatches:
    tokenizer = FAMILIES[family]()
    tokenizer.fit(clips()[0], torch.Generator().manual_seed(0))
    return tokenizer


def quality(shown: Tensor, clips: Tensor) -> float:
    return float(psnr(shown.flatten(0, 1), clips.flatten(0, 1)).mean())


@pytest.mark.parametrize("family", FAMILIES)
def test_clips_come_back_better_than_their_mean_frame(family: str) -> None:
    _, held_out = clips()
    tokenizer = fitted(family)
    tokens = tokenizer.encode(held_out)
    assert tokens.layout == tokenizer.layout(16, 16, 8) == tokenizer.layout(16, 16)
    assert tokens.known.shape == (20, len(tokens.layout))
    shown = tokenizer.decode(tokens)
    assert shown.shape == held_out.shape
    still = held_out.mean(dim=1, keepdim=True).expand_as(held_out)
    assert quality(shown, held_out) > quality(still, held_out) + 0.5


@pytest.mark.parametrize("family", FAMILIES)
def test_first_frames_alone_give_their_tokens_and_pixels(family: str) -> None:
    _, held_out = clips()
    tokenizer = fitted(family)
    whole, first = tokenizer.encode(held_out), tokenizer.encode(held_out[:, :4])
    assert tokenizer.steps_of(4) == first.layout.extent[0] < whole.layout.extent[0]
    count = len(first.layout)
    for part, alone in ((whole.ids, first.ids), (whole.values, first.values)):
        if part is not None:
            assert alone is not None
            torch.testing.assert_close(part[:, :count], alone)
    shown, begun = tokenizer.decode(whole), tokenizer.decode(first)
    torch.testing.assert_close(shown[:, :4], begun)


def test_tokens_stand_frame_after_frame() -> None:
    _, held_out = clips()
    tokenizer = fitted("codes")
    moved = held_out.clone()
    moved[:, 6:, :, 12:, 12:] = -1
    before, after = tokenizer.encode(held_out).ids, tokenizer.encode(moved).ids
    assert before is not None and after is not None
    changed = (before != after).any(dim=0)[:, 0].nonzero().flatten().tolist()
    assert changed == [len(tokenizer.layout(16, 16)) - 1]


def test_previews_are_grey_where_nothing_is_drawn() -> None:
    _, held_out = clips()
    tokenizer = fitted("codes")
    tokens = tokenizer.encode(held_out)
    half = len(tokens.layout) // 2
    known = torch.arange(len(tokens.layout)).expand(20, -1) < half
    preview = tokenizer.preview(Tokens(tokens.layout, tokens.ids, tokens.values, known))
    assert bool((preview[:, 4:] == 0).all()) and not bool((preview[:, :4] == 0).all())


def test_what_does_not_fit_is_refused() -> None:
    tokenizer = FAMILIES["codes"]()
    with pytest.raises(LimnerError, match="not fitted"):
        tokenizer.encode(clips()[1])
    tokenizer = fitted("codes")
    with pytest.raises(ConfigError, match=r"frames=7 .* a positive multiple of 2"):
        tokenizer.encode(clips()[1][:, :7])
    with pytest.raises(ConfigError, match=r"clips=\[20, 3, 16, 16\]"):
        tokenizer.encode(clips()[1][:, 0])
    with pytest.raises(ConfigError, match="frames=7"):
        ClipKMeansConfig(frames=7, patch_frames=2)
    with pytest.raises(ConfigError, match="from 1 to 48"):
        ClipContinuousConfig(width=64)


def test_a_fit_is_saved_with_the_weights() -> None:
    _, held_out = clips()
    again = FAMILIES["values"]()
    again.load_state_dict(fitted("values").state_dict())
    values = again.encode(held_out).values, fitted("values").encode(held_out).values
    assert values[0] is not None and values[1] is not None and torch.equal(*values)
