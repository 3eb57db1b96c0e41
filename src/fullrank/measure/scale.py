"""On which scale an error bar of a metric is symmetric, what it can be, and where it has no bar."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from fullrank.measure._relative import RESOLUTION
from fullrank.measure.spectra import Spectra

# What a representation of any size can have, whatever ``d``; see also :func:`limits`.
_LIMITS = {
    "spread": (0.0, 1.0),
    "normalised_std": (0.0, 1.0),
    "centre_magnitude": (0.0, 1.0),
    "residual_magnitude": (0.0, 1.0),
    "expected_over_data": (0.0, 1.0),
    "expected_over_augmentations": (0.0, 1.0),
    "alignment": (0.0, 4.0),
    "canonical_correlation": (0.0, 1.0),
    "alpha_req": (0.0, math.inf),
    "condition_number": (1.0, math.inf),
    "spectral_entropy": (0.0, 1.0),
    "twonn": (0.0, math.inf),
    "nearest_ratio": (0.0, math.inf),
    "coherence": (1.0, math.inf),
    "uniformity": (-math.inf, 0.0),
    "self_cluster": (-math.inf, 1.0),
    "clid": (0.0, math.inf),
}
_RANKS = ("effective_rank", "participation_ratio", "stable_rank")
_ADDED_TO = ("rankme", "lidar")
# What the order of all eigenvalues, what their extremes, and what the largest one alone decides.
_OF_ALL = ("cev_auc", "alpha_req")
_OF_EXTREMES = ("condition_number",)
_OF_LARGEST = ("stable_rank", "anisotropy")
_ORDERED = _OF_ALL + _OF_EXTREMES
# What moves unsteadily when a group is left out: that, and what is relative to small eigenvalues.
UNSTEADY = (*_ORDERED, "lidar", "canonical_correlation")


def limits(name: str, dim: int) -> tuple[float, float]:
    """Return the smallest and the largest value that a metric has in ``dim`` dimensions.

    A representation of which nothing varies, with rank 0, is no limit: it has no error bar.
    """
    if name in _RANKS:
        return 1.0, float(dim)
    if name in _ADDED_TO:
        share = 1 / dim + 1e-7  # with the constant that their definition adds, slightly above dim
        return 1.0, max(float(dim), math.exp(-dim * share * math.log(share)))
    if name == "hard_rank" or name == "dead_units":
        return 0.0, float(dim)
    if name == "anisotropy":
        return 1 / dim, 1.0
    if name == "cev_auc":
        return (dim + 1) / (2 * dim), 1.0
    return _LIMITS.get(name, (-math.inf, math.inf))


@dataclass(frozen=True)
class Scale:
    """A monotone function of a metric on which its small-sample bias and error are simpler.

    Attributes:
        to: the function.
        inverse: its inverse.
    """

    to: Callable[[float], float]
    inverse: Callable[[float], float]

    def back(self, name: str, end: float, dim: int) -> float:
        """Return the value of the metric at a point of the scale, within its limits."""
        low, high = limits(name, dim)
        return min(max(self.inverse(end), low), high)


def _reciprocal(x: float) -> float:
    return 1 / x if x > 0 else math.inf


_SQUARE = Scale(lambda x: x * x, lambda y: math.sqrt(max(y, 0.0)))
AS_IT_IS = Scale(lambda x: x, lambda y: y)
SCALES = {
    # The squared length of a mean of unit rows has a bias of exactly 1/n, its root has not.
    "centre_magnitude": _SQUARE,
    "residual_magnitude": _SQUARE,
    "expected_over_data": _SQUARE,
    # The reciprocal is 1/n too large for any spectrum, so that error and correction do not mix.
    "participation_ratio": Scale(_reciprocal, _reciprocal),
    # Of a nearly flat spectrum the share of the largest direction is too large by sqrt(d/n).
    "stable_rank": Scale(_reciprocal, _reciprocal),
    "condition_number": Scale(
        lambda x: math.log(x) if x > 0 else -math.inf, lambda y: math.exp(min(y, 700.0))
    ),
}


def crowded(name: str, spectra: Spectra) -> bool:
    """Whether sampling alone spreads the eigenvalues that a metric orders as far as they lie.

    Of equal eigenvalues the largest is found too large by about ``2 sqrt(d/n)`` of itself, the
    smallest too small: a bias that falls as ``1/sqrt(n)``, and that no jackknife takes off.
    Neighbours at the top are told apart two standard errors of their difference away, each being
    known to ``sqrt(2/n)`` of itself. Singular values that are all equal would span
    ``w = (1 + sqrt(d/n)) / (1 - sqrt(d/n))``: of a spectrum that varies the smaller half spans as
    much. What the extremes decide needs all of ``w``, the others do with ``w^(3/4)``: a rule that
    benchmarks/interval_coverage.py found, and tests.

    References:
        Marchenko and Pastur 1967, "Distribution of eigenvalues for some sets of random matrices";
        Anderson 1963, "Asymptotic theory for principal component analysis" (the standard error).
    """
    sigma = spectra.sigma
    k = int((sigma > RESOLUTION * sigma[0]).sum())
    if k < 2:
        return False
    n = spectra.images
    if name in _OF_LARGEST:
        return float((sigma[1] / sigma[0]).square()) > 1 - 4 / math.sqrt(n)
    if name in _ORDERED:
        root = math.sqrt(k / n)
        if root >= 1:
            return True
        span = (1 + root) / (1 - root)
        return float(sigma[k // 2] / sigma[k - 1]) < (span if name in _OF_EXTREMES else span**0.75)
    return False
