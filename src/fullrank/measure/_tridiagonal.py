"""Spectra of a symmetric matrix with and without a rank-one term, for the price of one."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# Width from which one reduction is cheaper than two decompositions.
WIDE = 128


def spectra_with_and_without_mean(
    scatter: Float[Tensor, "d d"], mean: Float[Tensor, " d"]
) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Return the eigenvalues of ``scatter`` and of ``scatter + mean meanᵀ``, each ascending.

    A reflection turns ``mean`` into a multiple of the first unit vector, which the Householder
    reduction to tridiagonal form leaves where it is (Golub and Van Loan, "Matrix Computations",
    section 8.3.1). So the rank-one term changes one entry of the tridiagonal matrix, and the
    reduction, which is nearly all of the cost, is done once.

    Args:
        scatter: a symmetric float64 matrix on the CPU, ``d >= 2``.
        mean: the vector of the rank-one term, float64.
    """
    from scipy.linalg import eigh_tridiagonal, lapack

    d = len(mean)
    length = float(torch.linalg.vector_norm(mean))
    reflected = scatter
    if length > 0:
        v = mean / length
        v[0] += 1 if v[0] >= 0 else -1
        v /= torch.linalg.vector_norm(v)
        p = scatter @ v
        p = 2 * (p - (v @ p) * v)
        reflected = scatter.addr(v, p, alpha=-1).addr_(p, v, alpha=-1)
    # The transpose of a symmetric matrix in row order is itself in the column order of LAPACK.
    workspace = int(lapack.dsytrd_lwork(d, lower=1)[0])
    _, diagonal, beside, _, _ = lapack.dsytrd(
        reflected.numpy().T, lower=1, lwork=workspace, overwrite_a=int(length > 0)
    )

    def eigenvalues() -> Tensor:
        return torch.from_numpy(
            eigh_tridiagonal(diagonal, beside, eigvals_only=True, lapack_driver="sterf")
        )

    without = eigenvalues()
    diagonal[0] += length**2
    return without, eigenvalues()
