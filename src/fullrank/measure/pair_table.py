"""Every statistic of pairs of a sample of rows, with error bars, from one matrix product."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float, Real
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.clid import (
    cluster_labels,
    dimension_share,
    learned,
    offer_training_half,
    shuffled,
)
from fullrank.measure.coherence import coherence_of, leverages
from fullrank.measure.intrinsic_dimension import (
    dimension_of,
    first_occurrences,
    log_ratios,
    offer_given_rows,
)
from fullrank.measure.jackknife import Jackknifed
from fullrank.measure.neighbors import Nearest, PairDistances
from fullrank.measure.uniformity import (
    check_sharpness,
    kernel_sum,
    log_mean,
    pair_count,
    self_cluster_of,
    squared_cosine_sum,
    uniform_value,
)

# Fewer rows than this in a group say little about how a statistic varies.
_FEWEST_IN_GROUP = 4
# Root mean squared distance of unit rows below which float64 holds nothing but rounding.
_ONE_POINT = 1e-12


def pair_table(
    rows: Real[Tensor, "m d"], seed: int = 0, groups: int = 8, t: float = 2.0, discard: float = 0.1
) -> dict[str, Jackknifed]:
    """Compute all statistics of pairs, and each without one group of the rows at a time.

    Each value is what the function of that name gives for the same rows (and seed). Error bars are
    for the sampling of rows. Exact for sums over pairs (uniformity, SelfCluster); for the others
    each row keeps the neighbours, clusters and second moment of the whole sample, and only its own
    term is left out; that mutual neighbours have one distance is made up for in ``nearest_ratio``.
    Coherence is a maximum: its replicates show whether one row rules it, and are no basis for an
    interval that covers.

    ``nearest_ratio`` is the median distance of unit rows to their nearest neighbour over the root
    mean squared distance of pairs: small where rows crowd into few clusters, close to 1 for
    high-dimensional noise, 0 by convention if all rows coincide.

    Args:
        rows: a random sample (m, d), any real dtype, ``m >= 2``; thousands, since time is of order
            ``m² d`` and memory of order ``m d``.
        seed: of the groups, the halves and k-means.
        groups: how many groups are left out in turn; fewer if they would hold fewer than four
            rows, and no replicates below two groups.
        t: sharpness of the kernel of uniformity.
        discard: share of the largest distance ratios left out of the dimension.

    Returns:
        ``uniformity``, ``uniformity_gap``, ``self_cluster``, ``coherence``, ``twonn``, ``clid`` and
        ``nearest_ratio``.

    Raises:
        UserError: fewer than two rows, NaN or infinite values, ``groups`` below 1, ``t`` not
            positive, ``discard`` outside [0, 1).
    """
    if groups < 1:
        raise UserError(f"groups: {groups} given; allowed: 1 and above.")
    check_sharpness(t)
    m, d = rows.shape
    rows = rows.detach()[shuffled(m, seed).to(rows.device)]
    distances, first = PairDistances.of(rows), first_occurrences(rows)
    count = max(1, min(groups, m // _FEWEST_IN_GROUP))
    edges = [m * k // count for k in range(count + 1)]
    group = torch.cat([torch.full((b - a,), k) for k, (a, b) in enumerate(pairwise(edges))])

    kernel, cosines, squares, pairs, pointing_pairs = torch.zeros(5, count, count).double()
    two, near, trained = (Nearest(m, k, rows.device) for k in (2, 1, 1))
    for a, b, block in distances.blocks(edges):
        at = edges.index(a.start), edges.index(b.start)
        kernel[at] = kernel_sum(block, t, a == b)
        cosines[at] = squared_cosine_sum(distances, a, b, block)
        squares[at] = float(block.sum()) / (2 if a == b else 1)
        pairs[at] = pair_count(a, b)
        i, j = (int(distances.pointing[part].sum()) for part in (a, b))
        pointing_pairs[at] = i * (i - 1) / 2 if a == b else i * j
        near.offer_both(a, b, block)
        offer_training_half(trained, a, b, block)
        offer_given_rows(two, distances, first, a, b, block)

    kept = [group != k for k in range(count)] if count > 1 else []
    every = torch.ones(m, dtype=torch.bool)
    totals = _left_out(torch.stack([kernel, cosines, squares, pairs, pointing_pairs]), len(kept))
    ratios = log_ratios(two, first).cpu()
    dimensions = [dimension_of(ratios[mask], discard) for mask in (every, *kept)]
    hits = learned(cluster_labels(distances, seed), trained).double()
    learnability = [float(hits[mask[1::2]].mean()) for mask in (every, *kept)]
    weights, rank = leverages(rows)
    weights = weights.cpu()
    distance = near.squares[:, 0].sqrt().cpu()
    nearest = near.index[:, 0].cpu()
    # Two rows that are each other's nearest have one distance in common: it counts twice.
    shared = 1 + float((nearest[nearest] == torch.arange(m)).double().mean())

    uniformities = [log_mean(s[0], s[3]) for s in totals]
    ideal = uniform_value(d, t)
    columns = {
        "uniformity": uniformities,
        "uniformity_gap": [value - ideal for value in uniformities],
        "self_cluster": [self_cluster_of(s[1], s[4], d) for s in totals],
        # Without a share 1/g of the rows the second moment shrinks, and leverages grow, by as much
        # as n does: to first order n times the leverage stays.
        "coherence": [coherence_of(float(weights[mask].max()), m, rank) for mask in (every, *kept)],
        "twonn": dimensions,
        "clid": [
            share + dimension_share(value, d)
            for share, value in zip(learnability, dimensions, strict=True)
        ],
        "nearest_ratio": [
            _nearest_ratio(distance[mask], s[2] / s[3])
            for mask, s in zip((every, *kept), totals, strict=True)
        ],
    }
    ratio, *without = columns["nearest_ratio"]
    columns["nearest_ratio"] = [ratio, *(ratio + math.sqrt(shared) * (r - ratio) for r in without)]
    return {name: Jackknifed(values[0], tuple(values[1:])) for name, values in columns.items()}


def _left_out(sums: Float[Tensor, "s g g"], replicates: int) -> list[list[float]]:
    """Return the sums over all pairs of groups, and over those without each group in turn."""
    total = sums.sum((1, 2))
    return [total.tolist()] + [
        (total - sums[:, k, :].sum(1) - sums[:, :, k].sum(1) + sums[:, k, k]).tolist()
        for k in range(replicates)
    ]


def _nearest_ratio(distance: Float[Tensor, " n"], mean_square: float) -> float:
    extent = math.sqrt(max(0.0, mean_square))
    return float(distance.quantile(0.5)) / extent if extent > _ONE_POINT else 0.0
