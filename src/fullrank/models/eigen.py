"""Eigendecompositions that say by NaN what they cannot decompose."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def symmetric_eigen(
    matrix: Float[Tensor, "d d"],
) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Return eigenvalues, ascending, and eigenvectors in columns, of a symmetric matrix.

    A matrix with entries that are not finite has NaN eigenvalues and eigenvectors: the loss then
    is NaN, too, which the training names, where the decomposition only says that it failed.
    """
    if not bool(torch.isfinite(matrix).all()):
        return torch.full_like(matrix[0], torch.nan), torch.full_like(matrix, torch.nan)
    values, vectors = torch.linalg.eigh(_decomposable(matrix))
    return values.to(matrix.device), vectors.to(matrix.device)


def largest_eigenvalue(matrix: Float[Tensor, "d d"]) -> Float[Tensor, ""]:
    """Return the largest eigenvalue of a symmetric matrix, NaN if an entry is not finite."""
    if not bool(torch.isfinite(matrix).all()):
        return torch.full_like(matrix[0, 0], torch.nan)
    return torch.linalg.eigvalsh(_decomposable(matrix))[-1].to(matrix.device)


def resolved(values: Float[Tensor, " d"], size: int) -> Float[Tensor, " d"]:
    """Return eigenvalues of a positive matrix, zero where rounding alone makes them.

    Args:
        values: ascending.
        size: larger side of what the matrix was made from.
    """
    resolution = size * torch.finfo(values.dtype).eps * values[-1]
    return torch.where(values < resolution, torch.zeros_like(values), values).clamp(min=0)


def _decomposable(matrix: Tensor) -> Tensor:
    # PyTorch decomposes nothing on Apple's GPUs.
    return matrix.cpu() if matrix.device.type == "mps" else matrix
