"""Linear maps that whiten: the shared step of the generalised eigenproblems."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def whitening(
    scatter: Float[Tensor, "d d"], shift: float = 0.0, rtol: float = 0.0
) -> Float[Tensor, "r d"]:
    """Return ``T`` with ``T (scatter + shift I) Tᵀ = I``, one row for each direction that is kept.

    Any such map gives the same generalised eigenvalues. Cholesky's is several times cheaper than
    that of the eigenvectors, which is left for the nearly singular.

    Args:
        scatter: positive semidefinite, float64.
        shift: added to its diagonal; 0 or more.
        rtol: directions whose standard deviation is at most ``rtol`` times the largest are left
            out, as are those without any variance.

    Returns:
        The map, shape (r, d), ``r`` the number of directions kept; with a positive shift and no
        tolerance all are.
    """
    identity = torch.eye(len(scatter), dtype=scatter.dtype, device=scatter.device)
    shifted = scatter + shift * identity
    factor, failed = torch.linalg.cholesky_ex(shifted)
    if not bool(failed):
        inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
        # ‖L⁻¹‖² is the trace of the inverse: one over it bounds the smallest eigenvalue from below.
        floor = max(rtol**2, len(scatter) * torch.finfo(scatter.dtype).eps)
        if bool(1 / inverse.square().sum() > floor * shifted.trace()):
            return inverse
    lambda_, vectors = torch.linalg.eigh(scatter)
    lambda_ = lambda_.clamp(min=0) + shift
    kept = (lambda_ > 0) & (lambda_ > rtol**2 * lambda_[-1])
    return vectors.T[kept] / lambda_[kept].sqrt()[:, None]
