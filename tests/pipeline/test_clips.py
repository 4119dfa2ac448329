"""Clips through the pipeline: how many frames, and those that are given first."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from limner.core.errors import CheckpointError, ConfigError
from limner.core.generator import Generator
from limner.core.tokenizer import Tokenizer
from limner.data import Window, load_packaged, open_clips
from limner.data.source import collect
from limner.heads.denoising import DenoisingConfig
from limner.layers.vision_transformer import StackConfig
from limner.models.acdit import ACDiT, ACDiTConfig
from limner.models.ar_diffusion import ARDiffusion, ARDiffusionConfig
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.models.nar import NAR, NARConfig
from limner.models.nbp import NBP, NBPConfig
from limner.pipeline import Pipeline
from limner.show.images import in_a_row, out_of_a_row, to_images
from limner.tokenizers.clip_patches import (
    ClipContinuous,
    ClipContinuousConfig,
    ClipKMeans,
    ClipKMeansConfig,
)
from limner.tokenizers.larp import LARP, LARPConfig
from limner.tokenizers.patches import PatchKMeans, PatchKMeansConfig

SIZE, FRAMES = 16, 4
STACK = StackConfig(32, 2, 2)


@cache
def clips() -> Tensor:
    """Float [40, 4, 3, 16, 16]."""
    source = open_clips("moving-twemoji", Window(FRAMES), ["Smileys & Emotion"])
    return collect(source.at(range(40)), SIZE).to_float()


def codes(frames: int = FRAMES) -> Tokenizer:
    return ClipKMeans(ClipKMeansConfig(frames, patch=8, width=16, codebook_size=16))


def values(frames: int = FRAMES) -> Tokenizer:
    return ClipContinuous(ClipContinuousConfig(frames, patch=8, width=8))


def nar() -> Generator:
    config = NARConfig(32, 2, 2, 16, classes=3, deeper=(1, 1), places="learned", tokens=16)
    return NAR(config)


def nbp() -> Generator:
    return NBP(NBPConfig(STACK, 16, block=4, places=64))


def acdit() -> Generator:
    stack, head = StackConfig(64, 1, 1), DenoisingConfig(steps=3)
    return ACDiT(ACDiTConfig(stack, head, token_width=8, block=4, square=False, classes=3))


def ar_diffusion() -> Generator:
    size = {"frames": FRAMES, "frame_tokens": 4, "token_width": 8}
    return ARDiffusion(ARDiffusionConfig(STACK, **size, context=2, context_width=8, steps=4, lag=1))


MODELS: dict[str, tuple[Callable[[], Tokenizer], Callable[[], Generator]]] = {
    "nar": (codes, nar),
    "nbp": (codes, nbp),
    "acdit": (values, acdit),
    "ar-diffusion": (values, ar_diffusion),
}


@cache
def made(name: str) -> Pipeline:
    tokenizer, generator = (make() for make in MODELS[name])
    tokenizer.fit(clips(), torch.Generator().manual_seed(0))  # type: ignore[operator]
    torch.manual_seed(0)
    for parameter in generator.parameters():
        if parameter.dim() > 1:  # what begins at zero would hide what is read
            torch.nn.init.normal_(parameter, std=0.1)
    return Pipeline(tokenizer, generator, size=(SIZE, SIZE))


@pytest.mark.parametrize("name", MODELS)
def test_given_frames_are_held_and_others_follow_from_them(name: str) -> None:
    pipeline = made(name)
    first = clips()[:2, :2]
    own = pipeline.tokenizer.decode(pipeline.tokenizer.encode(first))
    drawn = [pipeline.continue_clip(each, seed=3).pictures for each in first]
    for begun, clip in zip(own, drawn, strict=True):
        assert clip.shape == (1, FRAMES, 3, SIZE, SIZE)
        # AR-Diffusion's known frames grow by 0.002 % a step, as in the released code
        torch.testing.assert_close(clip[0, :2], begun, atol=1e-3, rtol=0)
        assert not torch.allclose(clip[0, 2:], begun, atol=0.05)
    assert not torch.allclose(drawn[0][:, 2:], drawn[1][:, 2:], atol=1e-3)


@pytest.mark.parametrize("name", ["nar", "acdit"])
def test_a_call_draws_clips_by_seed(name: str) -> None:
    pipeline = made(name)
    result = pipeline(classes=[0, 2], seed=5)
    assert result.pictures.shape == (2, FRAMES, 3, SIZE, SIZE)
    assert result.settings[1]["frames"] == FRAMES
    assert [len(frames) for frames in result.clips] == [FRAMES, FRAMES]
    assert [image.size for image in result.images] == [(FRAMES * SIZE, SIZE)] * 2
    again = pipeline(classes=[2], seed=6)
    torch.testing.assert_close(again.pictures[0], result.pictures[1], atol=1e-3, rtol=0)


def test_longer_clips_are_drawn_where_the_model_allows_it() -> None:
    assert made("ar-diffusion")(frames=6).pictures.shape[1] == 6
    with pytest.raises(ConfigError, match=r"frames=3 .* the frames of the window"):
        made("ar-diffusion")(frames=3)
    with pytest.raises(ConfigError, match=r"tokens=20 .* places are a table"):
        made("nar")(frames=5)


def test_frames_are_kept_with_a_pipeline(tmp_path: Path) -> None:
    pipeline = made("acdit")
    longer = Pipeline(pipeline.tokenizer, pipeline.generator, size=(SIZE, SIZE), frames=6)
    longer.save_pretrained(tmp_path / "longer")
    loaded = Pipeline.from_pretrained(tmp_path / "longer")
    assert loaded.frames == 6 and loaded().pictures.shape[1] == 6
    index = tmp_path / "longer" / "limner.json"
    index.write_text(index.read_text().replace('"frames": 6', '"frames": "six"'))
    with pytest.raises(CheckpointError, match="frames must be"):
        Pipeline.from_pretrained(tmp_path / "longer")


def test_what_cannot_go_on_says_so() -> None:
    frames = clips()[0]
    pictures = PatchKMeans(PatchKMeansConfig(patch=8, width=16, codebook_size=16))
    pictures.fit(load_packaged(size=SIZE).to_float(slice(0, 40)), torch.Generator())
    still = Pipeline(pictures, LlamaGen(LlamaGenConfig(32, 1, 2, 16, classes=1)), size=(16, 16))
    with pytest.raises(ConfigError, match="this pipeline draws pictures"):
        still.continue_clip(frames[:1])
    with pytest.raises(ConfigError, match=r"frames=4 .* this pipeline draws pictures"):
        still(frames=4)
    with pytest.raises(ConfigError, match=r"first frames=4 .* from 1 to 3"):
        made("nar").continue_clip(frames)
    with pytest.raises(ConfigError, match="the first block at least"):
        made("nbp")()
    stack = StackConfig(16, 1, 2)
    config = LARPConfig(16, 4, 8, 2, stack, stack, volume=(4, 2, 2), codebook_size=16)
    whole = Pipeline(LARP(config), nar(), size=(16, 16))
    assert whole.frames == 4 and whole(seed=0).pictures.shape[1] == 4
    with pytest.raises(ConfigError, match="tokens of LARP do not tell them from later ones"):
        whole.continue_clip(frames[:2])
    with pytest.raises(ConfigError, match=r"frames=8 .* the model's window, 4"):
        whole(frames=8)


def test_rows_of_frames_come_apart_again() -> None:
    some = clips()[:3]
    assert torch.equal(out_of_a_row(in_a_row(some), FRAMES), some)
    image = to_images(some)[2]
    piece = image.crop((SIZE, 0, 2 * SIZE, SIZE))
    assert piece.tobytes() == to_images(some[2])[1].tobytes()
