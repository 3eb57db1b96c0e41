"""CLID: how learnable the clusters of a representation are, and how many dimensions it uses."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Integer, Real
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.intrinsic_dimension import twonn
from fullrank.measure.neighbors import Nearest, PairDistances
from fullrank.randomness import derive_seed, generator


@dataclass(frozen=True)
class Clid:
    """The parts of CLID and their sum.

    Attributes:
        learnability: accuracy of the nearest neighbour on cluster labels of held-out rows, 0 to 1.
        dimension: intrinsic dimension (TwoNN).
        dimension_share: ``min(1, dimension / d)``.
        clusters: clusters asked for.
    """

    learnability: float
    dimension: float
    dimension_share: float
    clusters: int

    @property
    def value(self) -> float:
        """``learnability + dimension_share``, between 0 and 2."""
        return self.learnability + self.dimension_share


def clid(rows: Real[Tensor, "m d"], seed: int = 0, discard: float = 0.1) -> Clid:
    """Cluster learnability plus intrinsic dimension.

    All rows, at unit length, are clustered by k-means into ``floor(sqrt(m))`` clusters; half of
    them, drawn at random, then predict the cluster of the other half by the single nearest
    neighbour (cosine). Learnability is the accuracy. It saturates near 1 on compact clusters, and
    complete collapse has 1: only the sum with the dimension tells it from a good representation.

    Conventions: k-means is scikit-learn's, started once from randomly chosen rows. To bring both
    parts to one scale, ``value`` divides the dimension by the width ``d``, and so does not compare
    across widths; :func:`standardised` takes the scale from the models that are compared. TwoNN is
    of the rows as given, Euclidean.

    Args:
        rows: (m, d), any real dtype, ``m >= 2``.
        seed: of the halves and of k-means.
        discard: share of the largest distance ratios left out of the dimension, as in ``twonn``.

    Returns:
        The parts and their sum.

    Raises:
        UserError: fewer than two rows, NaN or infinite values, a share outside [0, 1).

    References:
        Lu, Liu, Baratin, Laroche, Courville and Sordoni 2022, "Using Representation Expressiveness
        and Learnability to Evaluate Self-Supervised Learning Methods".
    """
    dimension = twonn(rows, discard).value
    distances = PairDistances.of(rows[shuffled(len(rows), seed).to(rows.device)])
    nearest = Nearest(len(rows), 1, rows.device)
    for a, b, block in distances.blocks():
        offer_training_half(nearest, a, b, block)
    hits = learned(cluster_labels(distances, seed), nearest)
    return Clid(
        float(hits.double().mean()),
        dimension,
        dimension_share(dimension, rows.shape[1]),
        cluster_count(len(rows)),
    )


def standardised(parts: Sequence[Clid]) -> list[float]:
    """Return CLID of several models, each part brought to mean 0 and variance 1 over them first.

    For ranking models of any width by the same kind of sample.

    Args:
        parts: one a model, at least two, with finite dimensions.

    Returns:
        The sum of the two standardised parts of each model; a part that is equal for all counts 0.

    Raises:
        UserError: fewer than two models, or a dimension that is infinite.

    References:
        Lu et al. 2022, as :func:`clid`.
    """
    if len(parts) < 2 or not all(math.isfinite(part.dimension) for part in parts):
        raise UserError(f"parts: {len(parts)} given; at least two of finite dimension are needed.")
    table = torch.tensor([[p.learnability, p.dimension] for p in parts], dtype=torch.float64)
    offsets = table - table.mean(0)
    deviation = offsets.square().mean(0).sqrt()
    alike = deviation <= 1e-12 * table.abs().max(0).values
    scores = torch.where(alike, 0.0, offsets / torch.where(alike, 1.0, deviation)).sum(1)
    return [float(score) for score in scores]


def cluster_count(m: int) -> int:
    """Return the number of clusters of ``m`` rows: ``floor(sqrt(m))``."""
    return max(1, math.isqrt(m))


def dimension_share(dimension: float, d: int) -> float:
    """Return the intrinsic dimension over the width, at most 1."""
    return min(1.0, dimension / d)


def shuffled(m: int, seed: int) -> Integer[Tensor, " m"]:
    """Return the random order of ``m`` rows: even places train, odd places are held out."""
    return torch.randperm(m, generator=generator(seed, "clid halves"))


def cluster_labels(distances: PairDistances, seed: int) -> Integer[Tensor, " m"]:
    """Cluster unit rows by k-means; rows that all coincide are one cluster."""
    x = distances.centred
    scale = x.abs().max()
    if float(scale) == 0:
        return torch.zeros(len(x), dtype=torch.int64)
    # float32 halves the time; about the mean and at unit scale it keeps its digits.
    unit = (x / scale).to(torch.float32).cpu().numpy()
    model = KMeans(
        cluster_count(len(x)), init="random", n_init=1, random_state=derive_seed(seed) % 2**32
    )
    with warnings.catch_warnings():
        # Fewer distinct rows than clusters: some stay empty, which is no fault here.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return torch.from_numpy(model.fit_predict(unit)).to(torch.int64)


def offer_training_half(nearest: Nearest, a: slice, b: slice, block: Float[Tensor, "i j"]) -> None:
    """Offer the training rows of each of two blocks to the held-out rows of the other."""
    held_a, train_a, held_b, train_b = _odd(a), _even(a), _odd(b), _even(b)
    nearest.offer(held_a, train_b, block[_inside(held_a, a), _inside(train_b, b)])
    if a != b:
        nearest.offer(held_b, train_a, block[_inside(train_a, a), _inside(held_b, b)].T)


def learned(labels: Integer[Tensor, " m"], nearest: Nearest) -> Bool[Tensor, " h"]:
    """Return, for each held-out row, whether its nearest training row has its label."""
    return labels[1::2] == labels[nearest.index[1::2, 0].to(labels.device)]


def _even(part: slice) -> slice:
    return slice(part.start + part.start % 2, part.stop, 2)


def _odd(part: slice) -> slice:
    return slice(part.start + 1 - part.start % 2, part.stop, 2)


def _inside(part: slice, whole: slice) -> slice:
    return slice(part.start - whole.start, whole.stop - whole.start, 2)
