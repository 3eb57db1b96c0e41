"""Tian et al. 2021: what their equations say of single eigenmodes (Eqs. 11 to 15)."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fullrank.experiments.claims.claim import Arms, Claim, Figure, Finding, Number, Series
from fullrank.experiments.claims.tian2021_networks_flow import no_runs
from fullrank.theory.eigenmodes import (
    ModeParameters,
    critical_weight_decay,
    eigenmode_rates,
    fixed_points,
)
from fullrank.theory.flow import integrate

F64 = torch.float64
NOISE = 0.3
TOLERANCE = 0.02


def _end(
    parameters: ModeParameters, p: Float[Tensor, " cells"], s: Float[Tensor, " cells"], until: float
) -> Float[Tensor, " cells"]:
    """Return the predictor's eigenvalue at the end of the flow."""
    times = torch.tensor([0.0, until], dtype=F64)
    return integrate(eigenmode_rates(parameters), (p, s), times).check().end[0]


def _survives(
    parameters: ModeParameters, p: Float[Tensor, " cells"], s: Float[Tensor, " cells"], until: float
) -> Bool[Tensor, " cells"]:
    """Say which modes are not collapsed at the end of the flow."""
    return _end(parameters, p, s, until) > 0.05


def _fixed_points(none: Arms) -> Finding:
    decays = torch.linspace(0.02, 0.18, 9, dtype=F64)
    predicted = fixed_points(ModeParameters(NOISE, decays))
    start = torch.ones_like(decays)
    upper = _end(ModeParameters(NOISE, decays), start, start**2, 1000.0)
    # Starts around the predicted edge, on the balanced curve s = p².
    shares = torch.linspace(0.95, 1.05, 41, dtype=F64)
    p = (predicted.lower[:, None] * shares).reshape(-1)
    cells = ModeParameters(NOISE, decays.repeat_interleave(len(shares)))
    alive = _survives(cells, p, p**2, 1000.0).view(len(decays), -1)
    tried = p.view(len(decays), -1)
    first = alive.int().argmax(dim=1)
    lower = tried.gather(1, first[:, None])[:, 0]
    # A first start that survives already, or none that does: the edge lies outside.
    lower = torch.where(alive.all(dim=1) | ~alive.any(dim=1), torch.inf, lower)
    collapsed = _end(ModeParameters(NOISE, decays), 0.9 * predicted.lower,
                     (0.9 * predicted.lower) ** 2, 1000.0).abs()  # fmt: skip
    errors = {
        "p₊": float((upper / predicted.upper - 1).abs().max()),
        "p₋": float((lower / predicted.lower - 1).abs().max()),
    }
    nought = float(collapsed.max())
    ok = max(errors.values()) <= TOLERANCE and nought < 1e-3
    eta = torch.linspace(1e-3, 0.1922, 200, dtype=F64)
    curve = fixed_points(ModeParameters(NOISE, eta))
    return Finding(
        "held" if ok else "did not hold",
        f"Simulated modes rest at p₊ within {100 * errors['p₊']:.2g} % of the formula, their fate "
        f"turns at p₋ within {100 * errors['p₋']:.2g} %, and below it they end at {nought:.1g}.",
        (
            Number("largest error of p₋", 100 * errors["p₋"], unit="%"),
            Number("largest error of p₊", 100 * errors["p₊"], unit="%"),
            Number("largest end of a mode that starts at 0.9 p₋", nought),
        ),
        (
            Figure(
                "Three fixed points: collapse, a threshold, and the healthy state.",
                "weight decay η",
                "eigenvalue p of the predictor",
                (
                    Series("p₊ by the formula", eta.tolist(), curve.upper.tolist()),
                    Series("p₋ by the formula", eta.tolist(), curve.lower.tolist()),
                    Series(
                        "where modes come to rest", decays.tolist(), upper.tolist(), kind="points"
                    ),
                    Series(
                        "where their fate turns", decays.tolist(), lower.tolist(), kind="points"
                    ),
                ),
            ),
        ),
    )


FIXED_POINTS = Claim(
    name="tian2021/fixed-points",
    statement="An eigenmode has three fixed points: a collapsed one, which weight decay makes "
    "stable, an "
    "unstable one, and a healthy one.",
    source="Eq. 15",
    protocol=no_runs(
        "The flow of single modes (Eqs. 11 and 12), σ² = 0.3, nine weight decays from 0.02 to "
        "0.18, from "
        "p = 1 and from 41 starts around the predicted threshold, with s = p²; to t = 1,000."
    ),
    criterion="Where modes come to rest and where their fate turns differ from p₊ and p₋ by at "
    "most "
    "2 %; a mode that starts at 0.9 p₋ ends below 0.001.",
    judge=_fixed_points,
)


def _critical_decay(none: Arms) -> Finding:
    shares = torch.linspace(0.9, 1.1, 81, dtype=F64)
    rows = [(noise, tau) for noise in (0.0, 0.3, 1.0) for tau in (1.0, 0.7)]
    found, predicted = [], []
    for noise, tau in rows:
        critical = critical_weight_decay(noise, tau)
        start = torch.full_like(shares, tau / (1 + noise))
        parameters = ModeParameters(noise, critical * shares, tau)
        alive = _survives(parameters, start, start**2, 1000.0)
        last = int(alive.int().sum()) - 1
        sharp = bool(alive[: last + 1].all())
        found.append(float(critical * shares[last]) if sharp and last >= 0 else 0.0)
        predicted.append(float(critical))
    errors = [abs(f / p - 1) for f, p in zip(found, predicted, strict=True)]
    ends = [0.0, max(predicted)]
    return Finding(
        "held" if max(errors) <= TOLERANCE else "did not hold",
        f"In {len(rows)} settings the largest weight decay that the healthy state survives is "
        f"τ² / 4(1 + σ²) within {100 * max(errors):.2g} %; they were tried in steps of 0.25 %.",
        (Number("largest error of the critical weight decay", 100 * max(errors), unit="%"),),
        (
            Figure(
                "The healthy state ends where theory says.",
                "critical weight decay by the formula",
                "largest weight decay that is survived",
                (
                    Series("equal", ends, ends),
                    Series("simulated modes", predicted, found, kind="points"),
                ),
            ),
        ),
    )


CRITICAL_DECAY = Claim(
    name="tian2021/critical-decay",
    statement="Above a critical weight decay of τ² / 4(1 + σ²) collapse is unavoidable.",
    source="Eq. 15, observation 5",
    protocol=no_runs(
        "The flow of single modes from near the healthy state, σ² in 0, 0.3, 1 and τ in 1, 0.7, "
        "over 81 "
        "weight decays within 10 % of the predicted critical one; to t = 1,000."
    ),
    criterion="The largest weight decay that a mode survives is the predicted one within 2 %, in "
    "every "
    "setting, and none above it is survived.",
    judge=_critical_decay,
)


RATIOS = (0.1, 0.3, 1.0, 3.0, 10.0)


def _basin(none: Arms) -> Finding:
    p = torch.linspace(0.0, 0.2, 21, dtype=F64)
    s = torch.logspace(-3, 0, 41, dtype=F64)
    starts = torch.cartesian_prod(p, s)
    shares, edges = [], []
    for ratio in RATIOS:
        parameters = ModeParameters(NOISE, 0.05, 1.0, ratio)
        alive = _survives(parameters, starts[:, 0], starts[:, 1], 300.0).view(len(p), len(s))
        shares.append(100 * float((~alive).double().mean()))
        # For every s the smallest p that escapes.
        first = torch.where(alive.any(dim=0), p[alive.int().argmax(dim=0)], torch.nan)
        edges.append(first)
    falls = [a - b for a, b in pairwise(shares)]
    series = [
        Series(f"α_p = {ratio:g}", s[known].tolist(), edge[known].tolist())
        for ratio, edge in zip(RATIOS, edges, strict=True)
        for known in [~edge.isnan()]
    ]
    listed = ", ".join(f"{share:.1f}" for share in shares)
    return Finding(
        "held" if min(falls) > 0 else "did not hold",
        f"Of the same starts {listed} % collapse at α_p = {', '.join(f'{r:g}' for r in RATIOS)}.",
        (
            Number("least fall of the collapsing share from one α_p to the next", min(falls),
                   unit="points"),
            *(Number(f"starts that collapse at α_p = {r:g}", share, unit="%")
              for r, share in zip(RATIOS, shares, strict=True)),
        ),
        (
            Figure(
                "A faster predictor leaves less of the plane to collapse.",
                "start of s, eigenvalue of F",
                "smallest start of p that escapes",
                series,
                log_x=True,
            ),
        ),
    )  # fmt: skip


BASIN = Claim(
    name="tian2021/basin",
    statement="A larger learning rate of the predictor shrinks the basin of collapse.",
    source="Eqs. 11 and 12",
    protocol=no_runs(
        "The flow of single modes, σ² = 0.3, η = 0.05, α_p in 0.1, 0.3, 1, 3, 10, from the same "
        "861 "
        "starts (p from 0 to 0.2, s from 0.001 to 1); to t = 300."
    ),
    criterion="The share of starts that collapse falls from each α_p to the next.",
    judge=_basin,
)
