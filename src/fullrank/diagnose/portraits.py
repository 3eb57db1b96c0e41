"""Phase portraits and phase diagrams of a recipe's theory, as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fullrank.recipes.recipe import Recipe
from fullrank.theory.basin import basin_boundary
from fullrank.theory.eigenmodes import (
    ModeParameters,
    eigenmode_rates,
    fixed_points,
    no_stop_gradient_rates,
)
from fullrank.theory.flow import CellRates, integrate
from fullrank.theory.phase import phase_diagram

# Shown at a weight decay where the basin of collapse is large enough to see.
NOISE, DECAY = 0.3, 0.15
_LARGEST = 1.0
_STARTS = 7
_END, _INSTANTS = 200.0, 160
_CELLS = 60
_SIGNS = {
    "weight_decay": "η",
    "noise": "σ²",
    "predictor_rate": "α_p",
    "tau": "τ",
    "ema_rate": "β",
}


def mode_portraits(recipe: Recipe) -> list[dict[str, Any]]:
    """Return how modes move in the plane of ``p`` and ``s``, with and without stop-gradient.

    Args:
        recipe: of the asymmetric kind.
    """
    parameters = ModeParameters(noise=NOISE, weight_decay=DECAY)
    points = fixed_points(parameters)
    lower, upper = float(points.lower), float(points.upper)
    s = torch.logspace(-3, 0, 60, dtype=torch.float64) * _LARGEST
    edge = basin_boundary(parameters, s)
    shown = edge.isfinite() & (edge <= _LARGEST)
    note = f"σ² = {NOISE}, η = {DECAY}, τ = 1, α_p = 1"
    axes = {"x_name": "p, eigenvalue of the predictor", "y_name": "s, eigenvalue of F"}
    return [
        {
            "title": "With stop-gradient",
            "note": note,
            "caption": "Every line is a mode from its start (dot). Filled circles: stable fixed "
            "points, collapsed and healthy; open circle: the threshold between them. Dashed: the "
            "boundary of the basin of collapse.",
            **axes,
            "paths": _paths(eigenmode_rates(parameters), alive=lower),
            "fixed": [
                {"x": 0.0, "y": 0.0, "stable": True},
                {"x": lower, "y": lower**2, "stable": False},
                {"x": upper, "y": upper**2, "stable": True},
            ],
            "boundary": {"x": _listed(edge[shown]), "y": _listed(s[shown])},
        },
        {
            "title": "Without stop-gradient",
            "note": note,
            "caption": "The same starts with the gradient through both sides: every mode dies.",
            **axes,
            "paths": _paths(no_stop_gradient_rates(parameters), alive=lower),
            "fixed": [{"x": 0.0, "y": 0.0, "stable": True}],
            "boundary": {},
        },
    ]


def _paths(rates: CellRates, alive: float) -> list[dict[str, Any]]:
    along = torch.linspace(0.0, _LARGEST, _STARTS, dtype=torch.float64)
    p, s = (grid.flatten() for grid in torch.meshgrid(along, along, indexing="ij"))
    outer = (torch.isin(p, along[[0, -1]]) | torch.isin(s, along[[0, -1]])) & (s > 0)
    # The corner by the origin, where fates part.
    near = torch.tensor([0.04, 0.1, 0.18, 0.28], dtype=torch.float64)
    inner_p, inner_s = (g.flatten() for g in torch.meshgrid(near, near**2, indexing="ij"))
    start = (torch.cat([p[outer], inner_p]), torch.cat([s[outer], inner_s]))
    instants = torch.linspace(0, 1, _INSTANTS, dtype=torch.float64).square() * _END
    ps, ss = integrate(rates, start, instants).states
    fates = ["survives" if float(end) > alive**2 else "collapses" for end in ss[-1]]
    return [
        {"x": _listed(ps[:, cell]), "y": _listed(ss[:, cell]), "fate": fate}
        for cell, fate in enumerate(fates)
    ]


def phase_pictures(pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return the phase diagram of each pair of parameters, as ``PhaseDiagram.to_dict`` has it.

    Args:
        pairs: names in ``fullrank.theory.phase.AXES``, along x and along y.

    Raises:
        UserError: a name is not known, or both of a pair are the same.
    """
    drawn = []
    for x, y in pairs:
        diagram = phase_diagram(x, y, cells=(_CELLS, _CELLS))
        shown = diagram.to_dict()
        fixed = ", ".join(f"{_SIGNS.get(k, k)} = {v:g}" for k, v in diagram.fixed.items())
        exact = all(boundary.exact for boundary in diagram.boundaries)
        drawn.append(
            {
                **shown,
                "outcome": [[_short(v) for v in row] for row in shown["outcome"]],
                "title": f"{_SIGNS.get(y, y)} over {_SIGNS.get(x, x)}",
                "note": fixed,
                "caption": "Where a mode ends; 0 is collapse. Dashed: "
                + ("the analytic boundary." if exact else "the analytic boundary or its limit."),
            }
        )
    return drawn


def default_phases(recipe: Recipe) -> list[tuple[str, str]]:
    """Return the pairs of parameters that matter most to a recipe of the asymmetric kind."""
    pairs = [("weight_decay", "noise"), ("p", "s")]
    if recipe.target.kind == "momentum":
        pairs.append(("weight_decay", "ema_rate"))
    else:
        pairs.append(("weight_decay", "predictor_rate"))
    return pairs


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def _listed(values: Tensor) -> list[float]:
    """Return numbers with as many digits as a picture shows."""
    return [float(f"{v:.4g}") for v in values.tolist()]
