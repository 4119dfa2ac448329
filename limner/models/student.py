"""Distilled Decoding: what its students have in common, whoever their teacher is.

Liu et al., "Distilled Decoding 1: One-step Sampling of Image Auto-regressive Models with Flow
Matching", arXiv:2412.17153; facts from VAR/models/dd.py and LlamaGen/autoregressive/models/dd.py of
microsoft/distilled_decoding.

The teacher's tokens follow from noise by a flow (`limner.heads.flow_map`). A student reads tokens
that are done and the noise of the others, and tells what all of these become. Guidance is inside:
it was the teacher's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from limner.core.errors import check
from limner.core.generator import Generator, Packed
from limner.core.head import LossBreakdown
from limner.core.layout import Layout
from limner.core.memory import Memory, NoMemory
from limner.core.noise import Noise
from limner.core.order import Order, Step
from limner.core.row import Condition, Options, Row
from limner.core.slots import Slots, batch
from limner.core.tokens import Tokens
from limner.layers.vector_output import VectorOutput
from limner.orders.jumps import jumps_after

EVALUATION_SEED = 0


class Student(Generator):
    """What students of both kinds have in common.

    Attributes:
        kinds: embeddings of noise (0) and of what is known (1).
        vectors: tells vectors, beside the teacher's own output of logits.
    """

    condition: Any
    head: Any
    kinds: nn.Embedding
    vectors: VectorOutput
    mixes = True
    grows = False

    @torch.no_grad()
    def start_from(self, teacher: Generator) -> None:
        """Begin with the teacher's weights, where there are such; the others stay as they are."""
        own, theirs = self.state_dict(), teacher.state_dict()
        for name, tensor in theirs.items():
            if name in own and own[name].shape == tensor.shape:
                own[name].copy_(tensor)

    def starts(self, layout: Layout) -> tuple[int, ...]:
        """Return the first token of every step."""
        raise NotImplementedError

    def levels(self, layout: Layout) -> Tensor:
        """Return the step of the teacher that knows each token, from 1, int64 [N]."""
        raise NotImplementedError

    def begin(
        self, tokens: Tokens, condition: Condition, options: Options, noise: Noise
    ) -> list[Row]:
        """Return the row of one picture.

        Raises:
            ConfigError: guidance is asked for.
        """
        accepted = "1: the guidance of a distilled student is its teacher's"
        check(not options.guidance.active, "guidance", options.guidance, accepted)
        return super().begin(tokens, condition, options, noise)

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """As many jumps as are asked for, of those that the student has learned."""
        starts = self.starts(tokens.layout)
        asked = options.steps or len(starts)
        check(asked <= len(starts), "steps", asked, f"from 1 to {len(starts)}, those learned")
        return jumps_after(starts[:asked], tokens.known[0].cpu())

    def slots(self, row: Row, step: Step) -> Slots:
        """The class and all tokens, noise where they are drawn."""
        return self.slots_from(row.tokens.layout, step.first)

    def slots_from(self, layout: Layout, first: int, everywhere: bool = False) -> Slots:
        """Return the slots of a pass in which tokens from `first` on are noise.

        Args:
            everywhere: those that are known speak as well.
        """
        return _slots(tuple(self.levels(layout).tolist()), first, everywhere)

    def known_kinds(self, packed: Packed) -> Tensor:
        """Return the embedding of what every slot is, noise or known: float [R, L, width]."""
        embedded: Tensor = self.kinds((packed.slots.copy == 0).long().to(packed.device))
        return embedded

    def loss(
        self,
        tokens: Tokens,
        condition: Condition,
        rng: torch.Generator | None = None,
        codes: Tensor | None = None,
    ) -> LossBreakdown:
        """Return the loss of one of the jumps, for pairs of noise and the teacher's tokens.

        Args:
            tokens: ids [B, N, 1] of the teacher, and as values the noise they follow from.
            codes: float [V, D], what each code says.
        """
        assert tokens.ids is not None and tokens.values is not None and codes is not None
        rng = rng or torch.Generator().manual_seed(EVALUATION_SEED)
        starts, layout = self.starts(tokens.layout), tokens.layout
        first = starts[int(torch.randint(len(starts), (), generator=rng))]
        clean = Tokens(layout, None, codes[tokens.ids[..., 0]], tokens.known)
        slots = batch([self.slots_from(layout, first)] * len(tokens))
        outputs = self(Packed(clean, slots, [condition], noisy=tokens.values), NoMemory())
        return self.head.loss(outputs, tokens.ids[:, first:], rng, None, codes)

    def memory(self, rows: Sequence[Row]) -> Memory:
        """Return nothing: every step reads everything."""
        return NoMemory()


@lru_cache(maxsize=64)
def _slots(levels: tuple[int, ...], first: int, everywhere: bool) -> Slots:
    place = torch.arange(-1, len(levels))
    told = torch.arange(0 if everywhere else first, len(levels))
    speaks = torch.stack([told + 1, torch.zeros_like(told), told], dim=1)
    since = torch.tensor([0, *levels])
    return Slots.of(place, since, speaks, copy=(place >= first).long(), commit=False)


def check_jumps(split: int, jumps: tuple[int, ...], count: int) -> None:
    """Raise ConfigError unless a student of `count` steps or tokens can split and jump so."""
    check(0 <= split <= count, "split", split, f"from 0 to {count}")
    fits = len(jumps) > 0 and jumps[0] == 0 and list(jumps) == sorted(set(jumps))
    check(fits and jumps[-1] < count, "jumps", jumps, f"rising from 0, below {count}")
