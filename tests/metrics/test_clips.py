"""What is said of clips by a network of pictures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.core.errors import DataError
from limner.data import Window, open_clips
from limner.data.source import collect
from limner.hub.packaged import load_features
from limner.metrics.clips import clip_vectors
from limner.metrics.frechet import fit_gaussian, frechet_distance


def means(pictures: Tensor) -> Tensor:
    return pictures.mean(dim=(2, 3))


def test_frames_and_their_differences_are_described() -> None:
    clips = torch.rand(2, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = clip_vectors(means, clips)
    torch.testing.assert_close(found[:, :3], clips.mean(dim=(1, 3, 4)))
    travelled = (clips[:, -1] - clips[:, 0]).mean(dim=(2, 3)) / (2 * 4)
    torch.testing.assert_close(found[:, 3:], travelled)
    with pytest.raises(DataError, match="do not move"):
        clip_vectors(means, clips[:, :1])


def test_the_distance_sees_how_clips_move() -> None:
    source = open_clips("moving-twemoji", Window(6), ["Smileys & Emotion"])
    clips = collect(source, 16).to_float()
    network = load_features()
    half = len(clips) // 2
    real, other = clips[:half], clips[half:]
    mixed = other[:, [3, 0, 5, 1, 4, 2]]
    still = other[:, :1].expand_as(other)
    # of few clips, a few features: the network's own are many
    said = [clip_vectors(network.vectors, each) for each in (real, other, mixed, still)]
    keep = said[0].var(dim=0).topk(40).indices
    at = fit_gaussian(said[0][:, keep])
    apart = [frechet_distance(at, fit_gaussian(each[:, keep])) for each in said[1:]]
    assert float(apart[0]) < float(apart[1]) < float(apart[2])
    # nothing but the order of frames was changed
    width = network.width
    torch.testing.assert_close(said[1][:, :width], said[2][:, :width])
