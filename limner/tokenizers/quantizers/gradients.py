"""How gradients pass a quantiser, which has none of its own."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def straight_through(vectors: Tensor, codes: Tensor) -> Tensor:
    """Return the codes; their gradient goes to the vectors as it is.

    Source: van den Oord et al., "Neural discrete representation learning", NeurIPS 2017.
    """
    return vectors + (codes - vectors).detach()


def rotated(vectors: Tensor, codes: Tensor) -> Tensor:
    """Return the codes [..., D] as vectors [..., D] turned and stretched onto them.

    The turn and the stretch count as constants, so the gradient is turned back and stretched too:
    vectors of one region that differ keep differing gradients.

    Source: Fifty et al., "Restructuring vector quantization with the rotation trick",
    arXiv:2410.06424.
    """
    start, codes = vectors.detach(), codes.detach()
    stretch = codes.norm(dim=-1, keepdim=True) / start.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    start, end = functional.normalize(start, dim=-1), functional.normalize(codes, dim=-1)
    middle = functional.normalize(start + end, dim=-1)
    # two reflections make the rotation that takes `start` to `end`
    mirrored = 2 * middle * (middle * vectors).sum(dim=-1, keepdim=True)
    onto = 2 * end * (start * vectors).sum(dim=-1, keepdim=True)
    return stretch * (vectors - mirrored + onto)
