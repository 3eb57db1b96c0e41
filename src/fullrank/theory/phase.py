"""Phase diagrams of the predictor dynamics: where in two parameters a mode survives.

Every cell is one mode (Tian et al. 2021, Eqs. 11-13), followed as part of one batch; the boundary
drawn over the cells is not taken from them but from the saddle's separatrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fullrank.errors import UserError, unknown_name
from fullrank.theory.boundary import crossings
from fullrank.theory.eigenmodes import ModeParameters, eigenmode_rates, fixed_points
from fullrank.theory.flow import CellRates, Flow, integrate
from fullrank.theory.separatrix import escapes_exactly
from fullrank.theory.validity import checked


@dataclass(frozen=True)
class Axis:
    """A parameter that a diagram can run over.

    Attributes:
        label: what to write on the axis.
        fixed: value where it is not an axis; None: absent.
        low: start of the default range.
        high: end of the default range.
        log: whether values are spaced evenly in the logarithm.
        above: whether 0 itself is refused.
        most: largest allowed value.
    """

    label: str
    fixed: float | None
    low: float
    high: float
    log: bool = False
    above: bool = False
    most: float = math.inf


AXES: Mapping[str, Axis] = {
    "weight_decay": Axis("weight decay η", 0.05, 1e-3, 0.25),
    "noise": Axis("augmentation variance σ²", 0.3, 0.0, 4.0),
    "predictor_rate": Axis(
        "learning rate of the predictor over the encoder's, α_p", 1.0, 0.1, 10.0, True, True
    ),
    "tau": Axis("target over online network, τ", 1.0, 0.2, 1.0, most=1.0),
    "ema_rate": Axis("rate of the moving average, β", None, 0.01, 1.0, True, True),
    "p": Axis("initial predictor eigenvalue p", 0.1, 0.0, 1.0),
    "s": Axis("initial feature variance s", 0.05, 1e-4, 1.0, True),
}
"""The parameters, by name. With ``ema_rate``, ``tau`` is where the target starts."""


@dataclass(frozen=True)
class Boundary:
    """A curve between regions of a diagram.

    Attributes:
        label: what it parts.
        points: (points, 2), x and y, along the curve.
        exact: whether the simulated boundary lies here; if not, it is a limit.
    """

    label: str
    points: Float[Tensor, "points 2"]
    exact: bool


@dataclass(frozen=True)
class PhaseDiagram:
    """What becomes of a mode over two parameters.

    Attributes:
        x_name: parameter along x, a key of ``AXES``.
        y_name: parameter along y.
        x: its values.
        y: its values.
        outcome: final p of each cell; NaN where the flow diverged.
        survives: whether the cell ended on the grown side of the unstable fixed point.
        boundaries: analytic curves.
        fixed: the other parameters.
        until: time that was simulated.
    """

    x_name: str
    y_name: str
    x: Float[Tensor, " nx"]
    y: Float[Tensor, " ny"]
    outcome: Float[Tensor, "ny nx"]
    survives: Bool[Tensor, "ny nx"]
    boundaries: tuple[Boundary, ...]
    fixed: dict[str, float]
    until: float

    @property
    def boundary(self) -> Float[Tensor, "points 2"]:
        """All points of the analytic curves, one curve after the other."""
        return torch.cat([torch.zeros(0, 2, dtype=torch.float64)]
                         + [b.points for b in self.boundaries])  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, lists and names; None where the flow diverged."""
        outcome = [[v if math.isfinite(v) else None for v in row] for row in self.outcome.tolist()]
        axes = {
            name: {"name": given, "label": AXES[given].label, "log": AXES[given].log, "values": v}
            for name, given, v in (
                ("x", self.x_name, self.x.tolist()),
                ("y", self.y_name, self.y.tolist()),
            )
        }
        return {
            **axes,
            "outcome": outcome,
            "outcome_label": "final predictor eigenvalue p",
            "survives": self.survives.tolist(),
            "boundaries": [
                {"label": b.label, "points": b.points.tolist(), "exact": b.exact}
                for b in self.boundaries
            ],
            "fixed": self.fixed,
            "until": self.until,
        }


def phase_diagram(
    x: str = "weight_decay",
    y: str = "predictor_rate",
    *,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    cells: tuple[int, int] = (100, 100),
    until: float = 200.0,
    rtol: float = 1e-5,
    analytic: bool = True,
    **fixed: float,
) -> PhaseDiagram:
    """Follow a mode in every cell of a grid over two parameters.

    Args:
        x: parameter along x: one of ``AXES``.
        y: parameter along y, another one.
        x_range: first and last value; default: the axis's own.
        y_range: likewise.
        cells: how many values along x and along y, at least 2 each.
        until: time that is simulated. A mode grows within about ``1/(α_p s)`` and dies within some
            ``1/η``; near the boundary both take longer.
        rtol: relative tolerance of the flow.
        analytic: whether to look for the analytic boundaries.
        **fixed: values of other parameters, by their names in ``AXES``.

    Returns:
        Outcomes and analytic boundaries. With a moving average the exact boundary is not known;
        those of a target that follows at once are given.

    Raises:
        UserError: unknown names, one parameter on both axes or on an axis and fixed, ranges that
            do not ascend or leave where the theory holds.
    """
    for argument, name in (("x", x), ("y", y), *(("fixed", name) for name in fixed)):
        if name not in AXES:
            raise unknown_name(argument, name, AXES)
    if x == y or x in fixed or y in fixed:
        name = next((n for n in (x, y) if n in fixed), x)
        raise UserError(f"{name}: given twice; allowed: on one axis or fixed.")
    values = {name: axis.fixed for name, axis in AXES.items() if axis.fixed is not None}
    values |= {name: float(_valid(name, torch.tensor(v))) for name, v in fixed.items()}
    values = {name: value for name, value in values.items() if name not in (x, y)}
    checked("until", until, above=True)
    across = _axis_values(x, x_range, cells[0])
    up = _axis_values(y, y_range, cells[1])
    grid = torch.meshgrid(up, across, indexing="ij")
    points = {x: grid[1].reshape(-1), y: grid[0].reshape(-1)}
    flow, lower = _followed(points, values, until, rtol)
    outcome = flow.end[0].reshape(grid[0].shape)
    return PhaseDiagram(
        x, y, across, up, outcome, outcome > lower.reshape(grid[0].shape),
        _boundaries(x, y, across, up, values) if analytic else (), values, until,
    )  # fmt: skip


def _followed(
    points: dict[str, Tensor], values: dict[str, float], until: float, rtol: float
) -> tuple[Flow, Tensor]:
    """Return the flow of all cells, and each one's unstable fixed point."""
    of = _spread(points, values)
    times = torch.tensor([0.0, until], dtype=torch.float64)
    moving = "ema_rate" in of
    # A target that moves comes to rest at τ = 1, so the fixed points are those of τ = 1.
    tau = torch.ones_like(of["p"]) if moving else of["tau"]
    modes = ModeParameters(of["noise"], of["weight_decay"], tau, of["predictor_rate"])
    rates: CellRates = eigenmode_rates(modes)
    start: tuple[Tensor, ...] = of["p"], of["s"]
    if moving:
        order = ("noise", "weight_decay", "predictor_rate", "ema_rate")
        rates = CellRates(_lagging_flow, tuple(of[name] for name in order))
        w = of["s"].sqrt()
        start = of["p"], w, of["tau"] * w
    return integrate(rates, start, times, rtol=rtol, atol=1e-8), fixed_points(modes).lower


def _lagging_flow(
    t: float,
    states: tuple[Tensor, ...],
    noise: Tensor,
    weight_decay: Tensor,
    predictor_rate: Tensor,
    ema_rate: Tensor,
) -> tuple[Tensor, ...]:
    """Equations 11 to 13 in p, ``w = √s`` and the target's ``a = τ w``.

    ``da/dt = β (w - a)``. τ itself grows without bound where a mode dies faster than its target.
    """
    p, w, a = states
    error = a - (1 + noise) * p * w
    return (
        predictor_rate * w * error - weight_decay * p,
        p * error - weight_decay * w,
        ema_rate * (w - a),
    )


def _boundaries(
    x: str, y: str, across: Tensor, up: Tensor, values: dict[str, float]
) -> tuple[Boundary, ...]:
    """Return where exact survival changes, and where weight decay becomes critical."""
    moving = "ema_rate" in (x, y) or "ema_rate" in values

    def parameters(a: Tensor, b: Tensor) -> dict[str, Tensor]:
        of = _spread({x: a, y: b}, values)
        if moving:
            of["tau"] = torch.ones_like(a)
        of.pop("ema_rate", None)
        return of

    def survives(a: Tensor, b: Tensor) -> Tensor:
        of = parameters(a, b)
        return escapes_exactly(of.pop("p"), of.pop("s"), **of)

    def subcritical(a: Tensor, b: Tensor) -> Tensor:
        of = parameters(a, b)
        return 4 * of["weight_decay"] * (1 + of["noise"]) < of["tau"].square()

    edge = "basin of collapse, target follows at once" if moving else "basin of collapse"
    curves: list[tuple[str, Callable[[Tensor, Tensor], Tensor], bool]] = [
        (edge, survives, not moving),
        ("critical weight decay", subcritical, False),
    ]
    log = AXES[x].log, AXES[y].log
    return tuple(
        Boundary(label, curve, exact)
        for label, predicate, exact in curves
        for curve in crossings(predicate, across, up, log)
    )


def _spread(points: dict[str, Tensor], values: dict[str, float]) -> dict[str, Tensor]:
    """Return all parameters of all cells."""
    like = next(iter(points.values()))
    return {name: torch.full_like(like, value) for name, value in values.items()} | points


def _axis_values(name: str, given: tuple[float, float] | None, n: int) -> Tensor:
    axis = AXES[name]
    low, high = (axis.low, axis.high) if given is None else given
    if n < 2:
        raise UserError(f"cells: {n} along {name} given; allowed: 2 and more.")
    if not low < high:
        raise UserError(f"{name}: range {low:g} to {high:g} given; allowed: ascending.")
    ends = _valid(name, torch.tensor([low, high], dtype=torch.float64))
    if not axis.log:
        return torch.linspace(low, high, n, dtype=torch.float64)
    if low <= 0:
        raise UserError(f"{name}: range from {low:g} given; allowed: above 0 (logarithmic).")
    start, end = ends.log().tolist()
    return torch.linspace(start, end, n, dtype=torch.float64).exp()


def _valid(name: str, value: Tensor) -> Tensor:
    axis = AXES[name]
    return checked(name, value, high=axis.most, above=axis.above)
