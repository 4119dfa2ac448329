"""The head of few-step students: all tokens at once, likeliest codes first, plain vectors after.

Distilled Decoding (arXiv:2412.17153); facts from `get_final_sequence` in VAR/models/dd.py and
LlamaGen/autoregressive/models/dd.py of microsoft/distilled_decoding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import check
from limner.core.head import Drawn, LossBreakdown, Turn
from limner.heads.mixtures import Mixture


class JumpHead:
    """Draws what a student makes of noise; its outputs are logits, then a vector.

    A row's noise is that of purpose "start", the same at every step. Codes are those of the row's
    `mixture`, and its tokens hold vectors.

    Args:
        split: tokens before it become codes, the others stay vectors.
        weight: of the vectors' squared error in the loss.
    """

    def __init__(self, split: int, weight: float = 1.0) -> None:
        self.split = split
        self.weight = weight

    def loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        rng: torch.Generator | None,
        weight: Tensor | None,
        codes: Tensor | None = None,
    ) -> LossBreakdown:
        """Return the cross-entropy of codes and the squared error of vectors.

        Args:
            outputs: float [B, n, V + D].
            targets: int64 [B, n, 1].
            weight: [B, n], which tokens count; None: all.
            codes: float [V, D].
        """
        assert codes is not None
        logits, vectors = outputs.split([len(codes), codes.shape[1]], dim=-1)
        wrong = functional.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), reduction="none"
        ).view(targets.shape[:2])
        error = (vectors - codes[targets[..., 0]]).square().mean(-1)
        share = torch.ones_like(error) if weight is None else weight.to(error)
        share = share / share.sum().clamp(min=1e-12)
        parts = {"cross_entropy": (wrong * share).sum(), "mse": (error * share).sum()}
        total = parts["cross_entropy"] + self.weight * parts["mse"]
        missed = (logits.argmax(-1) != targets[..., 0]).to(share)
        parts["token_error"] = (missed * share).sum()
        return LossBreakdown(total, {name: part.detach() for name, part in parts.items()})

    def draw(self, turn: Turn) -> Drawn:
        """Draw every token of the turn at once."""
        noise = starting_noise(turn)
        outputs = turn.evaluate(noise).lead
        width = noise.shape[-1]
        logits, vectors = outputs[..., :-width], outputs[..., -width:]
        ids = logits.argmax(-1)
        codes = _mixture(turn).codes.to(vectors)
        early = (turn.tokens < self.split).to(ids.device).unsqueeze(-1)
        return Drawn(ids.unsqueeze(-1), torch.where(early, codes[ids], vectors))


def starting_noise(turn: Turn) -> Tensor:
    """Return what every row's tokens start from, float [R, n, D]: the same at every step."""
    codes = _mixture(turn).codes
    width = codes.shape[1]
    noise = torch.zeros(*turn.tokens.shape, width, dtype=torch.float64)
    for index, (row, step) in enumerate(zip(turn.rows, turn.steps, strict=True)):
        noise[index, : len(step.draw)] = row.noise.normal("start", step.draw, 0, (width,))
    return noise.to(turn.device, torch.promote_types(codes.dtype, torch.float32))


def _mixture(turn: Turn) -> Mixture:
    mixture = turn.rows[0].options.mixture
    check(mixture is not None, "mixture", None, "the tokenizer's codes for a distilled student")
    assert isinstance(mixture, Mixture)
    return mixture
