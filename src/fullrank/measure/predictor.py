"""How far a linear predictor ``W_p`` has aligned with the second moment of its input.

``F = E[f fᵀ]`` is the second moment of the embeddings (symmetric, positive semidefinite, shape
(d, d)), and ``W_p``, the ``weight`` of an ``nn.Linear``, maps an embedding to a prediction,
``p = W_p f``. Theory (Tian et al. 2021, theorem 3) has both share their eigenvectors after training
if ``W_p`` is symmetric; the case of one that is not is open.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure._relative import RESOLUTION


class EigenspaceAlignment(NamedTuple):
    """How well ``W_p`` keeps each eigenspace of ``F``.

    Attributes:
        eigenvalues: ``s_j`` of ``F``, descending, shape (d,).
        cosines: of each eigenvector, between 0 and 1, shape (d,); the same within an eigenspace.
        weighted: ``Σ s_j cos_j / Σ s_j``; 0 if ``F`` is 0.
    """

    eigenvalues: Float[Tensor, " d"]
    cosines: Float[Tensor, " d"]
    weighted: float


def eigenspace_alignment(
    predictor: Float[Tensor, "d d"], second_moment: Float[Tensor, "d d"], rtol: float = RESOLUTION
) -> EigenspaceAlignment:
    r"""Alignment ``|cos(W_p v_j, v_j)|`` of each eigenvector ``v_j`` of ``F``, and their mean.

    1 where ``v_j`` is an eigenvector of ``W_p``, too; about ``1/sqrt(d)`` for an unrelated ``W_p``.
    Single eigenvectors mean nothing where eigenvalues coincide: those nearer to each other than
    ``rtol`` times the largest, link by link, count as one eigenspace with orthonormal basis ``V``,
    and all its eigenvectors get ``||Vᵀ W_p V|| / ||W_p V||`` (Frobenius), which no choice of basis
    changes. A direction that ``W_p`` sends to 0, or below ``RESOLUTION`` times ``||W_p||``, has no
    cosine and gets 0. A multiple of the identity is aligned with anything.

    Args:
        predictor: ``W_p``.
        second_moment: ``F``; its symmetric part is used.
        rtol: how near eigenvalues are to be one eigenspace.

    Returns:
        Eigenvalues, cosines and their mean, weighted by the eigenvalues (negative ones count 0).

    Raises:
        UserError: matrices that are not square, of different width, or not finite.

    References:
        Tian, Chen and Ganguli 2021, "Understanding Self-Supervised Learning Dynamics without
        Contrastive Pairs", theorem 3.
    """
    w, f = _checked(predictor, second_moment)
    eigenvalues, vectors = torch.linalg.eigh((f + f.T) / 2)
    eigenvalues, vectors = eigenvalues.flip(0), vectors.flip(1)
    moved = w @ vectors
    kept = vectors.T @ moved
    near = rtol * float(eigenvalues.abs().max())
    negligible = RESOLUTION * float(torch.linalg.matrix_norm(w))
    cosines = torch.zeros_like(eigenvalues)
    start, ends = 0, (eigenvalues[:-1] - eigenvalues[1:] > near).nonzero().flatten().tolist()
    for last in [*ends, len(f) - 1]:
        block = slice(start, last + 1)
        length = float(torch.linalg.matrix_norm(moved[:, block]))
        if length > negligible:
            cosines[block] = torch.linalg.matrix_norm(kept[block, block]) / length
        start = last + 1
    weights = eigenvalues.clamp(min=0)
    total = float(weights.sum())
    weighted = float(weights @ cosines) / total if total > 0 else 0.0
    return EigenspaceAlignment(eigenvalues, cosines.clamp(max=1), min(1.0, weighted))


def symmetry(predictor: Float[Tensor, "d d"]) -> float:
    """How symmetric a predictor is: ``1 - ||W_p - W_pᵀ|| / (2 ||W_p||)`` (Frobenius).

    One minus the share of the antisymmetric part in the norm. Independent Gaussian entries read
    about ``1 - 1/sqrt(2) = 0.29``. Nothing says that a predictor must be symmetric: theory assumes
    it, and without a momentum target a predictor forced to be symmetric collapsed.

    Args:
        predictor: ``W_p``.

    Returns:
        1 if symmetric (which 0 is, too), 0 if antisymmetric.

    Raises:
        UserError: a matrix that is not square or not finite.

    References:
        Tian, Chen and Ganguli 2021, assumption 3.
    """
    (w,) = _checked(predictor)
    norm = float(torch.linalg.matrix_norm(w))
    if norm == 0:
        return 1.0
    return max(0.0, 1 - float(torch.linalg.matrix_norm(w - w.T)) / (2 * norm))


def commutator_norm(
    predictor: Float[Tensor, "d d"], second_moment: Float[Tensor, "d d"], relative: bool = True
) -> float:
    """Length of ``[W_p, F] = W_p F - F W_p``, which is 0 if eigenspaces align (Frobenius).

    Unlike cosines of single eigenvectors it has no trouble with equal eigenvalues, but it is ruled
    by the largest ones, and small for any ``W_p`` near a multiple of the identity.

    Args:
        predictor: ``W_p``.
        second_moment: ``F``.
        relative: whether to divide by ``2 ||W_p|| ||F||``; otherwise the norm as it is.

    Returns:
        0 or more; if relative at most 1/2 where ``F`` is positive semidefinite. 0 if either is 0.

    Raises:
        UserError: matrices that are not square, of different width, or not finite.

    References:
        Tian, Chen and Ganguli 2021, theorem 3: ``[F, W_p]`` decays to 0 along training.
    """
    w, f = _checked(predictor, second_moment)
    scale = 1.0
    if relative:
        norms = [float(torch.linalg.matrix_norm(m)) for m in (w, f)]
        if 0 in norms:
            return 0.0
        w, f, scale = w / norms[0], f / norms[1], 2.0
    return float(torch.linalg.matrix_norm(w @ f - f @ w)) / scale


def _checked(*matrices: Tensor) -> list[Tensor]:
    shapes = [tuple(m.shape) for m in matrices]
    if any(len(s) != 2 or s[0] != s[1] or s[0] == 0 for s in shapes) or len(set(shapes)) > 1:
        raise UserError(f"predictor: shapes {shapes} given; allowed: square, of one width.")
    found = [m.detach().to(torch.float64) for m in matrices]
    if not all(math.isfinite(float(m.abs().sum())) for m in found):
        raise UserError("predictor: NaN or infinite entries given; allowed: finite ones.")
    return found
