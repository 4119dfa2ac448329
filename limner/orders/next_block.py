"""Next-block prediction: every token of a block tells the token at its place in the next one.

Ren et al., "Next Block Prediction: Video Generation via Semi-Autoregressive Modeling",
arXiv:2502.07737; facts from nbp/lm_transformer.py and nbp/modules/gpt.py of RenShuhuai-Andy/NBP.

Blocks are runs of K tokens. Nothing tells the first one: either it is given ("block"), or it is
drawn token by token behind a prompt and a begin token ("hybrid"); its last token then makes a block
of its own with K - 1 middle tokens, which tells the next whole block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from limner.core.errors import check
from limner.core.layout import Layout
from limner.core.order import Partition
from limner.core.slots import Slots, concatenate
from limner.orders.partitions import runs


@dataclass(frozen=True)
class NextBlock:
    """Which slots are read at which step.

    Slots that are no tokens have negative places: the begin token -1, the prompt from -2 on
    backwards, the middle tokens behind it.

    Args:
        block: K.
        prompt: length of the prompt.
        hybrid: the first block is drawn token by token.
    """

    block: int
    prompt: int = 0
    hybrid: bool = False

    def order(self, layout: Layout) -> Partition:
        """Return the order over a layout, the first block included.

        Raises:
            ConfigError: a block does not divide the tokens.
        """
        blocks = runs(layout, self.block)
        return _hybrid_order(blocks) if self.hybrid else blocks

    def position(self, place: Tensor) -> Tensor:
        """Return where slots stand in the whole sequence, int64 of the same shape."""
        if not self.hybrid:
            return place
        front = self.prompt + 1
        later = place + torch.where(place < self.block, front, front + self.block - 1)
        # middle token j, from 1, has the place -(front + j) and stands behind the first block
        behind = torch.where(place < -front, self.block - 1 - place, front + place)
        prompt = torch.where((place < -1) & (place >= -front), -2 - place, behind)
        return torch.where(place < 0, prompt, later)

    def slots(self, layout: Layout, step: int) -> Slots:
        """Return what is read at a step of `order`: what was drawn before, or the prompt."""
        return _slots(self, layout, step)

    def slots_up_to(self, layout: Layout, step: int) -> Slots:
        """Return the slots of all steps up to one of which only the last speaks, for a start."""
        parts = [self.slots(layout, index) for index in range(self.first_step, step + 1)]
        whole = concatenate(parts)
        return Slots(
            whole.place,
            whole.since,
            whole.copy,
            whole.commit,
            whole.speaks[len(whole.speaks) - len(parts[-1].speaks) :],
        )

    def teacher_slots(self, layout: Layout, whole: bool = False) -> Slots:
        """Return the slots of all steps at once, as training reads them.

        Args:
            whole: with the last block, which tells nothing.
        """
        return _teacher_slots(self, layout, whole)

    @property
    def first_step(self) -> int:
        """The first step of `order` that something tells."""
        return 0 if self.hybrid else 1


@lru_cache(maxsize=16)
def _hybrid_order(blocks: Partition) -> Partition:
    """Cut the first block into single tokens."""
    size = len(blocks.steps[0].draw)
    index = torch.arange(len(blocks.step))
    return Partition(torch.where(index < size, index, size - 1 + blocks.step))


@lru_cache(maxsize=64)
def _teacher_slots(pattern: NextBlock, layout: Layout, whole: bool) -> Slots:
    order = pattern.order(layout)
    last = len(order) + (1 if whole else 0)
    return concatenate([_slots(pattern, layout, s) for s in range(pattern.first_step, last)])


@lru_cache(maxsize=4096)
def _slots(pattern: NextBlock, layout: Layout, step: int) -> Slots:
    order = pattern.order(layout)
    check(step >= pattern.first_step, "given", "nothing", "the first block, which nothing tells")
    told = order.steps[step].draw if step < len(order) else torch.zeros(0, dtype=torch.int64)
    if pattern.hybrid and step == 0:
        # the prompt sees itself whole, and the begin token it
        place = torch.cat([torch.arange(-2, -2 - pattern.prompt, -1), torch.tensor([-1])])
        since = torch.where(place == -1, 0, -1)
        return Slots.of(place, since, torch.tensor([[pattern.prompt, 0, int(told[0])]]))
    place = order.steps[step - 1].draw
    if pattern.hybrid and step == pattern.block:
        front = pattern.prompt + 1
        middle = -front - torch.arange(1, pattern.block)
        place = torch.cat([place, middle])
    index = torch.arange(len(told))
    speaks = torch.stack([index, torch.zeros_like(index), told], dim=1)
    return Slots.of(place, torch.full_like(place, step), speaks)
