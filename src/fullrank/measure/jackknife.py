"""Error bars and bias correction by leaving out one group of the images at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from fullrank.errors import UserError


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
    def settled(self) -> bool:
        """Whether the corrections of first and of second order agree to one standard error.

        If they do not, the bias does not fall as ``1/n`` at this ``n``, as for what depends on the
        order of equal eigenvalues, and no correction is to be trusted. True without halves or with
        fewer than two finite replicates: nothing is known against it.
        """
        first, second, error = self._first_order, self.corrected, self.standard_error
        if first is None or second is None or error is None or not self.halves:
            return True
        return abs(first - second) <= error + 1e-12 * abs(self.value)

    @property
    def _first_order(self) -> float | None:
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

    def unsettled_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return an interval for a bias that falls as some power of ``1/n`` between 1/2 and 1.

        It reaches from the value to the value without a bias of order ``1/sqrt(n)``, which is that
        of ordered eigenvalues that are equal, and by the half width of :meth:`interval` beyond.

        Args:
            level: coverage of :meth:`interval`; this one covers more.

        Raises:
            UserError: a level outside (0, 1).
        """
        low, high = self.interval(level=level)
        if math.isnan(low):
            return low, high
        g = len(self.replicates)
        fewer, times = (self.halves, 2.0) if self.halves else (self.replicates, g / (g - 1))
        bias = (sum(fewer) / len(fewer) - self.value) / (math.sqrt(times) - 1)
        if not math.isfinite(bias):
            return math.nan, math.nan
        return low - max(bias, 0), high - min(bias, 0)

    def on_scale(self, function: Callable[[float], float]) -> Jackknifed:
        """Return the jackknife of a function of the statistic."""
        return Jackknifed(
            function(self.value),
            tuple(map(function, self.replicates)),
            tuple(map(function, self.halves)),
        )
