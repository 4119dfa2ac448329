"""TiTok's transformers: maps to a few latent vectors and back, and attention over frames between.

Yu et al., "An image is worth 32 tokens for reconstruction and generation", arXiv:2406.07550; over
time as AR-Diffusion has it (arXiv:2503.07418), facts from src/vae/{blocks_kl,blocks_kl_wt}.py of
iva-mzsun/AR-Diffusion.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limner.core.memory import PassReading, scaled_attention
from limner.layers.attention import SelfAttention
from limner.layers.linear import Linear
from limner.layers.vision_transformer import StackConfig, VisionBlock

EPS = 1e-5


class LatentTransformer(nn.Module):
    """What encoder and decoder have in common: places of map and latents, blocks between norms.

    Args:
        stack: size.
        places: of the map.
        latents: number of latent vectors.
    """

    def __init__(self, stack: StackConfig, places: int, latents: int) -> None:
        super().__init__()
        scale = stack.width**-0.5
        self.class_vector = nn.Parameter(scale * torch.randn(1, stack.width))
        self.places = nn.Parameter(scale * torch.randn(places + 1, stack.width))
        self.latent_places = nn.Parameter(scale * torch.randn(latents, stack.width))
        self.norm_in = nn.LayerNorm(stack.width, EPS)
        self.blocks = nn.ModuleList(
            VisionBlock(stack.width, stack.heads, layer, stack.ratio, eps=EPS)
            for layer in range(stack.depth)
        )
        self.norm_out = nn.LayerNorm(stack.width, EPS)

    def joined(self, maps: Tensor, latents: Tensor) -> Tensor:
        """Return class vector, map [B, P, width] and latents [B, L, width] with their places."""
        first = self.class_vector.expand(len(maps), 1, -1)
        maps = torch.cat([first, maps], dim=1) + self.places
        joined: Tensor = self.norm_in(torch.cat([maps, latents + self.latent_places], dim=1))
        return joined


class LatentEncoder(LatentTransformer):
    """Pictures to latents.

    Args:
        stack: size.
        side: patches along each side of a picture.
        patch: side of a patch.
        latents: L.
        outputs: numbers of each latent.
    """

    def __init__(
        self, stack: StackConfig, side: int, patch: int, latents: int, outputs: int
    ) -> None:
        super().__init__(stack, side**2, latents)
        self.embed = nn.Conv2d(3, stack.width, patch, stride=patch)
        self.out = nn.Conv2d(stack.width, outputs, 1)

    def forward(self, pictures: Tensor, queries: Tensor) -> Tensor:
        """Map pictures [B, 3, H, W] and learned vectors [L, width] to float [B, outputs, L]."""
        patches = self.embed(pictures).flatten(2).transpose(1, 2)
        x = self.joined(patches, queries.expand(len(pictures), -1, -1))
        for block in self.blocks:
            x = block(x, PassReading())
        latents = self.norm_out(x[:, -len(queries) :])
        # the released code takes one order of numbers for another: the weights were trained so
        latents = latents.reshape(len(pictures), -1, len(queries), 1)
        outputs: Tensor = self.out(latents).reshape(len(pictures), -1, len(queries))
        return outputs


class LatentDecoder(LatentTransformer):
    """Latents to maps of logits of codes.

    Args:
        stack: size.
        side: of the map.
        latents: L.
        inputs: numbers of each latent.
        codes: number of codes.
        temporal: frames see earlier ones, before every block.
    """

    def __init__(
        self,
        stack: StackConfig,
        side: int,
        latents: int,
        inputs: int,
        codes: int,
        temporal: bool,
    ) -> None:
        super().__init__(stack, side**2, latents)
        self.side = side
        self.into = nn.Linear(inputs, stack.width)
        self.mask_token = nn.Parameter(stack.width**-0.5 * torch.randn(1, 1, stack.width))
        count = stack.depth if temporal else 0
        self.fine = nn.ModuleList(FineAttention(stack.width, stack.heads) for _ in range(count))
        self.coarse = nn.ModuleList(CoarseAttention(stack.width, stack.heads) for _ in range(count))
        self.codes = nn.Sequential(
            nn.Conv2d(stack.width, 2 * stack.width, 1),
            nn.Tanh(),
            nn.Conv2d(2 * stack.width, codes, 1),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Map float [B, F, L, inputs] to logits [B F, codes, side, side]."""
        count, frames, length = latents.shape[:3]
        area = self.side**2
        masked = self.mask_token.expand(count * frames, area, -1)
        x = self.joined(masked, self.into(latents.flatten(0, 1)))
        for index, block in enumerate(self.blocks):
            if self.fine:
                clips = x.unflatten(0, (count, frames))
                first, maps, latent = clips.split((1, area, length), dim=2)
                maps = self.fine[index](maps)
                rest = self.coarse[index](torch.cat([maps, latent], dim=2), latent)
                x = torch.cat([first, rest], dim=2).flatten(0, 1)
            x = block(x, PassReading())
        maps = self.norm_out(x[:, 1 : 1 + area]).transpose(1, 2)
        logits: Tensor = self.codes(maps.unflatten(2, (self.side, self.side)))
        return logits


class FineAttention(nn.Module):
    """Every place of a map sees itself in this frame and the earlier ones.

    Args:
        width: in and out.
        heads: number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, EPS)
        self.attention = SelfAttention(width, heads, layer=0, bias=True)
        _silence(self.attention.out)

    def forward(self, x: Tensor) -> Tensor:
        """Map float [B, F, P, width] to the same shape."""
        count, frames, places = x.shape[:3]
        over_time = self.norm(x).transpose(1, 2).flatten(0, 1)
        mask = _causal(frames, 1, 1, x.device)
        added = self.attention(over_time, PassReading(mask[None, None]))
        return x + added.unflatten(0, (count, places)).transpose(1, 2)


class CoarseAttention(nn.Module):
    """A frame's vectors see the latents of this frame and the earlier ones.

    Args:
        width: in and out.
        heads: number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_norm, self.key_norm, self.value_norm = (
            nn.LayerNorm(width, EPS) for _ in range(3)
        )
        self.query, self.key, self.value, self.out = (Linear(width, width) for _ in range(4))
        _silence(self.out)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        """Map float [B, F, n, width] to the same shape, under latents [B, F, L, width]."""
        query = self._by_head(self.query(self.query_norm(x)))
        key = self._by_head(self.key(self.key_norm(latents)))
        value = self._by_head(self.value(self.value_norm(latents)))
        mask = _causal(x.shape[1], x.shape[2], latents.shape[2], x.device)
        mixed = scaled_attention(query, key, value, mask).transpose(1, 2).flatten(2)
        return x + self.out(mixed).unflatten(1, x.shape[1:3])

    def _by_head(self, x: Tensor) -> Tensor:
        """Map float [B, F, n, width] to [B, heads, F n, d]."""
        return x.flatten(1, 2).unflatten(2, (self.heads, -1)).transpose(1, 2)


def _causal(frames: int, queries: int, keys: int, device: torch.device) -> Tensor:
    """Return who sees whom, bool [frames queries, frames keys]."""
    frame = torch.arange(frames, device=device)
    return frame.repeat_interleave(queries)[:, None] >= frame.repeat_interleave(keys)


def _silence(layer: nn.Linear) -> None:
    """Attention over time begins without effect."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
