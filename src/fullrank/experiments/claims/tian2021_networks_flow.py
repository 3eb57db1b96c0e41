"""Tian et al. 2021: what their equations say of whole linear networks (Theorems 1 to 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.experiments.claims.claim import (
    Arms,
    Claim,
    Figure,
    Finding,
    Number,
    ScaleName,
    Series,
)
from fullrank.theory.eigenmodes import ModeParameters
from fullrank.theory.flow import integrate
from fullrank.theory.predictor_flow import (
    NetworkParameters,
    alignment_operator,
    balance,
    collapse_rate,
    commutator,
    matrix_rates,
    no_predictor_rates,
    no_stop_gradient_rates,
    reduced_rates,
)

F64 = torch.float64
INPUTS, OUTPUTS, CELLS = 12, 8, 4
DECAYS, RATES = (0.0, 0.02, 0.1), (0.5, 1.0, 2.0)


def no_runs(text: str) -> Mapping[ScaleName, str]:
    """Return a protocol that is one at both scales: theory needs no runs."""
    return {"cpu": text, "paper": text}


def _moment(gen: torch.Generator, n: int, floor: float, top: float) -> Float[Tensor, "n n"]:
    """Return a second moment with random eigenvectors and eigenvalues in [floor, top]."""
    q = torch.linalg.qr(torch.randn(n, n, generator=gen, dtype=F64)).Q
    values = torch.linspace(floor, top, n, dtype=F64)
    return (q * values) @ q.T


def _start(gen: torch.Generator, inputs: int = INPUTS) -> tuple[Tensor, Tensor]:
    w = torch.randn(CELLS, OUTPUTS, inputs, generator=gen, dtype=F64) / 3
    return w, torch.randn(CELLS, OUTPUTS, OUTPUTS, generator=gen, dtype=F64) / 3


def _balance(none: Arms) -> Finding:
    gen = torch.Generator().manual_seed(0)
    times = torch.linspace(0, 20, 41, dtype=F64)
    data, noise = _moment(gen, INPUTS, 0.2, 2.0), _moment(gen, INPUTS, 0.1, 0.6)
    worst, series = 0.0, []
    for decay in DECAYS:
        for rate in RATES:
            start = _start(gen)
            at = NetworkParameters(data, noise, decay, rate)
            flow = integrate(matrix_rates(at), start, times).check()
            found = balance(flow.states[0], flow.states[1], rate)
            shrunk = torch.exp(-2 * decay * times)[:, None, None, None] * found[0]
            apart = torch.linalg.matrix_norm(found - shrunk) / torch.linalg.matrix_norm(found[0])
            worst = max(worst, float(apart.max()))
            if rate == 1.0:
                left = torch.linalg.matrix_norm(found[:, 0]) / torch.linalg.matrix_norm(found[0, 0])
                name = f"weight decay {decay:g}"
                series.append(Series(name, times.tolist(), left.tolist()))
    at = NetworkParameters(data, noise, 0.1, 1.0, 0.0)
    flow = integrate(matrix_rates(at), _start(gen), times).check()
    found = balance(flow.states[0], flow.states[1], 1.0)
    uneven = torch.linalg.matrix_norm(
        found - torch.exp(-0.2 * times)[:, None, None, None] * found[0]
    )
    unequal = float((uneven / torch.linalg.matrix_norm(found[0])).max())
    return Finding(
        "held" if worst <= 1e-3 else "did not hold",
        f"Over {len(DECAYS) * len(RATES)} settings the difference of WWᵀ and W_pᵀW_p / α_p keeps "
        "to "
        f"e^(-2ηt) of its start within {worst:.1g} of it. Without decay on the predictor it does "
        f"not: there it is off by {unequal:.2g}.",
        (
            Number("largest departure from e^(-2ηt), share of the start", worst),
            Number("the same where only the encoder decays (a control)", unequal),
        ),
        (
            Figure(
                "Weight decay takes the difference between encoder and predictor away.",
                "time (learning rate x steps)",
                "norm of it over that of the start",
                series,
                log_y=True,
            ),
        ),
    )


BALANCE = Claim(
    name="tian2021/balance",
    statement="Weight decay balances encoder and predictor: WWᵀ - W_pᵀW_p / α_p falls as e^(-2ηt), "
    "so that what the predictor learns the encoder learns.",
    source="Theorem 1",
    protocol=no_runs(
        "The flow of linear networks of 12 inputs and 8 outputs, data and augmentations "
        "anisotropic, "
        "random starts, predictor not symmetric; η in 0, 0.02, 0.1 times α_p in 0.5, 1, 2; "
        "float64, "
        "to t = 20."
    ),
    criterion="The difference is e^(-2ηt) times its start within 1e-3 of the start's norm, at all "
    "times and settings.",
    judge=_balance,
)


def _collapse(none: Arms) -> Finding:
    gen = torch.Generator().manual_seed(1)
    data, noise = _moment(gen, INPUTS, 0.2, 2.0), _moment(gen, INPUTS, 0.1, 0.6)
    at = NetworkParameters(data, noise, 0.02)
    rate = collapse_rate(at)
    times = torch.linspace(0, 60, 121, dtype=F64)
    w, w_p = _start(gen)
    without = integrate(no_stop_gradient_rates(at), (w, w_p), times).check().states[0]
    alone = integrate(no_predictor_rates(at), (w,), times).check().states[0]
    kept = integrate(matrix_rates(at), (w, w_p), times).check().states[0]
    size = {
        name: torch.linalg.matrix_norm(x) / torch.linalg.matrix_norm(w)
        for name, x in (("no stop-gradient", without), ("no predictor", alone), ("both", kept))
    }
    # Slowest decay over any stretch of 5 units of time, over all starts.
    steps = size["no stop-gradient"].log().diff(dim=0)
    slowest = -float(steps.unfold(0, 10, 1).mean(dim=-1).max()) / 0.5
    late = size["no predictor"].log()
    found = -float((late[-1] - late[-21]).mean() / (times[-1] - times[-21]))
    survives = float(size["both"][-1].min())
    ok = slowest >= rate * (1 - 1e-6) and abs(found / rate - 1) <= 0.02 and survives > 0.1
    bound = torch.exp(-rate * times)
    series = [Series(name, times.tolist(), x[:, 0].tolist()) for name, x in size.items()]
    series.append(Series("e^(-(λ_min + η)t)", times.tolist(), bound.tolist()))
    return Finding(
        "held" if ok else "did not hold",
        f"Without stop-gradient W decays at {slowest / rate:.2f} times λ_min(X') + η or faster at "
        "any "
        f"time; without predictor at {found / rate:.3f} times it in the end. With both, "
        f"{survives:.2f} "
        "of its norm is left at t = 60.",
        (
            Number("slowest decay without stop-gradient, over λ_min(X') + η", slowest / rate),
            Number("last decay without predictor, over λ_min(X') + η", found / rate),
            Number("share of W's norm that is left with both (a control)", survives),
        ),
        (
            Figure(
                "Only stop-gradient and predictor together keep a linear network from collapse.",
                "time (learning rate x steps)",
                "||W|| over that of the start",
                series,
                log_y=True,
            ),
        ),
    )


COLLAPSE = Claim(
    name="tian2021/collapse-theorem",
    statement="Without stop-gradient, or without predictor, every linear network collapses, no "
    "slower than the least augmentation variance.",
    source="Theorem 2",
    protocol=no_runs(
        "The flow of four random linear networks (12 inputs, 8 outputs), anisotropic data, the "
        "least "
        "eigenvalue of X' 0.1, η = 0.02, to t = 60; beside them the same starts with "
        "stop-gradient and "
        "predictor. Directions without augmentation variance are left out: there the theorem "
        "promises "
        "nothing."
    ),
    criterion="Without stop-gradient, log ||W|| falls at λ_min(X') + η or faster over every "
    "stretch of 5 "
    "units of time; without predictor, its last rate is λ_min(X') + η within 2 %; with both, more "
    "than "
    "a tenth of ||W|| is left.",
    judge=_collapse,
)


def _alignment(none: Arms) -> Finding:
    gen = torch.Generator().manual_seed(2)
    cells, d = 16, 8
    parameters = ModeParameters(noise=0.3, weight_decay=0.05)
    one = torch.eye(d, dtype=F64)
    a, b = (torch.randn(cells, d, d, generator=gen, dtype=F64) for _ in range(2))
    f = a @ a.mT / d + 0.5 * one
    w_p = 0.2 * one + 0.1 * (b + b.mT) / math.sqrt(2 * d)
    times = torch.linspace(0, 20, 81, dtype=F64)
    states = integrate(reduced_rates(parameters), (f, w_p), times).check().states
    size = torch.linalg.matrix_norm(commutator(*states))
    smallest = torch.stack(
        [
            torch.linalg.eigvalsh(alignment_operator(f_now, p_now, parameters))[:, 0]
            for f_now, p_now in zip(states[0], states[1], strict=True)
        ]
    )
    positive = (smallest > 0).all(dim=0)
    fall = size[0] / size[-1]
    least = float(fall[positive].min()) if positive.any() else 0.0
    # Small F, weak decay and p near τ / 2(1 + σ²): there K < 0, and the theorem says the contrary.
    weak = ModeParameters(noise=0.3, weight_decay=0.001)
    near = 1e-3 * f, 0.35 * one + 0.05 * (b + b.mT) / math.sqrt(2 * d)
    end = integrate(reduced_rates(weak), near, times[:9]).check().end
    apart = torch.linalg.matrix_norm(commutator(*end)) / torch.linalg.matrix_norm(commutator(*near))
    negative = torch.linalg.eigvalsh(alignment_operator(near[0], near[1], weak))[:, -1] < 0
    parted = float(apart[negative].min()) if negative.any() else math.nan
    enough = int(positive.sum()) >= cells // 2
    verdict = "inconclusive" if not enough else "held" if least >= 100 else "did not hold"
    return Finding(
        verdict,  # type: ignore[arg-type]
        f"In {int(positive.sum())} of {cells} starts K stayed positive definite, and ||[F, W_p]|| "
        "fell "
        f"at least {least:.3g}-fold. Where K is negative definite it grew at least "
        f"{parted:.2f}-fold.",
        (
            Number("least fall of ||[F, W_p]|| where K > 0", least, unit="fold"),
            Number("least growth of it where K < 0 (a control)", parted, unit="fold"),
        ),
        (
            Figure(
                "Where K is positive definite, predictor and correlation come to share "
                "eigenvectors.",
                "time (learning rate x steps)",
                "||[F, W_p]||",
                [Series("", times.tolist(), size[:, i].tolist()) for i in range(6)],
                log_y=True,
            ),
        ),
    )


ALIGNMENT = Claim(
    name="tian2021/alignment-theorem",
    statement="The eigenspaces of the predictor and of the representation's correlation align.",
    source="Theorem 3",
    protocol=no_runs(
        "The flow of F and a symmetric W_p, isotropic data, σ² = 0.3, η = 0.05, from 16 random "
        "starts "
        "of 8 dimensions whose eigenvectors differ, to t = 20."
    ),
    criterion="In every start in which K = (1 + σ²)(α_p F / 2 + W_p²) - τ W_p + 3η/2 stays "
    "positive "
    "definite, ||[F, W_p]|| falls at least a hundredfold; these are at least half of the starts.",
    judge=_alignment,
)
