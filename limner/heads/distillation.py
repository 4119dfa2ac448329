"""How far a student's outputs are from a teacher's, for heads of codes and of bits."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from limner.core.head import Head


def soft_distance(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the mean divergence of a token's distribution from the teacher's, float [].

    The distribution is over all channels of a token jointly, also where they are pairs of bits, and
    the temperature is not made up for: as `train_step` in booth_trainer_final.py of
    jiwoogit/ARBooth has it.

    Args:
        student: logits, float [B, n, ...].
        teacher: logits of the same shape.
        temperature: that both are divided by.
    """
    ours, theirs = ((each.float().flatten(2) / temperature) for each in (student, teacher))
    ours, theirs = ours.log_softmax(-1).flatten(0, 1), theirs.log_softmax(-1).flatten(0, 1)
    return functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def hard_distance(student: Tensor, teacher: Tensor, head: Head) -> Tensor:
    """Return the student's mean loss on what the teacher finds likeliest, float [].

    Args:
        student: logits, float [B, n, ...].
        teacher: logits of the same shape.
        head: whose loss it is.
    """
    targets = teacher.argmax(-1)
    targets = targets.unsqueeze(-1) if targets.dim() == 2 else targets
    return head.loss(student, targets, None, None).total
