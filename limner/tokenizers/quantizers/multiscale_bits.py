"""Infinity's quantiser: one map of latents as a pyramid of bits, without a codebook.

Every scale keeps the signs of what the coarser ones left over, averaged to its size; a token is D
bits and stands for a vector of length 1. The quantiser is also the canvas of the generator: the sum
of the scales so far, which a scale reads at its own size.

Training corrects itself: bits of the scales are flipped at random, the generator reads what the
flipped bits add up to, and learns the bits that mend it.

Han et al., "Infinity: Scaling Bitwise AutoRegressive Modeling for High-Resolution Image Synthesis",
arXiv:2412.04431; facts from infinity/models/bsq_vae/multiscale_bsq.py and
infinity/models/bitwise_self_correction.py of StargazerX0/ScaleKV, a copy of FoundationVision's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.errors import check
from limner.core.layout import Layout
from limner.core.tokens import Tokens, from_ids
from limner.tokenizers.quantizers.bits import LARGEST, signs
from limner.tokenizers.quantizers.bsq import BSQ, BSQConfig
from limner.tokenizers.quantizers.codebook import Codebook
from limner.tokenizers.quantizers.quantizer import Assignment, Quantized

Size = tuple[int, int]


@dataclass(frozen=True)
class MultiScaleBitsConfig:
    """Shape of a multi-scale quantiser of bits. The scales themselves are given at call time.

    Args:
        width: D, channels of a latent and bits of its code.
        patch: a token is a square of so many by so many codes.
        reads: how the next scale reads the canvas while pictures are drawn: "linear" interpolation
            as in training, or "area" averages (ARBooth's code).
        flipped_scales: scales whose bits are flipped in training, from the coarsest on.
        flip_strength: largest share of bits that are flipped.
        commitment: weight of the loss that draws residuals to their codes, see `BSQConfig`.
        entropy: weight of the entropy losses, see `BSQConfig`.
    """

    width: int = 32
    patch: int = 1
    reads: Literal["linear", "area"] = "linear"
    flipped_scales: int = 13
    flip_strength: float = 0.3
    commitment: float = 0.25
    entropy: float = 0.1

    def __post_init__(self) -> None:
        check(0 < self.width <= LARGEST, "width", self.width, f"from 1 to {LARGEST}")
        check(self.patch > 0, "patch", self.patch, "at least 1")
        check(self.reads in ("linear", "area"), "reads", self.reads, "'linear' or 'area'")
        check(self.flipped_scales >= 0, "flipped_scales", self.flipped_scales, "0 or more")
        fits = 0 <= self.flip_strength <= 1
        check(fits, "flip_strength", self.flip_strength, "from 0 to 1")

    @property
    def bits(self) -> int:
        """Bits of a token."""
        return self.width * self.patch**2


class MultiScaleBits(nn.Module):
    """Quantises maps of latents scale by scale; a `Canvas` for generators of bits.

    Tokens hold bits, int64 [B, N, bits], 0 or 1. It has no weights.

    Args:
        config: its shape.
    """

    codebook_size = 2

    def __init__(self, config: MultiScaleBitsConfig) -> None:
        super().__init__()
        self.config = config
        losses = BSQConfig(bits=config.width, commitment=config.commitment, entropy=config.entropy)
        self.bsq = BSQ(losses)

    def encode(self, latents: Tensor, layout: Layout) -> Tokens:
        """Return the bits of latents [B, D, H, W] under a pyramid of any scales.

        Raises:
            ConfigError: the last scale does not have the size of the latents.
        """
        with torch.no_grad():
            return from_ids(layout, self.corrected(latents, layout, ())[1])

    def decode(self, tokens: Tokens) -> Tensor:
        """Return the latents that the known tokens add up to, float [B, D, H, W]."""
        layout = tokens.layout
        height, width = self._size(layout, -1)
        latents = tokens.known.new_zeros(
            (len(tokens), self.config.width, height, width), dtype=torch.float32
        )
        for segment in range(len(layout.segments)):
            known = tokens.known[:, layout.span(segment)]
            if known.any():
                latents = latents + self._drawn(self._bits(tokens, segment), layout, segment, known)
        return latents

    def forward(self, latents: Tensor, layout: Layout) -> Quantized:
        """Quantise latents [B, D, H, W] for training.

        The gradient passes straight through the sum of the scales; each scale's residual is drawn
        to its code (the losses and their weights are a choice: the released code has none).

        Returns:
            The map [B, D, H, W], bits [B, N, bits] with the residuals they are the signs of, and
            losses averaged over the scales.
        """
        rest, total = latents, torch.zeros_like(latents)
        vectors, losses = [], []
        for segment in range(len(layout.segments)):
            residual = functional.adaptive_avg_pool2d(rest, self._size(layout, segment))
            vectors.append(self._tokens(residual))
            losses.append(self.bsq(residual.movedim(1, -1)).losses)
            drawn = self._drawn(vectors[-1] > 0, layout, segment)
            rest, total = rest - drawn, total + drawn
        means = {name: torch.stack([each[name] for each in losses]).mean() for name in losses[0]}
        found = torch.cat(vectors, dim=1)
        values = latents + (total - latents).detach()
        return Quantized(values, (found > 0).long(), means, found)

    def codebooks(self) -> Sequence[Codebook]:
        """Return the learned tables: none."""
        return ()

    def assignments(self, vectors: Tensor, ids: Tensor) -> Sequence[Assignment]:
        """Return what fell to each learned table: nothing."""
        return ()

    def teach(self, tokens: Tokens, rng: torch.Generator | None = None) -> tuple[Tensor, Tokens]:
        """Return the inputs of all scales, float [B, N, bits] (0 for the first), and the targets.

        Args:
            tokens: bits; where values hold the latents at the last scale's places, those are what
                flipped bits are mended by. Otherwise it is the sum of all scales (a choice: the
                latents of a set of pictures are too much to keep).
            rng: for flips; None: nothing is flipped.
        """
        assert tokens.ids is not None
        flips = () if rng is None else self._flips(tokens, rng)
        with torch.no_grad():
            if tokens.values is not None:
                last = tokens.layout.span(len(tokens.layout.segments) - 1)
                latents = self._map(tokens.values[:, last], tokens.layout.extent[1:])
            else:
                latents = self.decode(tokens)
            inputs, bits = self.corrected(latents, tokens.layout, flips, tokens.ids)
        return inputs, from_ids(tokens.layout, bits)

    def corrected(
        self,
        latents: Tensor,
        layout: Layout,
        flips: Sequence[Tensor],
        known: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return what the scales read and learn while bits are flipped.

        Args:
            latents: float [B, D, H, W].
            flips: bool [B, n, bits] of the first so many scales: which bits are flipped.
            known: int64 [B, N, bits], bits of the latents where nothing was flipped before.

        Returns:
            Inputs, float [B, N, bits] (0 for the first scale), and bits, int64 [B, N, bits], of
            what is left when a scale's turn comes.

        Raises:
            ConfigError: the last scale does not have the size of the latents.
        """
        found, size = tuple(latents.shape[-2:]), self._size(layout, -1)
        check(size == found, "scales", size, f"a pyramid that ends in the latents' {found}")
        canvas = torch.zeros_like(latents)
        inputs, targets, flipped = [], [], False
        for segment in range(len(layout.segments)):
            inputs.append(self._tokens(self._resized(canvas, layout, segment)))
            if known is not None and not flipped:
                bits = known[:, layout.span(segment)] > 0
            else:
                size = self._size(layout, segment)
                residual = functional.adaptive_avg_pool2d(latents - canvas, size)
                bits = self._tokens(residual) > 0
            targets.append(bits)
            if segment < len(flips):
                flip = flips[segment].to(bits.device)
                bits, flipped = bits ^ flip, flipped or bool(flip.any())
            canvas = canvas + self._drawn(bits, layout, segment)
        return torch.cat(inputs, dim=1), torch.cat(targets, dim=1).long()

    def add(self, canvas: Tensor | None, tokens: Tokens, segment: int) -> Tensor:
        """Return the canvas [R, D, H, W] with one scale of the tokens added; None is blank."""
        drawn = self._drawn(self._bits(tokens, segment), tokens.layout, segment)
        return drawn if canvas is None else canvas + drawn

    def read(self, canvas: Tensor | None, tokens: Tokens, segment: int) -> Tensor:
        """Return the canvas at the size of a scale, float [R, n, bits]; 0 where it is blank."""
        if canvas is None:
            shape = (len(tokens), len(tokens.layout.segments[segment]), self.config.bits)
            return tokens.known.new_zeros(shape, dtype=torch.float32)
        if self.config.reads == "area":
            size = self._size(tokens.layout, segment)
            return self._tokens(functional.adaptive_avg_pool2d(canvas, size))
        return self._tokens(self._resized(canvas, tokens.layout, segment))

    def _flips(self, tokens: Tokens, rng: torch.Generator) -> list[Tensor]:
        """Draw which bits are flipped: one share a scale for the batch, in hundredths."""
        steps = int(100 * self.config.flip_strength + 1e-9) + 1
        flips = []
        for segment in tokens.layout.segments[: self.config.flipped_scales]:
            share = torch.randint(steps, (), generator=rng, device=rng.device) / 100
            shape = (len(tokens), len(segment), self.config.bits)
            flips.append(torch.rand(shape, generator=rng, device=rng.device) < share)
        return flips

    def _bits(self, tokens: Tokens, segment: int) -> Tensor:
        assert tokens.ids is not None
        return tokens.ids[:, tokens.layout.span(segment)] > 0

    def _size(self, layout: Layout, segment: int) -> Size:
        """Return the size of a scale's map of codes."""
        rows, columns = layout.segments[segment].size[1:]
        return rows * self.config.patch, columns * self.config.patch

    def _drawn(
        self, bits: Tensor, layout: Layout, segment: int, known: Tensor | None = None
    ) -> Tensor:
        """Return what bits [B, n, bits] of one scale add to the full map, float [B, D, H, W]."""
        codes = self.bsq.scale * signs(bits)
        codes = codes if known is None else codes * known.unsqueeze(-1)
        maps = self._map(codes, layout.segments[segment].size[1:])
        return _linear(maps, self._size(layout, -1))

    def _resized(self, canvas: Tensor, layout: Layout, segment: int) -> Tensor:
        return _linear(canvas, self._size(layout, segment))

    def _tokens(self, maps: Tensor) -> Tensor:
        """Return a map of codes [B, D, h, w] by tokens, float [B, n, bits]."""
        squares = functional.pixel_unshuffle(maps, self.config.patch)
        return squares.flatten(2).transpose(1, 2)

    def _map(self, tokens: Tensor, size: Size) -> Tensor:
        """Return tokens [B, n, bits] of a grid as a map of codes, float [B, D, h, w]."""
        squares = tokens.transpose(1, 2).unflatten(2, size)
        return functional.pixel_shuffle(squares, self.config.patch)


def _linear(maps: Tensor, size: Size) -> Tensor:
    """Interpolate maps [B, D, h, w] linearly; nothing is averaged where they become smaller."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
