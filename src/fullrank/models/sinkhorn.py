"""Assignments that use all prototypes alike."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fullrank.models.collectives import gather


def sinkhorn(
    scores: Float[Tensor, "n k"],
    epsilon: float,
    iterations: int,
    others: Float[Tensor, "m k"] | None = None,
    count_others: Bool[Tensor, ""] | None = None,
) -> Float[Tensor, "n k"]:
    """Assign images to prototypes so that every prototype gets the same share of the images.

    The matrix of the form ``diag(u) exp(scores/epsilon) diag(v)`` whose columns (prototypes) have
    equal sums over all images and whose rows (images) have equal sums (Caron et al. 2020, Eqs. 3
    to 5), by ``iterations`` alternating normalisations, columns first. With 0 iterations it is the
    softmax of each row. In the log domain, so that no ``epsilon`` underflows; over the images of
    all processes, of which only one number a prototype is exchanged.

    Args:
        scores: of this process's images.
        epsilon: weight of the assignments' entropy: the larger, the softer.
        iterations: of both normalisations.
        others: scores of further images, the same in every process, that share the prototypes.
        count_others: whether ``others`` count now; None if they do.

    Returns:
        One row of probabilities an image of ``scores``. Rows are exact, the columns' sums only
        after infinitely many iterations.
    """
    logits = scores / epsilon
    column = logits.new_zeros(logits.shape[1])
    row = logits.new_zeros(logits.shape[0])
    further = None if others is None else others / epsilon
    further_row = None if further is None else further.new_zeros(further.shape[0])
    for _ in range(iterations):
        mass = torch.logsumexp(gather(torch.logsumexp(logits + row[:, None], 0)[None]), 0)
        if further is not None and further_row is not None:
            more = torch.logsumexp(further + further_row[:, None], 0)
            if count_others is not None:
                more = torch.where(count_others, more, -torch.inf)
            mass = torch.logaddexp(mass, more)
        column = -mass
        row = -torch.logsumexp(logits + column, 1)
        if further is not None:
            further_row = -torch.logsumexp(further + column, 1)
    return torch.softmax(logits + column, 1)
