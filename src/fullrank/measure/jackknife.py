"""Error bars and bias correction by leaving out one group of the images at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fullrank.errors import UserError


@dataclass(frozen=True)
class Jackknifed:
    """A statistic of all images, and the same statistic without each of ``g`` equal groups.

    Attributes:
        value: the statistic of all images.
        replicates: the statistic without group 1, 2, … g.
    """

    value: float
    replicates: tuple[float, ...]

    @property
    def standard_error(self) -> float | None:
        """``sqrt((g-1)/g Σ (θ_(-k) - mean)²)``; None with fewer than two finite replicates.

        References:
            Tukey 1958, "Bias and confidence in not-quite large samples"; Efron and Stein 1981,
            "The jackknife estimate of variance", eq. 1.3.
        """
        g = len(self.replicates)
        if g < 2 or not all(map(math.isfinite, (self.value, *self.replicates))):
            return None
        mean = sum(self.replicates) / g
        return math.sqrt((g - 1) / g * sum((r - mean) ** 2 for r in self.replicates))

    @property
    def corrected(self) -> float | None:
        """``g θ - (g-1) mean θ_(-k)``: the value without its bias of order ``1/n``; or None.

        References:
            Quenouille 1956, "Notes on bias in estimation", section 2.
        """
        g = len(self.replicates)
        if g < 2 or not all(map(math.isfinite, (self.value, *self.replicates))):
            return None
        return g * self.value - (g - 1) * sum(self.replicates) / g

    def interval(self, about: float | None = None, level: float = 0.95) -> tuple[float, float]:
        """Return a confidence interval: Student's t with ``g - 1`` degrees of freedom.

        Args:
            about: its centre; by default the value.
            level: its coverage.

        Raises:
            UserError: a level outside (0, 1).
        """
        if not 0 < level < 1:
            raise UserError(f"level: {level} given; allowed: between 0 and 1.")
        centre, error = self.value if about is None else about, self.standard_error
        if error is None:
            return math.nan, math.nan
        from scipy.stats import t

        half = float(t.ppf((1 + level) / 2, len(self.replicates) - 1)) * error
        return centre - half, centre + half


def group_means(value: float, groups: Sequence[float]) -> Jackknifed:
    """Return the jackknife of a mean over equal groups, from the groups' own means."""
    total, g = sum(groups), len(groups)
    left_out = (tuple((total - one) / (g - 1) for one in groups)) if g > 1 else ()
    return Jackknifed(value, left_out)
