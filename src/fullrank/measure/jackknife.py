"""Error bars and bias correction by leaving out one group of the images at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from fullrank.errors import UserError

# Of flat and of stepped Gaussian spectra (benchmarks/interval_coverage.py): how many times the bias
# of order 1/sqrt(n) that halves show it can be, and the error of what it leaves over that of the
# value.
SLACK, EXTRAPOLATION = 1.05, 1.6


@dataclass(frozen=True)
class Jackknifed:
    """A statistic of all images, and the same statistic without each of ``g`` equal groups.

    Attributes:
        value: the statistic of all images.
        replicates: the statistic without group 1, 2, … g.
        halves: the statistic of halves of the groups, each half beside its complement; may be
            empty.
    """

    value: float
    replicates: tuple[float, ...]
    halves: tuple[float, ...] = ()

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
        """The value without its bias of order ``1/n``, and with halves also ``1/n²``; or None.

        The mean values of all images, of all but one group and of halves are those at ``1/n``,
        ``g/(g-1) 1/n`` and ``2/n``; the polynomial through them is read at 0. Without halves that
        is ``g θ - (g-1) mean θ_(-k)``.

        References:
            Quenouille 1956, "Notes on bias in estimation", section 2; Schucany, Gray and Owen 1971,
            "On bias reduction in estimation", section 3.
        """
        if not self.halves or self._first_order is None:
            return self._first_order
        if not all(map(math.isfinite, self.halves)):
            return None
        g = len(self.replicates)
        means = (self.value, sum(self.replicates) / g, sum(self.halves) / len(self.halves))
        at = (1.0, g / (g - 1), 2.0)
        if at[1] == at[2]:  # of two groups the halves are the replicates
            return self._first_order
        corrected = 0.0
        for k, mean in enumerate(means):
            others = [x for j, x in enumerate(at) if j != k]
            corrected += mean * math.prod(x / (x - at[k]) for x in others)
        return corrected

    @property
    def corrected_error(self) -> float | None:
        """Standard error of ``corrected`` where the bias does not fall smoothly with ``1/n``.

        What depends on the order of close eigenvalues moves unsteadily when a group is left out.
        ``corrected`` weighs the replicates by about ``2 g``, and so varies more than the value. How
        far it is from the correction by halves alone, which does not, is added in quadrature.
        Without halves it is ``standard_error``.
        """
        error, corrected = self.standard_error, self.corrected
        if not self.halves or error is None or corrected is None:
            return error
        by_halves = 2 * self.value - sum(self.halves) / len(self.halves)
        return math.hypot(error, corrected - by_halves)

    @property
    def _first_order(self) -> float | None:
        g = len(self.replicates)
        if g < 2 or not all(map(math.isfinite, (self.value, *self.replicates))):
            return None
        return g * self.value - (g - 1) * sum(self.replicates) / g

    def interval(
        self, about: float | None = None, level: float = 0.95, error: float | None = None
    ) -> tuple[float, float]:
        """Return a confidence interval: Student's t with ``g - 1`` degrees of freedom.

        Args:
            about: its centre; by default the value.
            level: its coverage.
            error: standard error of the centre; by default ``standard_error``.

        Raises:
            UserError: a level outside (0, 1).
        """
        if not 0 < level < 1:
            raise UserError(f"level: {level} given; allowed: between 0 and 1.")
        centre = self.value if about is None else about
        error = self.standard_error if error is None else error
        if error is None:
            return math.nan, math.nan
        from scipy.stats import t

        half = float(t.ppf((1 + level) / 2, len(self.replicates) - 1)) * error
        return centre - half, centre + half

    def bounds(self, level: float = 0.95) -> tuple[float, float]:
        """Return bounds for a bias that falls as some power of ``1/n``, from 1/2 upwards.

        They reach from the value to the value without a bias of order ``1/sqrt(n)``, which is that
        of ordered eigenvalues that are equal, and beyond both by the half width of
        :meth:`interval`: by ``EXTRAPOLATION`` times as much beyond the second, the error of which
        is larger.

        Args:
            level: coverage of :meth:`interval`; these cover at least as much.

        Raises:
            UserError: a level outside (0, 1).
        """
        low, high = self.interval(level=level)
        if math.isnan(low):
            return low, high
        g, half = len(self.replicates), (high - low) / 2
        fewer, times = (self.halves, 2.0) if self.halves else (self.replicates, g / (g - 1))
        bias = (sum(fewer) / len(fewer) - self.value) / (math.sqrt(times) - 1)
        if not math.isfinite(bias):
            return math.nan, math.nan
        end = self.value - SLACK * bias
        return min(low, end - EXTRAPOLATION * half), max(high, end + EXTRAPOLATION * half)

    def on_scale(self, function: Callable[[float], float]) -> Jackknifed:
        """Return the jackknife of a function of the statistic."""
        return Jackknifed(
            function(self.value),
            tuple(map(function, self.replicates)),
            tuple(map(function, self.halves)),
        )
