"""Barlow Twins' objective."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.models.collectives import gather
from fullrank.models.objectives.objective import Loss, Objective, Outputs


class CrossCorrelationObjective(Objective):
    """``sum_i (1 - C_ii)^2 + lambda sum_{i≠j} C_ij^2`` (Zbontar et al. 2021, Eqs. 1-2).

    C is the cross-correlation of prediction and target over the global batch, each dimension
    standardised there; the mean over pairs of views.
    """

    def __init__(self, off_diagonal: float) -> None:
        super().__init__()
        self.off_diagonal = off_diagonal

    def forward(self, outputs: Outputs) -> Loss:
        same = len(outputs.predictions) == len(outputs.targets) and all(
            p is t for p, t in zip(outputs.predictions, outputs.targets, strict=True)
        )
        # Without a predictor both orders of a pair give one matrix and its transpose.
        pairs = itertools.combinations if same else itertools.permutations
        a_views = [standardise(gather(p)) for p in outputs.predictions]
        b_views = a_views if same else [standardise(gather(t)) for t in outputs.targets]
        on, off = [], []
        for i, j in pairs(range(len(a_views)), 2):
            if j >= len(b_views):  # a small crop is no target
                continue
            a, b = a_views[i], b_views[j]
            correlation = a.T @ b / a.shape[0]
            diagonal = correlation.diagonal()
            on.append((1 - diagonal).square().sum())
            off.append(correlation.square().sum() - diagonal.square().sum())
        return Loss.of(
            on_diagonal=torch.stack(on).mean(),
            off_diagonal=self.off_diagonal * torch.stack(off).mean(),
        )


def standardise(z: Float[Tensor, "n d"], epsilon: float = 1e-5) -> Float[Tensor, "n d"]:
    """Centre each dimension and divide it by its standard deviation over the batch.

    ``epsilon`` is added to the variance, as in batch norm: a constant dimension becomes zero.
    """
    variance, mean = torch.var_mean(z, dim=0, correction=0)
    return (z - mean) * torch.rsqrt(variance + epsilon)
