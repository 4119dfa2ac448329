"""Every bit of a token by itself."""

import torch

from limner.core.row import Options
from limner.heads.bitwise import BitwiseHead, by_gumbel
from tests.heads.turns import GivenTurn


def test_loss_is_the_mean_cross_entropy_of_bits():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 3, 2, generator=rng, dtype=torch.float64)
    bits = torch.randint(2, (2, 5, 3), generator=rng)
    each = -logits.log_softmax(-1).gather(-1, bits.unsqueeze(-1)).squeeze(-1).mean(-1)
    head = BitwiseHead()
    torch.testing.assert_close(head.loss(logits, bits).total, each.mean())
    weight = torch.tensor([1.0, 0.0, 2.0, 0.0, 0.0], dtype=torch.float64).expand(2, 5)
    wanted = (each * weight).sum() / weight.sum()
    torch.testing.assert_close(head.loss(logits, bits, weight=weight).total, wanted)
    found = head.loss(logits, logits.argmax(-1)).parts["bit_accuracy"]
    assert float(found) == 1.0


def test_bits_are_drawn_as_often_as_they_should():
    chances = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    logits = torch.stack([(1 - chances).log(), chances.log()], dim=-1).expand(1, 20000, 3, 2)
    for head in (BitwiseHead(), BitwiseHead(sampler=by_gumbel)):
        drawn = head.draw(GivenTurn(logits, [Options()]))
        assert drawn.ids is not None and drawn.logprob is not None
        share = drawn.ids.double().mean((0, 1))
        assert (share - chances).abs().max() < 0.015
        wanted = torch.where(drawn.ids > 0, chances, 1 - chances).log().sum(-1)
        torch.testing.assert_close(drawn.logprob.double(), wanted)


def test_stages_look_at_each_bit_alone():
    logits = torch.tensor([[[[4.0, 0.0], [0.0, 0.1]]]], dtype=torch.float64)
    left = BitwiseHead().filtered(GivenTurn(logits, [Options(top_p=0.97)]))
    assert left[0, 0].isinf().tolist() == [[False, True], [False, False]]
    greedy = BitwiseHead().draw(GivenTurn(logits, [Options(temperature=0.0)]))
    assert greedy.ids is not None and greedy.ids.tolist() == [[[0, 1]]]


def test_processors_see_tokens_with_their_bits():
    seen = []

    def processor(logits, row, tokens):
        seen.append((logits.shape, tokens.tolist()))
        return -logits

    logits = torch.randn(1, 4, 3, 2, generator=torch.Generator().manual_seed(0))
    options = Options(temperature=0.0, processors=(processor,))
    drawn = BitwiseHead().draw(GivenTurn(logits, [options]))
    assert seen == [((4, 3, 2), [0, 1, 2, 3])]
    assert torch.equal(drawn.ids, logits.argmin(-1))
