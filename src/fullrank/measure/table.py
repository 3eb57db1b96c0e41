"""The whole table of a layer: every metric with its error bar, from moments and sampled rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from jaxtyping import Real
from torch import Tensor

from fullrank.measure import pairs, spectrum, views
from fullrank.measure.jackknife import Jackknifed
from fullrank.measure.lidar import lidar
from fullrank.measure.moments import MomentState
from fullrank.measure.pair_table import pair_table
from fullrank.measure.reading import Reading, reading_of
from fullrank.measure.scale import crowded
from fullrank.measure.shards import Shards
from fullrank.measure.spectra import (
    EXACT_WIDTH,
    Replicated,
    Spectra,
    participation_ratio_corrected,
    replicated_spectra,
    spectra_of,
)
from fullrank.measure.wide import WideRows, geometric_middle

__all__ = [
    "Conventions",
    "Reading",
    "read_table",
    "read_values",
    "read_wide_table",
    "standard_errors",
]

# Rows per dimension below which rank metrics are biased by more than a few percent.
ENOUGH_ROWS = 5


@dataclass(frozen=True)
class Conventions:
    """Constants of the metrics' definitions, where papers and programs differ.

    Attributes:
        rankme_epsilon: added to each share of RankMe (Garrido et al.: 1e-7).
        alpha_range: eigenvalues that α-ReQ is fitted to, counted from 0, the last one left out.
        hard_rank_rtol: share of the largest singular value that counts as 0.
        lidar_delta: added to the within-image covariance of LiDAR.
        lidar_relative: whether ``lidar_delta`` is a share of the mean within-image variance.
    """

    rankme_epsilon: float = 1e-7
    alpha_range: tuple[int, int] = (3, 100)
    hard_rank_rtol: float = spectrum.RESOLUTION
    lidar_delta: float = 1e-4
    lidar_relative: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self) | {"alpha_range": list(self.alpha_range)}


def _spectral(c: Conventions) -> dict[str, Callable[[Spectra], float | None]]:
    """Functions of a spectrum, each of the one that it is published with."""
    return {
        "effective_rank": lambda s: float(spectrum.effective_rank(s.sigma)),
        "rankme": lambda s: float(spectrum.rankme(s.uncentred, c.rankme_epsilon)),
        "participation_ratio": lambda s: float(spectrum.participation_ratio(s.sigma)),
        "stable_rank": lambda s: float(spectrum.stable_rank(s.sigma)),
        "hard_rank": lambda s: float(
            spectrum.hard_rank(s.sigma, (s.rows, s.dim), rtol=c.hard_rank_rtol)
        ),
        "dead_units": lambda s: float(spectrum.dead_units(s.variances)),
        "cev_auc": lambda s: float(spectrum.cev_auc(s.sigma)),
        "alpha_req": lambda s: _number(spectrum.alpha_req(s.sigma, c.alpha_range)),
        "condition_number": lambda s: float(spectrum.condition_number(s.sigma)),
        "anisotropy": lambda s: float(spectrum.anisotropy(s.sigma)),
        "spectral_entropy": lambda s: float(spectrum.spectral_entropy(s.sigma)),
    }


# Functions of the moments of unit rows: cheap.
CENTRAL: dict[str, Callable[[MomentState], float | None]] = {
    "spread": pairs.spread,
    "normalised_std": pairs.normalised_std,
    "centre_magnitude": lambda s: views.centre_residual(s)[0],
    "residual_magnitude": lambda s: views.centre_residual(s)[1],
    "expected_over_data": lambda s: float(views.expected_over_data(s)),
    "alignment": pairs.alignment,
    "expected_over_augmentations": lambda s: (
        None if s.views == 1 else _number(views.expected_over_augmentations(s))
    ),
}


VIEW_AWARE = ("lidar", "canonical_correlation")


def _view_aware(c: Conventions) -> dict[str, Callable[[MomentState], float | None]]:
    """Functions of several views of each image: a decomposition or two each."""
    return {
        "lidar": lambda s: (
            None if s.views == 1 else _number(lidar(s, c.lidar_delta, c.lidar_relative))
        ),
        "canonical_correlation": lambda s: (
            None if s.views != 2 else _number(views.canonical_correlation(s))
        ),
    }


# What a sketch bounds.
SKETCHED = (
    "effective_rank",
    "participation_ratio",
    "stable_rank",
    "cev_auc",
    "anisotropy",
    "spectral_entropy",
)


def read_table(
    shards: Shards,
    sample: Real[Tensor, "m d"] | None = None,
    *,
    conventions: Conventions | None = None,
    seed: int = 0,
) -> dict[str, Reading]:
    """Compute every metric that moments and sampled rows give, with its error bar.

    Error bars are jackknives over the shards, or over groups of the sampled rows for what needs
    pairs; Student's t with one degree of freedom less than groups. Coherence, a maximum, has none.

    Args:
        shards: the moments, in groups of images.
        sample: rows drawn at random (of one view), for what needs pairs; None leaves that out.
        conventions: constants of the definitions.
        seed: of what draws at random (k-means, halves).

    Returns:
        Readings by metric name: the JSON names that ``fullrank metrics`` lists.
    """
    total = shards.total
    found, spectra, correct = _replicated(shards, sample, conventions or Conventions())
    unbiased = {"participation_ratio": participation_ratio_corrected(shards)}
    readings = {
        name: reading_of(
            name,
            jackknifed,
            total.dim,
            few=total.rows < ENOUGH_ROWS * total.dim,
            correct=correct or name in CENTRAL or name in VIEW_AWARE,
            settled=not (crowded(name, spectra) or _noisy(name, jackknifed.value, total)),
            unbiased=unbiased.get(name, math.nan),
        )
        for name, jackknifed in found.items()
    }
    return readings | _pairs(sample, seed)


def standard_errors(
    shards: Shards, sample: Real[Tensor, "m d"] | None = None, *, names: Collection[str]
) -> dict[str, float]:
    """Compute jackknife standard errors of some metrics that moments give.

    Args:
        shards: the moments, in groups of images.
        sample: some rows in random order (of one view), for the spectrum of wide ones.
        names: of the metrics.

    Returns:
        The standard error of the value that :func:`read_table` gives, by metric name; without what
        cannot be told.
    """
    found, _, _ = _replicated(shards, sample, Conventions(), names, halves=False)
    errors = {name: jackknifed.standard_error for name, jackknifed in found.items()}
    return {name: error for name, error in errors.items() if error is not None}


def _replicated(
    shards: Shards,
    sample: Tensor | None,
    c: Conventions,
    names: Collection[str] | None = None,
    halves: bool = True,
) -> tuple[dict[str, Jackknifed], Spectra, bool]:
    """Compute metrics with their replicates, all of them or some.

    Returns:
        Metrics by name, without those that are not defined for so many views; the spectra of all
        rows; and whether replicates of what they give show its bias.
    """
    total, kept = shards.total, list(shards.leave_one_out())
    narrow = total.dim <= EXACT_WIDTH
    half = list(shards.halves()) if halves and narrow and total.views > 1 else []
    found: dict[str, Jackknifed] = {}
    for name, function in (CENTRAL | _view_aware(c)).items():
        if (names is None or name in names) and (value := function(total)) is not None:
            parts = (kept, []) if name in CENTRAL else (kept if narrow else [], half)
            without, of_half = (tuple(_finite(function(s)) for s in part) for part in parts)
            found[name] = Jackknifed(value, without, of_half)
    if narrow and kept:
        halved = (half or shards.halves()) if halves else ()
        replicates, of_halves = (tuple(map(spectra_of, part)) for part in (kept, halved))
        replicated = Replicated(spectra_of(total), replicates, "jackknife", of_halves)
    else:
        replicated = replicated_spectra(shards, sample)
    for name, of_spectra in _spectral(c).items():
        if (names is None or name in names) and of_spectra(replicated.full) is not None:
            found[name] = replicated.of(partial(_defined, of_spectra))
    return found, replicated.full, replicated.method == "jackknife"


def _noisy(name: str, value: float, state: MomentState) -> bool:
    """Whether directions that do not agree across views, at ``sqrt(d/n)``, may rule a metric."""
    return name == "canonical_correlation" and value < 2 * math.sqrt(state.dim / state.count)


def read_wide_table(
    wide: WideRows, *, conventions: Conventions | None = None, seed: int = 0
) -> dict[str, Reading]:
    """Compute every metric that wide rows and their sketch give.

    Args:
        wide: the rows.
        conventions: constants of the definitions.
        seed: of what draws at random.

    Returns:
        Readings by metric name. Those of the spectrum have the bounds of the sketch in place of an
        interval, the value between them, and a flag that says so.
    """
    c = conventions or Conventions()
    readings: dict[str, Reading] = {}
    kept = [wide.state(without=g) for g in wide.groups] if len(wide.groups) > 1 else []
    total = wide.state()
    for name, function in CENTRAL.items():
        if (value := function(total)) is not None:
            without = tuple(_finite(function(s)) for s in kept)
            readings[name] = reading_of(name, Jackknifed(value, without), total.dim)
    sketched = wide.sketch.spectrum()
    resolved = 1 - sketched.unresolved / max(float(wide.sketch.square_sums.sum()), 1e-300)
    flag = (
        f"bounds of a sketch of {wide.sketch.size} directions ({resolved:.0%} of the variance), "
        "not an interval"
    )
    for name in SKETCHED:
        of_spectra = _spectral(c)[name]

        def of_sigma(sigma: Tensor, f: Callable[[Spectra], float | None] = of_spectra) -> float:
            spectra = Spectra(sigma, sigma, sketched.variances, wide.count, 1, wide.dim)
            return _finite(f(spectra))

        low, high = sketched.bounds(of_sigma)
        readings[name] = Reading(geometric_middle(low, high), None, low, high, (flag,))
    dead = float(spectrum.dead_units(sketched.variances))
    readings["dead_units"] = Reading(dead, None, None, None, ("no error bar",))
    return readings | _pairs(wide.sample.rows, seed)


def _pairs(sample: Tensor | None, seed: int) -> dict[str, Reading]:
    """Compute what needs pairs of rows."""
    if sample is None or len(sample) < 3:
        return {}
    flag = f"from {len(sample)} sampled rows"
    d = sample.shape[1]
    table = pair_table(sample, seed=seed)
    # Replicates of a maximum do not vary as samples do.
    table["coherence"] = Jackknifed(table["coherence"].value, ())
    found = {name: reading_of(name, jackknifed, d) for name, jackknifed in table.items()}
    return {name: replace(r, flags=(*r.flags, flag)) for name, r in found.items()}


def read_values(state: MomentState, conventions: Conventions | None = None) -> dict[str, float]:
    """Compute every metric that moments give, without error bars.

    Args:
        state: the moments.
        conventions: constants of the definitions.

    Returns:
        Plug-in values by metric name; what is undefined or infinite is left out.
    """
    c = conventions or Conventions()
    spectra = spectra_of(state)
    found = {name: f(spectra) for name, f in _spectral(c).items()}
    found |= {name: f(state) for name, f in (CENTRAL | _view_aware(c)).items()}
    return {name: v for name, v in found.items() if v is not None and math.isfinite(v)}


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _finite(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _defined(function: Callable[[Spectra], float | None], spectra: Spectra) -> float:
    return _finite(function(spectra))
