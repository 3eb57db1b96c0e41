"""Intrinsic dimension from the two nearest neighbours of each row."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

from fullrank.errors import UserError, unknown_name
from fullrank.measure.neighbors import Nearest, PairDistances

METHODS = ("regression", "likelihood")
# Mean ``log mu`` below which distances differ by rounding only.
_SAME = 1e-12


@dataclass(frozen=True)
class IntrinsicDimension:
    """An estimate of intrinsic dimension, and what it comes from.

    Attributes:
        value: the estimate; 0 with fewer than three distinct rows, infinite if every row has its
            two nearest neighbours at the same distance (a grid, a simplex).
        rows: distinct rows used.
        duplicates: rows left out because they equal an earlier one.
    """

    value: float
    rows: int
    duplicates: int


def twonn(
    rows: Real[Tensor, "m d"], discard: float = 0.1, method: str = "regression"
) -> IntrinsicDimension:
    """Estimate intrinsic dimension from ``mu = r_2 / r_1``, which is Pareto of exponent ``d``.

    Distances are Euclidean, of the rows as given: the scale does not matter, a rescaled coordinate
    does. Exact duplicates are left out and counted, since ``r_1 = 0`` has no ratio; near duplicates
    (two crops, two frames) stay and lower the estimate. It assumes a density that is constant
    within the second neighbour: above about 10 dimensions a few thousand rows are too sparse and
    it reads low, and noise raises it at small distances.

    Args:
        rows: (m, d), any real dtype, ``m >= 2``.
        discard: share of the largest ratios left out (regression), or only known to be at least as
            large as the largest kept (likelihood): they suffer most from uneven density.
        method: ``"regression"``: the published one, a line through the origin fitted to
            ``-log(1 - F(mu))`` against ``log mu``; ``"likelihood"``: maximum likelihood of the
            Pareto law, ``k / (Σ_(i<=k) log mu_i + (n - k) log mu_k)`` for the ``k`` kept.

    Returns:
        The estimate, with the number of rows used and of duplicates.

    Raises:
        UserError: fewer than two rows, NaN or infinite values, an unknown method, a share outside
            [0, 1).

    References:
        Facco, d'Errico, Rodriguez and Laio 2017, "Estimating the intrinsic dimension of datasets by
        a minimal neighborhood information".
    """
    distances = PairDistances.of(rows)
    first = first_occurrences(rows)
    two = Nearest(len(rows), 2, rows.device)
    for a, b, block in distances.blocks():
        offer_given_rows(two, distances, first, a, b, block)
    ratios = log_ratios(two, first)
    value = dimension_of(ratios[first], discard, method)
    return IntrinsicDimension(value, int(first.sum()), int((~first).sum()))


def dimension_of(
    log_mu: Float[Tensor, " n"], discard: float = 0.1, method: str = "regression"
) -> float:
    """Estimate the exponent of the Pareto law of ``mu``.

    Args:
        log_mu: logarithms of the ratios (n,), in any order; not finite ones are left out.
        discard: as in :func:`twonn`.
        method: as in :func:`twonn`.

    Returns:
        The exponent; 0 with no ratios, infinite if all kept ratios are 1.

    Raises:
        UserError: an unknown method or a share outside [0, 1).
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if not 0 <= discard < 1:
        raise UserError(f"discard: {discard} given; allowed: 0 up to, not including, 1.")
    x = log_mu[log_mu.isfinite()].sort().values
    n = len(x)
    if n == 0:
        return 0.0
    k = max(1, math.floor(n * (1 - discard)))
    if method == "likelihood":
        weight = float(x[:k].sum() + (n - k) * x[k - 1])
        return k / weight if weight > _SAME * k else math.inf
    # The largest of all has F = 1, which no line can reach.
    k = max(1, min(k, n - 1))
    x = x[:k]
    rank = torch.arange(1, k + 1, dtype=x.dtype, device=x.device)
    y = -torch.log1p(-rank / max(n, 2))
    square = float(x @ x)
    return float(x @ y) / square if square > _SAME**2 * k else math.inf


def offer_given_rows(
    two: Nearest,
    distances: PairDistances,
    first: Bool[Tensor, " m"],
    a: slice,
    b: slice,
    block: Tensor,
) -> None:
    """Offer a block of pairs of distinct rows, at the distances of the rows as given."""
    given = distances.of_given_rows(a, b, block)
    if not bool(first.all()):
        given[~first[a]] = torch.inf
        given[:, ~first[b]] = torch.inf
    two.offer_both(a, b, given)


def log_ratios(two: Nearest, first: Bool[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Return ``log(r_2 / r_1)`` of each row; infinite for duplicates and where there is none."""
    near, far = two.squares.unbind(1)
    known = first & far.isfinite() & (near > 0)
    ratio = torch.where(known, far, 1.0) / torch.where(known, near, 1.0)
    return torch.where(known, ratio.log() / 2, torch.inf)


def first_occurrences(rows: Real[Tensor, "m d"]) -> Bool[Tensor, " m"]:
    """Return which rows do not equal, entry by entry, an earlier one."""
    # Adding 0 turns -0 into 0: equal rows are then equal bytes.
    x = np.ascontiguousarray((rows.detach().to(torch.float64) + 0.0).cpu().numpy())
    _, index = np.unique(x.view([("", x.dtype, x.shape[1])]).ravel(), return_index=True)
    mask = torch.zeros(len(x), dtype=torch.bool)
    mask[torch.from_numpy(index)] = True
    return mask.to(rows.device)
