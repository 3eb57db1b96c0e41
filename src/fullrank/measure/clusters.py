"""Statistics of prototypes: how sure assignments are, and how many prototypes share them.

Entropies are in nats; ``normalised=True`` divides them by ``log K`` (and counts by ``K``).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Integer, Real
from torch import Tensor

from fullrank.errors import UserError

# How far from 1 a row of probabilities may sum: half precision over thousands of prototypes.
_SUM_TOLERANCE = 1e-2


def teacher_entropy(probabilities: Real[Tensor, "n k"], normalised: bool = False) -> float:
    """Mean entropy ``mean_i H(p_i)`` of the teacher's assignments.

    Without centring it falls to 0 (one prototype takes all), without sharpening it rises to
    ``log K`` (every image is assigned to all alike). It cannot tell images that are each sure of a
    different prototype from images that are all sure of the same one, as
    :func:`assignment_information` can. It speaks of the prototypes only, not of the features.

    Args:
        probabilities: the teacher's, after centring and sharpening, rows that sum to 1.
        normalised: return a share of ``log K``.

    Returns:
        Between 0 and ``log K``, in nats, or between 0 and 1.

    Raises:
        UserError: no rows, or rows that are not probabilities.

    References:
        Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers", on
        centring and sharpening.
    """
    p = _probabilities("probabilities", probabilities)
    return _entropy_share(float(_entropy(p).mean()), p.shape[1], normalised)


def teacher_student_kl(
    teacher: Real[Tensor, "_n _k"], student: Real[Tensor, "_m _l"], normalised: bool = False
) -> float:
    """Mean divergence ``mean_i KL(teacher_i || student_i)``.

    0 where both say the same for every image, which is a sign of collapse (to one prototype or to
    all alike) if it happens early, since there is then nothing left to learn.

    Args:
        teacher: the teacher's probabilities (n, k), rows that sum to 1.
        student: the student's (n, k), of the other view as in training.
        normalised: divide by ``log K``.

    Returns:
        0 or more, in nats; infinite where the student gives 0 to what the teacher does not.

    Raises:
        UserError: no rows, rows that are not probabilities, or different shapes.

    References:
        Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers", on
        centring and sharpening.
    """
    if teacher.shape != student.shape:
        raise UserError(
            f"teacher, student: shapes {tuple(teacher.shape)} and {tuple(student.shape)} given; "
            "both must be the same."
        )
    p, q = _probabilities("teacher", teacher), _probabilities("student", student)
    cross = -torch.special.xlogy(p, q).sum(1)
    return _entropy_share(max(0.0, float((cross - _entropy(p)).mean())), p.shape[1], normalised)


def assignment_information(
    assignments: Real[Tensor, "n k"] | Integer[Tensor, " n"],
    k: int | None = None,
    normalised: bool = False,
) -> float:
    """Mutual information ``H(mean_i p_i) - mean_i H(p_i)`` between image and prototype.

    Both collapses of prototypes have 0: all images on one prototype, and every image on all alike.
    ``log K`` is equal shares of sure assignments. Where a method enforces equal shares, it stays
    high while the features behind it collapse. From ``n`` images at most ``log n``; it reads high
    when ``n`` is not well above ``K``.

    Args:
        assignments: probabilities (n, k), rows that sum to 1, or one prototype an image (n,).
        k: number of prototypes; needed for one prototype an image.
        normalised: return a share of ``log K``.

    Returns:
        Between 0 and ``log K``, in nats, or between 0 and 1.

    Raises:
        UserError: no rows, rows that are not probabilities, prototypes outside ``0 … k - 1``, no
            ``k`` where it is needed.

    References:
        Bridle, Heading and MacKay 1991, "Unsupervised Classifiers, Mutual Information and 'Phantom
        Targets'"; for assignments of SwAV and DeepCluster see Caron et al. 2020 and 2018.
    """
    if assignments.ndim == 1:
        shares, k = _shares(assignments, k)
        return _entropy_share(float(_entropy(shares)), k, normalised)
    p = _probabilities("assignments", assignments)
    information = float(_entropy(p.mean(0)) - _entropy(p).mean())
    return _entropy_share(max(0.0, information), _width(p, k), normalised)


def prototypes_used(
    assignments: Real[Tensor, "n k"] | Integer[Tensor, " n"],
    k: int | None = None,
    normalised: bool = False,
) -> float:
    """Number of prototypes that at least one image is assigned to (its most probable one).

    At most ``n``. A prototype with a single image counts as much as one with half of them: weigh it
    with :func:`assignment_information`.

    Args:
        assignments: probabilities (n, k), ties to the first, or one prototype an image (n,).
        k: number of prototypes; needed for one prototype an image.
        normalised: return a share of ``K``.

    Returns:
        Between 1 and ``K``, or between ``1 / K`` and 1.

    Raises:
        UserError: as :func:`assignment_information`.

    References:
        Caron et al. 2018, "Deep Clustering for Unsupervised Learning of Visual Features"
        (empty clusters); Caron et al. 2020, "Unsupervised Learning of Visual Features by
        Contrasting Cluster Assignments".
    """
    if assignments.ndim == 2:
        p = _probabilities("assignments", assignments)
        assignments, k = p.argmax(1), _width(p, k)
    shares, k = _shares(assignments, k)
    used = int((shares > 0).sum())
    return used / k if normalised else float(used)


def _probabilities(name: str, given: Tensor) -> Float[Tensor, "n k"]:
    p = given.detach().to(torch.float64)
    if p.numel() == 0:
        raise UserError(f"{name}: shape {tuple(p.shape)} given; at least one row is needed.")
    sums = p.sum(1)
    # NaN fails both comparisons.
    if not bool((p >= 0).all() & ((sums - 1).abs() <= _SUM_TOLERANCE).all()):
        raise UserError(
            f"{name}: rows that are not probabilities given; allowed: 0 or more, each row with a "
            "sum of 1 (logits go through a softmax first)."
        )
    return p / sums[:, None]


def _shares(assignments: Tensor, k: int | None) -> tuple[Float[Tensor, " k"], int]:
    if k is None or k < 1:
        raise UserError(f"k: {k} given; one prototype an image needs their number, 1 or more.")
    if len(assignments) == 0:
        raise UserError("assignments: none given; at least one image is needed.")
    low, high = int(assignments.min()), int(assignments.max())
    if low < 0 or high >= k:
        raise UserError(f"assignments: {low} to {high} given; allowed: 0 to {k - 1} for k = {k}.")
    return torch.bincount(assignments.to(torch.int64), minlength=k).double() / len(assignments), k


def _width(p: Tensor, k: int | None) -> int:
    if k not in (None, p.shape[1]):
        raise UserError(f"k: {k} given; the probabilities have {p.shape[1]} columns.")
    return p.shape[1]


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(-1)


def _entropy_share(nats: float, k: int, normalised: bool) -> float:
    """Return nats, or their share of ``log K``; of a single prototype, 0."""
    if not normalised:
        return nats
    return nats / math.log(k) if k > 1 else 0.0
