"""Clusters of directions."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize, one_hot

_CHUNK = 8192
"""Rows whose similarities to all centroids are held at a time."""


@torch.no_grad()
def spherical_kmeans(
    rows: Float[Tensor, "n d"], start: Float[Tensor, "k d"], iterations: int
) -> tuple[Float[Tensor, "k d"], Int[Tensor, " n"]]:
    """Cluster unit vectors by their cosine.

    Each iteration assigns every row to the centroid of the largest cosine, and moves each centroid
    to the direction of the mean of its rows; a centroid without rows stays where it is. Sums are
    matrix products, whose order is fixed, so that equal rows give equal centroids on any process.

    Args:
        rows: of norm 1.
        start: first centroids, of norm 1.
        iterations: how often centroids move.

    Returns:
        Centroids of norm 1, and which of them each row is nearest to.
    """
    centroids = start
    for _ in range(iterations):
        total = torch.zeros_like(centroids)
        for chunk in rows.split(_CHUNK):
            member = one_hot(nearest(chunk, centroids), centroids.shape[0]).to(rows.dtype)
            total += member.T @ chunk
        moved = normalize(total, dim=1)
        centroids = torch.where(moved.any(1, keepdim=True), moved, centroids)
    return centroids, torch.cat([nearest(chunk, centroids) for chunk in rows.split(_CHUNK)])


def nearest(rows: Float[Tensor, "n d"], centroids: Float[Tensor, "k d"]) -> Int[Tensor, " n"]:
    """Return which centroid has the largest scalar product with each row."""
    return (rows @ centroids.T).argmax(1)
