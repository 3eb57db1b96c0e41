"""Rows too wide for a (dim, dim) matrix: what is still exact, and a sketch of the spectrum."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure._from_rows import check_views
from fullrank.measure._moment_state import MomentState
from fullrank.measure.moments import unit_rows
from fullrank.measure.pairs import alignment, normalised_std, spread
from fullrank.measure.reading import Reading
from fullrank.measure.sample import RowSample
from fullrank.measure.sketch import NystromSketch
from fullrank.measure.spectrum import (
    RESOLUTION,
    cev_auc,
    dead_units,
    effective_rank,
    hard_rank,
    participation_ratio,
    rankme,
)
from fullrank.measure.vitals import VitalSigns

GROUPS = 8
# Rows in float64 at a time.
_BLOCK_ENTRIES = 1 << 23


class WideRows:
    """Rows of many coordinates, in one pass: unit-row sums in groups, and a sketch of the scatter.

    What needs no scatter (spread, standard deviation of unit rows, alignment, dead units) is exact.
    The spectrum is a :class:`fullrank.measure.sketch.NystromSketch` of the first view; memory is
    O(dim (size + groups)).

    Args:
        dim: number of coordinates.
        views: views of each image.
        size: random vectors of the sketch.
        sample: rows of the first view to keep for what needs pairs.
        seed: chooses vectors and rows.
    """

    def __init__(
        self, dim: int, views: int = 1, size: int = 256, sample: int = 1024, seed: int = 0
    ) -> None:
        self.dim, self.views = dim, views
        self.sketch = NystromSketch(dim, min(size, dim), seed)
        self.sample = RowSample(sample, seed)
        self.count = 0
        self._counts = [0] * GROUPS
        self._zeros = [0] * GROUPS
        self._apart = [0.0] * GROUPS
        # About a fixed direction, so that nothing cancels where all rows nearly agree.
        self._centre: Tensor | None = None
        self._sums = torch.zeros(GROUPS, dim, dtype=torch.float64)
        self._squares = torch.zeros(GROUPS, dim, dtype=torch.float64)

    def add(self, views: Sequence[Tensor]) -> None:
        """Add a block: one (rows, dim) tensor a view.

        Raises:
            UserError: another width or number of views, or rows that are not finite.
        """
        check_views(views)
        if (len(views), views[0].shape[1]) != (self.views, self.dim):
            raise UserError(
                f"views: {len(views)} of width {views[0].shape[1]} given; allowed: {self.views} "
                f"of width {self.dim}."
            )
        self.sketch.update(views[0])
        self.sample.update(views[0])
        step = max(1, _BLOCK_ENTRIES // self.dim)
        for block in zip(*(view.split(step) for view in views), strict=True):
            self._add_units([unit_rows(view.double()) for view in block])

    def _add_units(self, units: Sequence[tuple[Tensor, Tensor]]) -> None:
        n = len(units[0][0])
        if self._centre is None:
            self._centre = units[0][0].mean(0)
        group = torch.arange(self.count, self.count + n) % GROUPS
        for unit, norms in units:
            about = unit - self._centre
            for g in range(GROUPS):
                part = about[group == g]
                self._sums[g] += part.sum(0)
                self._squares[g] += part.square().sum(0)
                self._zeros[g] += int((norms[group == g] == 0).sum())
        for i, (one, _) in enumerate(units):
            for other, _ in units[:i]:
                apart = (one - other).square().sum(1)
                for g in range(GROUPS):
                    self._apart[g] += float(apart[group == g].sum())
        for g in range(GROUPS):
            self._counts[g] += int((group == g).sum())
        self.count += n

    def state(self, without: int | None = None) -> MomentState:
        """Return moments whose unit-row parts are those of all rows; the scatter is left 0.

        Args:
            without: a group to leave out.

        Raises:
            UserError: no rows were added.
        """
        if self._centre is None:
            raise UserError("state: no rows were added.")
        kept = [g for g in range(GROUPS) if g != without]
        count = sum(self._counts[g] for g in kept)
        rows = count * self.views
        offset = self._sums[kept].sum(0) / max(rows, 1)
        squares = self._squares[kept].sum(0) - rows * offset.square()
        nothing = torch.zeros(1, 1, dtype=torch.float64).expand(self.dim, self.dim)
        return MomentState(
            count=count,
            mean=self.sketch.mean.expand(self.views, self.dim),
            scatter=nothing,
            residual=nothing if self.views > 1 else None,
            contrast=nothing if self.views == 2 else None,
            unit_mean=self._centre + offset,
            unit_scatter=squares.clamp(min=0),
            zero_rows=sum(self._zeros[g] for g in kept),
            pair_distance=sum(self._apart[g] for g in kept),
        )

    @property
    def groups(self) -> list[int]:
        """The groups that hold rows."""
        return [g for g in range(GROUPS) if self._counts[g] > 0]


def wide_rankme(rows: WideRows, epsilon: float = 1e-7) -> Reading:
    """Read RankMe of wide rows: the middle of its bounds, from a sketch of the uncentred scatter.

    Args:
        rows: at least one of them.
        epsilon: added to each share.

    Returns:
        The bounds of the sketch in place of an interval, and a flag that says so.
    """
    spectrum = rows.sketch.spectrum(centred=False)
    low, high = spectrum.bounds(lambda sigma: rankme(sigma, epsilon))
    resolved = float(spectrum.eigenvalues.sum())
    share = resolved / max(resolved + spectrum.unresolved, 1e-300)
    flag = (
        f"bounds of a sketch of {rows.sketch.size} directions ({share:.0%} of the mean square), "
        "not an interval"
    )
    return Reading(geometric_middle(low, high), None, low, high, (flag,))


def left_out_of_wide(views: int = 1) -> dict[str, Reading]:
    """Return the metrics that neither wide rows nor their sketch give, each with the reason.

    Args:
        views: of each image; without several there are fewer to miss.
    """
    reasons = {
        "hard_rank": "the sketch does not tell small eigenvalues from none",
        "alpha_req": "no bound is known from a sketch",
        "condition_number": "the sketch does not hold the smallest eigenvalue",
    }
    if views > 1:
        reasons["lidar"] = "it needs the scatter within images"
    if views == 2:
        reasons["canonical_correlation"] = "it needs the scatter of both views"
    return {
        name: Reading(None, None, None, None, (f"not for rows this wide: {reason}",))
        for name, reason in reasons.items()
    }


def wide_vital_signs(rows: WideRows) -> VitalSigns:
    """Read the vital signs of wide rows; those of the spectrum are middles of their bounds.

    Args:
        rows: at least one of them.

    Returns:
        The vital signs; ``spectrum`` holds what the sketch resolved.
    """
    state, spectrum = rows.state(), rows.sketch.spectrum()
    rank = geometric_middle(*spectrum.bounds(effective_rank))
    most = min(rows.dim, rows.count - 1)  # the sketch is of one view
    return {
        "d": rows.dim,
        "n": rows.count,
        "n_over_d": rows.count / rows.dim,
        "spread": spread(state),
        "effective_rank": rank,
        "rank_share": rank / most if most > 0 else 0.0,
        "cev_auc": geometric_middle(*spectrum.bounds(cev_auc)),
        "alignment": alignment(state),
        "hard_rank": int(hard_rank(spectrum.most_spread, (rows.count, rows.dim), rtol=RESOLUTION)),
        "dead_units": int(dead_units(spectrum.variances)),
        "participation_ratio": geometric_middle(*spectrum.bounds(participation_ratio)),
        "std": normalised_std(state),
        "spectrum": spectrum.eigenvalues.sqrt().tolist(),
    }


def geometric_middle(low: float, high: float) -> float:
    """Return the value that is as many times ``low`` as ``high`` is times it."""
    return math.sqrt(low * high) if low > 0 else (low + high) / 2
