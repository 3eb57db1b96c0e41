"""Unit vectors of the global batch, which contrastive objectives compare."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from fullrank.models.collectives import gather
from fullrank.models.objectives.objective import Outputs


def unit_batch(outputs: Outputs) -> tuple[list[Tensor], list[Tensor]]:
    """Return predictions and targets of all processes, each row of length 1.

    A tensor that is in both lists (there is no predictor) passes once.
    """
    done: dict[int, Tensor] = {}

    def unit(t: Tensor) -> Tensor:
        if id(t) not in done:
            done[id(t)] = gather(normalize(t, dim=1))
        return done[id(t)]

    return [unit(p) for p in outputs.predictions], [unit(t) for t in outputs.targets]


def in_index_order(
    indices: Int[Tensor, " local"] | None, like: Float[Tensor, "n d"]
) -> Int[Tensor, " n"]:
    """Return the rows of the global batch ``like`` in the order of their images' indices.

    Args:
        indices: of this process's images; None for the order in which the rows stand.
        like: rows of all processes.
    """
    if indices is None:
        return torch.arange(len(like), device=like.device)
    return gather(indices.double()).argsort()  # float64 holds every index exactly


def without_diagonal(matrix: Float[Tensor, "n n"], value: float) -> Float[Tensor, "n n"]:
    """Return ``matrix`` with ``value`` on its diagonal: what compares an image with itself."""
    itself = torch.eye(len(matrix), dtype=torch.bool, device=matrix.device)
    return matrix.masked_fill(itself, value)
