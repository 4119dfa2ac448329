"""NBP's tokenizer of clips: MAGVIT-v2's causal autoencoder with finite scalar quantisation.

Ren et al., "Next Block Prediction: Video Generation via Semi-Autoregressive Modeling",
arXiv:2502.07737; facts from nbp/magvit2.py and nbp/quantizers/fsq.py of RenShuhuai-Andy/NBP.
MAGVIT-v2: Yu et al., arXiv:2310.05737.

No frame is described by later ones: the codes of the first frames do not depend on the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limner.core.errors import check
from limner.core.layout import Layout, grid
from limner.core.noise import Noise
from limner.core.registry import TOKENIZERS
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens, from_ids
from limner.layers.volume import (
    CausalConvolution3d,
    DepthToSpace,
    FrameNorm,
    LearnedSwish,
    ResidualUnit,
)
from limner.tokenizers.quantizers.fsq import FSQ, FSQConfig
from limner.tokenizers.reconstruction import Reconstruction

FRAMES_A_STEP = 4
"""Frames that a further step in time of the codes stands for; the first stands for one."""


@dataclass(frozen=True)
class MAGVIT2FSQConfig:
    """Size of the tokenizer.

    Args:
        widths: channels, fine to coarse.
        blocks: residual units a stage.
        groups: of the norms.
        levels: of the quantiser.
        frames: of a clip, when a caller does not say; 1 more than a multiple of 4.
    """

    widths: tuple[int, int, int] = (128, 256, 512)
    blocks: int = 4
    groups: int = 32
    levels: tuple[int, ...] = (8, 8, 8, 5, 5, 5)
    frames: int = 17

    def __post_init__(self) -> None:
        check(self.blocks > 0, "blocks", self.blocks, "1 or more")
        fits = self.groups > 0 and all(w > 0 and w % self.groups == 0 for w in self.widths)
        check(fits, "widths", self.widths, f"positive multiples of the {self.groups} groups")
        check_frames(self.frames)


def check_frames(frames: int) -> None:
    """Raise ConfigError unless a clip of so many frames can be tokenised."""
    fits = frames > 0 and frames % FRAMES_A_STEP == 1
    check(fits, "frames", frames, f"1 more than a multiple of {FRAMES_A_STEP}")


@TOKENIZERS.family("magvit2-fsq", MAGVIT2FSQConfig)
class MAGVIT2FSQ(Tokenizer):
    """Clips, float32 [B, T, 3, H, W] in [-1, 1], to a volume of codes and back.

    Args:
        config: its size.
    """

    config: MAGVIT2FSQConfig
    codes = 1
    factor = 8

    def __init__(self, config: MAGVIT2FSQConfig) -> None:
        super().__init__()
        self.config = config
        self.frames = config.frames
        self.quantizer = FSQ(FSQConfig(levels=config.levels, inner=True))
        self.codebook_size = self.quantizer.codebook_size
        self.encoder = _encoder(config)
        self.decoder = _decoder(config)

    def layout(self, height: int, width: int, frames: int | None = None, **schedule: Any) -> Layout:
        """Return the volume of a clip.

        Args:
            frames: None: the configured number.
        """
        self.check_size(height, width)
        frames = self.config.frames if frames is None else frames
        check_frames(frames)
        steps = 1 + frames // FRAMES_A_STEP
        return grid(height // self.factor, width // self.factor, steps)

    @torch.no_grad()
    def encode(self, pictures: Tensor, noise: Noise | None = None) -> Tokens:
        """Return the codes of clips [B, T, 3, H, W].

        Raises:
            ConfigError: clips of a size or length that cannot be tokenised.
        """
        self.check_clips(pictures)
        layout = self.layout(pictures.shape[3], pictures.shape[4], pictures.shape[1])
        ids = self.quantizer.nearest(self.encode_latents(pictures).movedim(1, -1))
        return from_ids(layout, ids.flatten(1))

    def decode(
        self, tokens: Tokens, options: dict[str, Any] | None = None, noise: Noise | None = None
    ) -> Tensor:
        """Return clips [B, T, 3, H, W], clamped to [-1, 1].

        Ids that are no codes, which the released generators may draw, are read as the nearest ones.
        """
        assert tokens.ids is not None
        ids = tokens.ids.squeeze(-1).clamp(0, self.codebook_size - 1)
        values = self.quantizer.lookup(ids).to(next(self.decoder.parameters()))
        latents = values.unflatten(1, tokens.layout.extent).movedim(-1, 1)
        return self.decode_latents(latents).clamp(-1, 1)

    def steps_of(self, frames: int) -> int:
        """No code tells of later frames; the first step is one frame, each other one four."""
        check_frames(frames)
        return 1 + frames // FRAMES_A_STEP

    def preview(self, tokens: Tokens) -> Tensor:
        """Return what is drawn so far; other places show what their ids say."""
        return self.decode(tokens)

    @property
    def last_layer(self) -> Tensor:
        """Weights of the convolution that makes the pixels."""
        last = self.decoder[-1]
        assert isinstance(last, CausalConvolution3d)
        return last.conv.weight

    def reconstruct(self, pictures: Tensor, rng: torch.Generator | None = None) -> Reconstruction:
        """Send clips [B, T, 3, H, W] through codes and back, with gradients.

        Raises:
            ConfigError: clips of a size or length that cannot be tokenised.
        """
        self.check_clips(pictures)
        self.layout(pictures.shape[3], pictures.shape[4], pictures.shape[1])
        vectors = self.encode_latents(pictures).movedim(1, -1)
        quantized = self.quantizer(vectors)
        shown = self.decode_latents(quantized.values.movedim(-1, 1).to(vectors))
        return Reconstruction(shown, quantized.losses, vectors.detach(), quantized.ids)

    def encode_latents(self, clips: Tensor) -> Tensor:
        """Return latents before quantisation, float [B, D, t, h, w], of [B, T, 3, H, W]."""
        # the network reads [0, 1]
        latents: Tensor = self.encoder((clips.transpose(1, 2) + 1) / 2)
        return latents

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return clips [B, T, 3, H, W] of quantised latents [B, D, t, h, w], not clamped."""
        painted: Tensor = self.decoder(latents)
        return 2 * painted.transpose(1, 2) - 1


def _units(inputs: int, outputs: int, config: MAGVIT2FSQConfig, count: int) -> list[nn.Module]:
    """Return residual units, of which the first changes the channels."""
    return [
        ResidualUnit(outputs if index else inputs, outputs, config.groups) for index in range(count)
    ]


def _encoder(config: MAGVIT2FSQConfig) -> nn.Sequential:
    (fine, middle, coarse), count = config.widths, config.blocks
    return nn.Sequential(
        CausalConvolution3d(3, fine),
        *_units(fine, fine, config, count),
        CausalConvolution3d(fine, fine, stride=(1, 2, 2)),
        *_units(fine, middle, config, count),
        CausalConvolution3d(middle, middle, stride=(2, 2, 2)),
        *_units(middle, middle, config, count),
        CausalConvolution3d(middle, middle, stride=(2, 2, 2)),
        *_units(middle, coarse, config, count),
        *_units(coarse, coarse, config, count),
        FrameNorm(config.groups, coarse),
        LearnedSwish(coarse),
        nn.Conv3d(coarse, len(config.levels), 1),
    )


def _decoder(config: MAGVIT2FSQConfig) -> nn.Sequential:
    (fine, middle, coarse), count = config.widths, config.blocks
    return nn.Sequential(
        CausalConvolution3d(len(config.levels), coarse),
        *_units(coarse, coarse, config, 2 * count),
        CausalConvolution3d(coarse, 8 * coarse),
        DepthToSpace(2),
        *_units(coarse, middle, config, count),
        CausalConvolution3d(middle, 8 * middle),
        DepthToSpace(2),
        *_units(middle, middle, config, count),
        CausalConvolution3d(middle, 4 * middle),
        DepthToSpace(1),
        *_units(middle, fine, config, count),
        FrameNorm(config.groups, fine),
        LearnedSwish(fine),
        CausalConvolution3d(fine, 3),
    )


TOKENIZERS.variant("magvit2-fsq", "magvit2-fsq", MAGVIT2FSQConfig(), "370.4M")
