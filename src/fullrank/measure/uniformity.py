"""How evenly unit rows fill the sphere: statistics of all pairs of a sample of rows.

Rows are divided by their length first. A row that is exactly 0 has no direction: for uniformity it
counts as the zero vector, at distance 1 from every unit row; SelfCluster leaves it out.
"""

from __future__ import annotations

import math

from jaxtyping import Real
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.neighbors import PairDistances


def uniformity(rows: Real[Tensor, "m d"], t: float = 2.0) -> float:
    """``log mean_(i<j) exp(-t ||u_i - u_j||²)`` over all pairs of unit rows: lower is more even.

    0 is complete collapse. What even rows reach depends on ``d`` and not only on the
    representation: see :func:`uniformity_gap`. Ruled by the closest pairs: a few duplicates raise
    it, and rows of low rank that fill a small sphere evenly pass for fairly uniform.

    Args:
        rows: (m, d), any real dtype, ``m >= 2``.
        t: sharpness of the kernel.

    Returns:
        Between ``-4 t`` and 0.

    Raises:
        UserError: fewer than two rows, NaN or infinite values, a ``t`` that is not positive.

    References:
        Wang and Isola 2020, "Understanding Contrastive Representation Learning through Alignment
        and Uniformity on the Hypersphere" (there over pairs of independent rows).
    """
    check_sharpness(t)
    total, pairs = 0.0, 0.0
    for a, b, block in PairDistances.of(rows).blocks():
        total += kernel_sum(block, t, a == b)
        pairs += pair_count(a, b)
    return log_mean(total, pairs)


def uniform_value(d: int, t: float = 2.0) -> float:
    """Uniformity of the uniform distribution on the unit sphere: ``-2t + log 0F1(; d/2; t²)``.

    The lowest value that any distribution has in ``d`` dimensions. It tends to ``-2t`` as ``d``
    grows.

    Args:
        d: dimensions; 1 is the sphere of two points.
        t: sharpness of the kernel.

    Raises:
        UserError: ``d`` below 1 or a ``t`` that is not positive.

    References:
        Wang and Isola 2020 (the uniform distribution minimises it); the closed form is the
        normalising constant of the von Mises-Fisher family.
    """
    check_sharpness(t)
    if d < 1:
        raise UserError(f"d: {d} given; allowed: 1 and above.")
    # All terms of the series are positive; in logarithms it neither overflows nor cancels.
    terms, largest, k = [0.0], 0.0, 0
    # They rise, if at all, up to a single largest one.
    while terms[-1] > largest - 45:
        terms.append(terms[-1] + 2 * math.log(t) - math.log(k + 1) - math.log(d / 2 + k))
        largest = max(largest, terms[-1])
        k += 1
    if largest == 0:
        return -2 * t + math.log1p(math.fsum(map(math.exp, terms[1:])))
    return -2 * t + largest + math.log(math.fsum(math.exp(term - largest) for term in terms))


def uniformity_gap(rows: Real[Tensor, "m d"], t: float = 2.0) -> float:
    """Uniformity above what evenly spread rows have in ``d`` dimensions; 0 is uniform.

    Args:
        rows: (m, d), any real dtype, ``m >= 2``.
        t: sharpness of the kernel.

    Returns:
        About 0 or above, by sampling slightly below; at most ``-uniform_value(d, t)``.

    Raises:
        UserError: as :func:`uniformity`.
    """
    return uniformity(rows, t) - uniform_value(rows.shape[1], t)


def self_cluster(rows: Real[Tensor, "m d"]) -> float:
    """SelfCluster: the mean squared cosine of pairs, 0 for uniform rows and 1 for one direction.

    ``(Q - N - N(N-1)/D) / (N² - N - N(N-1)/D)`` with ``Q = Σ_ij cos²``, which is
    ``(mean_(i≠j) cos² - 1/D) / (1 - 1/D)``. ``Q / N²`` is the reciprocal of the participation
    ratio of the uncentred second moment of unit rows, so a mean far from 0 raises it, as one
    direction does. Antipodal rows count as equal.

    Args:
        rows: (m, d), any real dtype, ``m >= 2``; not centred here.

    Returns:
        Between ``-1 / (d - 1)`` and 1; 1 by convention where fewer than two rows have a direction
        and in one dimension.

    Raises:
        UserError: fewer than two rows, NaN or infinite values.

    References:
        Tsitsulin, Munkhoeva and Perozzi 2023, "Unsupervised Embedding Quality Evaluation";
        its reliability differs between supervised and self-supervised features.
    """
    distances = PairDistances.of(rows)
    total = 0.0
    for a, b, block in distances.blocks():
        total += squared_cosine_sum(distances, a, b, block)
    n = int(distances.pointing.sum())
    return self_cluster_of(total, n * (n - 1) / 2, rows.shape[1])


def kernel_sum(block: Tensor, t: float, diagonal: bool) -> float:
    """Return the sum of ``exp(-t distance²)`` over unordered pairs of a block."""
    total = float((block * -t).exp_().sum())
    # The diagonal holds ones.
    return (total - len(block)) / 2 if diagonal else total


def squared_cosine_sum(distances: PairDistances, a: slice, b: slice, block: Tensor) -> float:
    """Return the sum of ``cos²`` over unordered pairs of a block, of rows with a direction."""
    cosines = (block * -0.5).add_(1)
    first, second = distances.pointing[a], distances.pointing[b]
    total = float(first.to(block.dtype) @ cosines.square_() @ second.to(block.dtype))
    return (total - int(first.sum())) / 2 if a == b else total


def pair_count(a: slice, b: slice) -> float:
    """Return the number of unordered pairs of two blocks of rows."""
    n = a.stop - a.start
    return n * (n - 1) / 2 if a == b else float(n * (b.stop - b.start))


def log_mean(total: float, pairs: float) -> float:
    """Return uniformity from the sum of the kernel over unordered pairs."""
    # Rounding may leave 0 or slightly more than 1.
    return math.log(min(1.0, max(total / pairs, 5e-324)))


def self_cluster_of(total: float, pairs: float, d: int) -> float:
    """Return SelfCluster from the sum of squared cosines over unordered pairs."""
    if pairs < 1 or d == 1:
        return 1.0
    return min(1.0, (total / pairs - 1 / d) / (1 - 1 / d))


def check_sharpness(t: float) -> None:
    """Refuse a kernel that does not fall with distance.

    Raises:
        UserError: a ``t`` that is not positive and finite.
    """
    if not 0 < t < math.inf:
        raise UserError(f"t: {t} given; allowed: above 0, finite.")
