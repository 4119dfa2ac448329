"""Next-block prediction: who is read when, against the sequences that the paper draws."""

import pytest
import torch

from limner.core.errors import ConfigError
from limner.core.layout import grid
from limner.core.slots import attention_mask, up_to
from limner.orders.next_block import NextBlock

LAYOUT = grid(2, 4, 2)  # 16 tokens


def spoken(slots):
    return {int(slots.place[slot]): token for slot, _, token in slots.speaks.tolist()}


@pytest.mark.parametrize("block", [1, 4, 8])
def test_given_first_blocks_tell_the_next_ones_place_by_place(block):
    pattern = NextBlock(block)
    order = pattern.order(LAYOUT)
    assert len(order) == 16 // block
    slots = pattern.teacher_slots(LAYOUT)
    assert spoken(slots) == {place: place + block for place in range(16 - block)}
    whole = pattern.teacher_slots(LAYOUT, whole=True)
    index = torch.arange(16) // block
    assert torch.equal(attention_mask(up_to, whole, whole), index[:, None] >= index)
    assert torch.equal(pattern.position(slots.place), slots.place)


def test_prompts_are_followed_by_tokens_then_by_blocks():
    pattern = NextBlock(4, prompt=3, hybrid=True)
    order = pattern.order(LAYOUT)
    assert len(order) == 16 // 4 + 4 - 1
    assert [step.draw.tolist() for step in order.steps[:5]] == [[0], [1], [2], [3], [4, 5, 6, 7]]
    whole = pattern.teacher_slots(LAYOUT, whole=True)
    # prompt, begin, first block, middle tokens, the rest
    assert whole.place.tolist() == [-2, -3, -4, -1, 0, 1, 2, 3, -5, -6, -7, *range(4, 16)]
    assert pattern.position(whole.place).tolist() == list(range(23))
    told = spoken(pattern.teacher_slots(LAYOUT))
    assert told == {-1: 0, 0: 1, 1: 2, 2: 3, 3: 4, -5: 5, -6: 6, -7: 7} | {
        place: place + 4 for place in range(4, 12)
    }


def test_prompted_masks_are_causal_but_for_the_prompt_and_blocks():
    pattern = NextBlock(4, prompt=3, hybrid=True)
    slots = pattern.teacher_slots(LAYOUT)
    wanted = torch.ones(19, 19).tril().bool()
    wanted[:, :3] = True
    for start in range(7, 19, 4):  # from the last token of the first block on
        wanted[start : start + 4, start : start + 4] = True
    assert torch.equal(attention_mask(up_to, slots, slots), wanted)


def test_a_start_reads_everything_before_it():
    pattern = NextBlock(4, prompt=3, hybrid=True)
    slots = pattern.slots_up_to(LAYOUT, 5)
    assert slots.place.tolist() == [-2, -3, -4, -1, 0, 1, 2, 3, -5, -6, -7, 4, 5, 6, 7]
    assert spoken(slots) == {4: 8, 5: 9, 6: 10, 7: 11}
    assert NextBlock(4).slots_up_to(LAYOUT, 2).place.tolist() == list(range(8))


def test_wrong_input_is_named():
    with pytest.raises(ConfigError, match=r"block=5 .*divisor of the 16 tokens"):
        NextBlock(5).order(LAYOUT)
    with pytest.raises(ConfigError, match="the first block"):
        NextBlock(4).slots(LAYOUT, 0)
