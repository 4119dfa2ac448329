"""Feature spaces by name, and what they say of a set of pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from limner.core.errors import DataError, check, unknown
from limner.data.images import to_float
from limner.evaluation.pictures import Pictures
from limner.evaluation.samples import Tell, silent
from limner.hub.networks import load_i3d, load_inception
from limner.hub.packaged import load_features
from limner.metrics.clips import clip_vectors
from limner.metrics.features import check_features
from limner.metrics.frechet import spatial_features
from limner.show.images import in_a_row

SHOWN = 64  # pictures of a set that are kept to be looked at
SPACES = ("packaged", "inception", "i3d")
CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Vectors:
    """What a network says of B pictures.

    Args:
        pooled: float [B, D], which sets are compared by.
        spatial: float [B, S], of feature maps, for sFID; None: it is not measured.
        logits: float [B, C], of classes, for the Inception Score; None: it is not measured.
    """

    pooled: Tensor
    spatial: Tensor | None = None
    logits: Tensor | None = None


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """A network, and what numbers in its features are called.

    Args:
        name: "packaged", "inception" or one's own.
        label: added to the names of numbers, so that nobody takes them for those of another space.
        network: from uint8 [B, 3, H, W], or clips [B, T, 3, H, W], on `device`, to features.
        fingerprint: of its weights.
        device: where it is.
        distance: name of the Fréchet distance.
        kernel: name of the kernel distance.
        pictures: it is of pictures.
        clips: the space of clips by the same network, if there is one.
    """

    name: str
    label: str
    network: Callable[[Tensor], Vectors]
    fingerprint: str
    device: torch.device = CPU
    distance: str = "FD"
    kernel: str = "KD"
    pictures: bool = True
    clips: FeatureSpace | None = None

    def of(self, frames: int) -> FeatureSpace:
        """Return the space of clips of so many frames, or of pictures (0).

        Raises:
            DataError: the network says nothing of those.
        """
        found = self.clips if frames else self if self.pictures else None
        if found is None:
            kind = "clips" if frames else "pictures"
            raise DataError(f"the feature space {self.name!r} is not of {kind}: take another")
        return found

    def title(self, number: str) -> str:
        """Return the name of a number as it is shown."""
        return f"{number} ({self.label})" if self.label else number


@dataclass(frozen=True, eq=False)
class Described:
    """What a feature space says of a whole set.

    Args:
        name: of the set.
        size: height and width of its pictures.
        fingerprint: of its pictures, whatever their order.
        shown: uint8 [up to SHOWN, 3, H, W], evenly spread over the set; clips as frames in a row.
        vectors: of all N pictures, float32, on the CPU.
    """

    name: str
    size: tuple[int, int]
    fingerprint: str
    shown: Tensor
    vectors: Vectors

    def __len__(self) -> int:
        return len(self.vectors.pooled)


def load_space(
    name: str, weights: str | Path | None = None, device: torch.device | str = "cpu"
) -> FeatureSpace:
    """Return a feature space.

    Args:
        name: "packaged": limner's own small network, "inception": that of FID, sFID and the
            Inception Score, "i3d": that of FVD, which is of clips.
        weights: of the Inception or the I3D network, see `limner.hub.networks`.
        device: where the network is put.

    Raises:
        ConfigError: no such space, or weights for the packaged one.
        CheckpointError: the weights are missing; says which file, and where users get it.
    """
    where = torch.device(device)
    if name == "inception":
        inception = load_inception(weights).to(where)

        def see(levels: Tensor) -> Vectors:
            found = inception(levels)
            maps = spatial_features(found.maps)
            return Vectors(found.pool_2048, maps, found.logits_unbiased)

        return FeatureSpace(name, "", see, weights_digest(inception), where, "FID", "KID")
    if name == "packaged":
        check(weights is None, "weights", weights, "left out: the packaged network brings its own")
        network = load_features(device=where)

        def look(levels: Tensor) -> Vectors:
            return Vectors(network.vectors(to_float(levels)))

        def watch(levels: Tensor) -> Vectors:
            return Vectors(clip_vectors(network.vectors, to_float(levels)))

        told = "limner features of frames and their differences"
        clips = FeatureSpace(name, told, watch, weights_digest(network), where)
        return replace(clips, label="limner features", network=look, clips=clips)
    if name == "i3d":
        i3d = load_i3d(weights, where)

        def follow(levels: Tensor) -> Vectors:
            return Vectors(i3d(to_float(levels)))

        clips = FeatureSpace(name, "", follow, i3d.fingerprint, where, "FVD", "KVD")
        return replace(clips, pictures=False, clips=clips)
    raise unknown("feature space", name, SPACES)


@torch.no_grad()
def describe(
    pictures: Pictures, space: FeatureSpace, batch: int = 64, tell: Tell = silent
) -> Described:
    """Compute the features of a set.

    Args:
        pictures: all of them are read, once.
        space: whose features.
        batch: pictures at once.
        tell: is told after every batch.

    Raises:
        DataError: pictures cannot be read, or have features that are not finite.
    """
    parts: list[Vectors] = []
    shown: list[Tensor] = []
    digests: list[bytes] = []
    wanted = set(torch.linspace(0, len(pictures) - 1, min(SHOWN, len(pictures))).long().tolist())
    done = 0
    with exact_products():
        for levels in pictures.batches(batch):
            found = space.network(levels.to(space.device))
            span = f"features of pictures {done} to {done + len(levels) - 1} of {pictures.name}"
            check_features(found.pooled, name=span)
            parts.append(_kept(found))
            digests += [hashlib.sha256(picture.numpy().tobytes()).digest() for picture in levels]
            flat = in_a_row(levels) if pictures.frames else levels
            shown += [picture for place, picture in enumerate(flat, done) if place in wanted]
            done += len(levels)
            tell(f"features of {pictures.name}", done, len(pictures))
    if not done:
        raise DataError(f"{pictures.name} holds no pictures")
    return Described(
        pictures.name,
        pictures.size,
        hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:32],
        torch.stack(shown),
        _joined(parts),
    )


@contextmanager
def exact_products() -> Iterator[None]:
    """Keep TF32 off within the block: it moves features in the third digit."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def weights_digest(network: nn.Module) -> str:
    """Return a text that changes when a weight of a network does."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _kept(found: Vectors) -> Vectors:
    """Return vectors as float32 on the CPU."""
    pooled, spatial, logits = (
        None if tensor is None else tensor.float().cpu()
        for tensor in (found.pooled, found.spatial, found.logits)
    )
    assert pooled is not None
    return Vectors(pooled, spatial, logits)


def _joined(parts: list[Vectors]) -> Vectors:
    """Return the vectors of all batches."""
    spatial = [part.spatial for part in parts if part.spatial is not None]
    logits = [part.logits for part in parts if part.logits is not None]
    return Vectors(
        torch.cat([part.pooled for part in parts]),
        torch.cat(spatial) if spatial else None,
        torch.cat(logits) if logits else None,
    )
