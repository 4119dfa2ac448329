"""Frame denoising head: the generator tells clean frames of drafts at levels of their own.

One step of the order is one step of DDIM (Song et al., arXiv:2010.02502) for every frame that the
network reads, from the level it has to the next (AR-Diffusion, arXiv:2503.07418). What is between
noise and data lies in the tokens themselves.

Source: `DDIMSampler.p_sample_ddim` in src/ardiff/modules/fifoddim.py of iva-mzsun/AR-Diffusion.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import nn

from limner.core.head import Drawn, Turn
from limner.heads.gaussian import GaussianTables, squared_linear_betas
from limner.heads.token_means import SquaredErrorHead


class FrameDenoisingHead(SquaredErrorHead, nn.Module):
    """Moves drafts one step towards what the network tells; it has no weights.

    Args:
        chain: steps of the chain that levels count.
        betas: of the chain, first and last; their roots rise linearly.
    """

    def __init__(self, chain: int, betas: tuple[float, float]) -> None:
        super().__init__()
        self.chain = chain
        self.betas = betas

    @property
    def tables(self) -> GaussianTables:
        """The chain."""
        return _tables(self.chain, *self.betas)

    def draw(self, turn: Turn) -> Drawn:
        """Move the drafts of all rows from their levels to the next ones.

        Known tokens, and those whose level stays, are taken for what the network tells of them:
        as in the released sampler, the former grow by a few parts in 100,000 at a step.
        """
        drafts, stands, levels = [], [], []
        for row, step in zip(turn.rows, turn.steps, strict=True):
            values, at = row.tokens.values, step.draw.to(turn.device)
            assert values is not None and step.level is not None
            drafts.append(values[0, at])
            still = step.level[:, 0] == step.level[:, 1]
            stands.append(row.tokens.known[0, at] | still.to(turn.device))
            levels.append(step.level.long())
        draft = torch.stack(drafts)
        now, then = torch.stack(levels).unbind(-1)
        clean = turn.evaluate(draft, now.to(turn.device, torch.float32)).guided().to(draft)
        clean = torch.where(torch.stack(stands).unsqueeze(-1), draft, clean)
        return Drawn(
            values=self.tables.add_noise(clean, then, self.tables.noise(draft, now, clean))
        )


@lru_cache(maxsize=16)
def _tables(chain: int, first: float, last: float) -> GaussianTables:
    return GaussianTables(squared_linear_betas(chain, first, last))
