"""Losses of a generator and a discriminator, and the weight that balances them with others.

Sources: Lim and Ye, "Geometric GAN", arXiv:1705.02894 (hinge); Esser et al., arXiv:2012.09841
(adaptive weight); CompVis/taming-transformers `taming/modules/losses/vqperceptual.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def generator_loss(made: Tensor) -> Tensor:
    """Return minus the mean logit of made pictures, float []."""
    return -made.mean()


def hinge_loss(real: Tensor, made: Tensor) -> Tensor:
    """Return the discriminator's hinge loss of logits of real and of made pictures, float []."""
    return 0.5 * (functional.relu(1.0 - real).mean() + functional.relu(1.0 + made).mean())


def logistic_loss(real: Tensor, made: Tensor) -> Tensor:
    """Return the discriminator's logistic loss ("vanilla" in official code), float []."""
    return 0.5 * (functional.softplus(-real).mean() + functional.softplus(made).mean())


DISCRIMINATOR_LOSSES = {"hinge": hinge_loss, "logistic": logistic_loss}


def adaptive_weight(
    reconstruction: Tensor, adversarial: Tensor, last: Tensor, limit: float = 1e4
) -> Tensor:
    """Return the weight at which both losses move the last layer equally, float [], detached.

    Args:
        reconstruction: loss whose gradient is the measure, float [].
        adversarial: loss that is to be weighted, float [].
        last: weight of the last layer; its gradients are compared.
        limit: largest weight.
    """
    (wanted,) = torch.autograd.grad(reconstruction, last, retain_graph=True)
    (present,) = torch.autograd.grad(adversarial, last, retain_graph=True)
    return (wanted.norm() / (present.norm() + 1e-4)).clamp(0.0, limit).detach()
