"""Merging windows and splitting them again."""

import torch

from limner.layers.token_shuffle import TokenShuffle, TokenUnshuffle


def test_what_is_kept_of_every_code_comes_back_at_its_place():
    width, count = 18, 9
    shuffle = TokenShuffle(width, count, 2, width, 1e-5)
    unshuffle = TokenUnshuffle(width, count, 2, width, 1e-5)
    with torch.no_grad():
        for block in (*shuffle.blocks, *unshuffle.blocks):
            block.mlp.out.weight.zero_()
        kept = torch.eye(width // count, width)
        shuffle.compress.weight.copy_(kept)
        unshuffle.expand.weight.copy_(kept.T)
    codes = torch.randn(2, 5, count, width, generator=torch.Generator().manual_seed(0))
    back = unshuffle(shuffle(codes))
    assert torch.equal(back[..., :2], codes[..., :2])
    assert torch.all(back[..., 2:] == 0)


def test_one_token_holds_all_codes_of_its_window():
    torch.manual_seed(0)
    shuffle = TokenShuffle(8, 4, 1, 8, 1e-5)
    codes = torch.randn(3, 4, 8)
    token = shuffle(codes)
    assert token.shape == (3, 8)
    for code in range(4):
        changed = codes.clone()
        changed[0, code] += 1
        moved = (shuffle(changed) - token).abs().amax(-1)
        assert moved[0] > 1e-6 and torch.all(moved[1:] == 0)
