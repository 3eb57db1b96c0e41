"""What the forecaster is compared with: a line on one published metric, and the mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fullrank.diagnose.forecast_models import Predict, Training, within
from fullrank.measure.forecast_model import Array


@dataclass(frozen=True)
class Baseline:
    """A published metric, or several, with a line fitted to accuracy (as Li et al. 2022 do).

    Attributes:
        title: in tables.
        metrics: names of the table's metrics; none is the mean accuracy.
        near: the healthy value, where a metric is bad on both sides of it.
        standardised: whether the metrics are summed, each brought to mean 0 and variance 1 over
            the runs of the fit first, as CLID is.
    """

    title: str
    metrics: tuple[str, ...] = ()
    near: float | None = None
    standardised: bool = False

    def columns(self, training: Training) -> Array:
        """Return the metrics, or how far from ``near`` they are, (n, m); NaN where missing."""
        if not self.metrics:
            return np.zeros((len(training), 0))
        missing = np.full(len(training), np.nan)
        found = np.column_stack([training.metrics.get(m, missing) for m in self.metrics])
        if self.near is not None:
            found = np.abs(found - self.near)
        return found

    def fit(self, training: Training) -> Predict:
        """Fit accuracy = constant of the data set + slope x metric by least squares.

        The number of labelled images is a condition that every model is told; a missing metric
        counts as the mean.
        """
        reduced = self._reduction(self.columns(training))
        columns = reduced(self.columns(training))
        fill = [float(c[np.isfinite(c)].mean()) if np.isfinite(c).any() else 0.0 for c in columns.T]
        names = [str(name) for name in np.unique(training.data)]

        def design(some: Training) -> Array:
            own = reduced(self.columns(some))
            own = np.where(np.isfinite(own), own, np.array(fill).reshape(1, -1))
            return np.column_stack([own, np.log2(some.labelled)])

        inputs, means = within(design(training), training.data)
        target, level = within(training.accuracy, training.data)
        # A column that is constant on every data set fixes no slope; what is left is rounding.
        inputs[:, np.abs(inputs).max(0) < 1e-9] = 0.0
        slopes = np.linalg.lstsq(inputs, target, rcond=None)[0]
        constants = {name: float(level[name] - means[name] @ slopes) for name in names}
        unknown = float(np.mean(list(constants.values())))

        def predict(some: Training) -> Array:
            own = np.array([constants.get(str(name), unknown) for name in some.data])
            return np.clip(design(some) @ slopes + own, 0.0, 1.0)

        return predict

    def _reduction(self, columns: Array) -> Callable[[Array], Array]:
        """Return what turns metrics into what the line is fitted to, given those of the fit.

        Mean and variance are of the fit alone: a run's forecast depends on no run beside it.
        """
        if not self.standardised:
            return lambda found: found
        known = columns[np.isfinite(columns).all(1)]
        if not len(known):
            return lambda found: np.zeros((len(found), 1))
        mean, deviation = known.mean(0), known.std(0)
        # A metric that is equal for all runs has no scale and counts 0; what is left is rounding.
        varies = deviation > 1e-12 * np.abs(known).max(0)
        weights = np.where(varies, 1 / np.where(varies, deviation, 1.0), 0.0)
        return lambda found: ((found - mean) * weights).sum(1, keepdims=True)


BASELINES = (
    Baseline("mean"),
    Baseline("final loss", ("final_loss",)),
    Baseline("AUC (Li et al.)", ("cev_auc",)),
    Baseline("RankMe", ("rankme",)),
    Baseline("RankMe of the embedding", ("embedding_rankme",)),
    Baseline("α-ReQ, distance of α from 1", ("alpha_req",), near=1.0),
    Baseline("LiDAR", ("lidar",)),
    Baseline("LiDAR of the embedding", ("embedding_lidar",)),
    Baseline("CLID", ("clid_learnability", "twonn"), standardised=True),
    Baseline("NESum", ("stable_rank",)),
    Baseline("participation ratio", ("participation_ratio",)),
    Baseline("spread", ("spread",)),
    Baseline("alignment + uniformity", ("alignment", "uniformity")),
    Baseline(
        "alignment + uniformity of the embedding", ("embedding_alignment", "embedding_uniformity")
    ),
    Baseline("intrinsic dimension (TwoNN)", ("twonn",)),
)
