"""Coherence: how much the span of a sample of rows leans on a single row."""

from __future__ import annotations

import torch
from jaxtyping import Float, Real
from torch import Tensor

from fullrank.measure.neighbors import scaled
from fullrank.measure.spectrum import RESOLUTION

# Smallest squared pivot, over the mean diagonal, at which a Cholesky factor says "full rank" with
# digits to spare; below it the rank is read from eigenvalues.
_SAFE_PIVOT = 1e-7


def coherence(rows: Real[Tensor, "m d"], centred: bool = False) -> float:
    """``(n / r) max_i ||U_i||²``: the largest row leverage of the sample over the mean leverage.

    ``U`` holds the ``r`` left singular vectors, so the squared length of its row ``i`` is what row
    ``i`` weighs in a least squares fit on the features. 1 is even; ``n / r`` says that one row has
    a direction to itself. A maximum: it grows with the sample and one outlier rules it. It depends
    on the data, and the sign of its relation to accuracy differs between data sets.

    Args:
        rows: (m, d), any real dtype, ``m >= 2``, not normalised; singular values below
            ``RESOLUTION`` times the largest do not count.
        centred: subtract the mean first; the published definition does not.

    Returns:
        Between 1 and ``n / r``; 1 by convention if all rows are 0.

    Raises:
        UserError: fewer than two rows, NaN or infinite values.

    References:
        Candès and Recht 2009, "Exact Matrix Completion via Convex Optimization", definition 1.2;
        for representations Tsitsulin, Munkhoeva and Perozzi 2023, "Unsupervised Embedding Quality
        Evaluation", which divide by the width instead of the rank.
    """
    weights, rank = leverages(rows, centred)
    return coherence_of(float(weights.max()), len(rows), rank)


def coherence_of(largest: float, n: int, rank: int) -> float:
    """Return coherence from the largest leverage of ``n`` rows and their rank."""
    return max(1.0, largest * n / rank) if rank else 1.0


def leverages(rows: Real[Tensor, "m d"], centred: bool = False) -> tuple[Float[Tensor, " m"], int]:
    """Return the leverage of each row, the diagonal of ``X (XᵀX)⁺ Xᵀ``, and the rank ``r``.

    Args:
        rows: (m, d), any real dtype, ``m >= 2``.
        centred: subtract the mean first.

    Returns:
        Leverages (m,) between 0 and 1 that sum to the rank; and the rank.

    Raises:
        UserError: fewer than two rows, NaN or infinite values.
    """
    x = scaled(rows)
    if centred:
        x = x - x[0].clone()
        x -= x.mean(0)
    m, d = x.shape
    square = x.T @ x if d < m else x @ x.T
    factor, failed = torch.linalg.cholesky_ex(square)
    pivots = factor.diagonal().square()
    if not int(failed) and bool(pivots.min() > _SAFE_PIVOT * square.diagonal().mean()):
        if d >= m:
            return torch.ones_like(x[:, 0]), m
        solved = torch.linalg.solve_triangular(factor, x.T, upper=False)
        return solved.square().sum(0).clamp_(0, 1), d
    values, vectors = torch.linalg.eigh(square)
    kept = values > RESOLUTION**2 * values[-1].clamp_min(0)
    values, vectors = values[kept], vectors[:, kept]
    u = x @ vectors / values.sqrt() if d < m else vectors
    return u.square().sum(1).clamp_(0, 1), len(values)
