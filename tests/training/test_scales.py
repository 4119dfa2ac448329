"""What next-scale models learn of real pictures, scale by scale."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limner.core.layout import Layout, Segment
from limner.core.memory import Reading
from limner.core.request import Request
from limner.core.row import Condition
from limner.core.tokens import Tokens, from_ids
from limner.data import PictureSet, load_packaged
from limner.models.infinity import Infinity, InfinityConfig
from limner.models.m_var import MVAR, MVARConfig
from limner.models.nfig import NFIG, NFIGConfig
from limner.models.var import VAR, VARConfig
from limner.tokenizers.patch_bits import PatchBits, PatchBitsConfig
from limner.tokenizers.patches import PatchMultiScale, PatchMultiScaleConfig
from limner.tokenizers.quantizers.multiscale import MultiScaleQuantizer
from tests.training.learning import entropies_by_scale, learn, losses_by_scale

pytestmark = pytest.mark.slow

SCALES, CODES, WIDTH = (1, 2, 3, 4, 6, 8), 256, 16
SIZES: dict[str, Any] = {
    "width": 64,
    "depth": 2,
    "heads": 2,
    "codebook_size": CODES,
    "latent": WIDTH,
    "classes": 9,
    "scales": SCALES,
    "gate_gain": 1.0,
}


@dataclass(frozen=True, eq=False)
class Pictures:
    """Real pictures as tokens: those that are learned from, mirrored too, and others."""

    tokenizer: PatchMultiScale
    train: Tokens
    label: Tensor
    held_out: Tokens
    held_out_label: Tensor


def mirrored(pictures: PictureSet) -> Tensor:
    given = pictures.to_float()
    return torch.cat([given, given.flip(-1)])


@cache
def pictures(resampling: str) -> Pictures:
    train, held_out = load_packaged(size=32).split(0.1)
    config = PatchMultiScaleConfig(
        width=WIDTH,
        codebook_size=CODES,
        scales=SCALES,
        resampling=resampling,  # type: ignore[arg-type]
    )
    tokenizer = PatchMultiScale(config)
    tokenizer.fit(train.to_float(), torch.Generator().manual_seed(0))
    tokens = tokenizer.encode(mirrored(train)), tokenizer.encode(held_out.to_float())
    return Pictures(tokenizer, tokens[0], train.labels.repeat(2), tokens[1], held_out.labels)


def started(model: VAR, data: Pictures) -> VAR:
    """Give a fresh model its canvas and the codes."""
    model.canvas = data.tokenizer.canvas
    model.start_from_codes(data.tokenizer.code_vectors(), torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize(
    ("family", "config", "resampling"),
    [(VAR, VARConfig, "area"), (NFIG, NFIGConfig, "fourier")],
    ids=["var", "nfig"],
)
def test_every_scale_is_foretold_better_than_by_counting(
    family: type[VAR], config: type[VARConfig], resampling: str
) -> None:
    data = pictures(resampling)
    torch.manual_seed(0)
    model = started(family(config(**SIZES)), data)
    learn(model, data.train, {"label": data.label}, 300)
    right = losses_by_scale(model, data.held_out, {"label": data.held_out_label})
    wrong = losses_by_scale(model, data.held_out, {"label": (data.held_out_label + 4) % 9})
    assert data.train.ids is not None and data.held_out.ids is not None
    every = torch.cat([data.train.ids, data.held_out.ids])[..., 0]
    counting = entropies_by_scale(every, data.train.layout, CODES)
    assert (right < counting - 0.1).all()
    share = torch.tensor([side**2 for side in SCALES]) / sum(side**2 for side in SCALES)
    assert (share * (wrong - right)).sum() > 0.05


class Silent(nn.Module):
    """In the place of a mixer: it says nothing."""

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        return torch.zeros_like(x)


def test_scales_are_foretold_better_where_they_mix() -> None:
    """Without M-VAR's mixer, a scale knows of coarser ones by its inputs alone."""
    data, found = pictures("area"), []
    for mixes in (True, False):
        torch.manual_seed(0)
        config = MVARConfig(**SIZES, mixer_state=16, mixer_head_width=32)
        model = started(MVAR(config), data)
        if not mixes:
            for block in model.blocks:
                block.mixer = Silent()
        learn(model, data.train, {"label": data.label}, 200)
        found.append(losses_by_scale(model, data.held_out, {"label": data.held_out_label}))
    mixed, apart = found
    assert mixed[-1] < apart[-1] - 0.08


def turned(tokens: Tokens) -> Tokens:
    """Return the same tokens, the last scale first."""
    assert tokens.ids is not None
    layout = tokens.layout
    spans = [layout.span(scale) for scale in reversed(range(len(layout.segments)))]
    sizes = [layout.segments[scale].size for scale in reversed(range(len(layout.segments)))]
    parts = [Segment("ids", size, scale) for scale, size in enumerate(sizes)]
    ids = torch.cat([tokens.ids[:, span] for span in spans], dim=1)
    return from_ids(Layout(tuple(parts), (1, 8, 8)), ids)


class HighFirst:
    """The canvas of bands that are drawn from the highest to the lowest."""

    def __init__(self, inner: MultiScaleQuantizer) -> None:
        self.inner = inner

    def teach(
        self, tokens: Tokens, rng: torch.Generator | None = None
    ) -> tuple[Tensor | None, Tokens]:
        straight, canvas, inputs = self._straight(tokens), None, []
        for segment in reversed(range(len(SCALES))):
            inputs.append(self.inner.read(canvas, straight, segment))
            canvas = self.inner.add(canvas, straight, segment)
        return torch.cat(inputs, dim=1), tokens

    def add(self, canvas: Tensor | None, tokens: Tokens, segment: int) -> Tensor:
        return self.inner.add(canvas, self._straight(tokens), len(SCALES) - 1 - segment)

    def read(self, canvas: Tensor | None, tokens: Tokens, segment: int) -> Tensor:
        return self.inner.read(canvas, self._straight(tokens), len(SCALES) - 1 - segment)

    def _straight(self, tokens: Tokens) -> Tokens:
        back = turned(tokens)
        return Tokens(pictures("fourier").train.layout, back.ids, None, back.known)


def test_high_frequencies_first_are_harder_to_foretell() -> None:
    data = pictures("fourier")
    found = []
    for low_first in (True, False):
        torch.manual_seed(0)
        sizes = SIZES if low_first else {**SIZES, "scales": SCALES[::-1]}
        model = started(NFIG(NFIGConfig(**sizes)), data)
        train, held_out = data.train, data.held_out
        if not low_first:
            model.canvas = HighFirst(data.tokenizer.quantizer)
            train, held_out = turned(train), turned(held_out)
        learn(model, train, {"label": data.label}, 300)
        condition: Condition = {"label": data.held_out_label}
        count = len(held_out.layout)
        half = (torch.arange(count) < count // 2).float()
        with torch.no_grad():
            first = float(model.loss(held_out, condition, None, half).total)
            whole = float(model.loss(held_out, condition).total)
        found.append((first, whole))
    (low, low_whole), (high, high_whole) = found
    assert high > low + 0.3 and high_whole > low_whole + 0.3


def test_bits_of_every_scale_are_foretold_while_some_are_flipped() -> None:
    train, held_out = load_packaged(size=32).split(0.1)
    tokenizer = PatchBits(PatchBitsConfig(width=WIDTH, scales=SCALES))
    tokenizer.fit(train.to_float(), torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = Infinity(
        InfinityConfig(
            width=64,
            depth=2,
            heads=2,
            bits=WIDTH,
            condition="caption",
            text_length=8,
            text_width=64,
            levels=6,
            reference="own",
            drop_path=0.0,
            gate_gain=1.0,
        )
    )
    model.canvas = tokenizer.canvas
    tokens, seen = tokenizer.encode(train.to_float()), tokenizer.encode(held_out.to_float())
    told, asked = (
        model.condition.ask(Request(len(each), prompts=list(each.captions)))
        for each in (train, held_out)
    )
    learn(model, tokens, told, 250)
    fed, targets = model.canvas.teach(seen)
    assert fed is not None and targets.ids is not None
    with torch.no_grad():
        right = (model.taught(seen, fed, asked).argmax(-1) == targets.ids).float()
    shares = [float(right[:, seen.layout.span(scale)].mean()) for scale in range(len(SCALES))]
    assert min(shares) > 0.55
