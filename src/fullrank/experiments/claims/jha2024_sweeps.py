"""Two sweeps over what holds the centre: BYOL's momentum, and the penalty itself."""

from __future__ import annotations

from fullrank.experiments.claims.claim import Arms, Figure, Finding
from fullrank.experiments.claims.jha2024_conditions import (
    MODERATE,
    MOMENTA,
    PENALTIES,
    SWEEP,
    TAUS,
    penalty_name,
    tau_name,
)
from fullrank.experiments.claims.readings import last_centre, missing, points, probe, series_of
from fullrank.experiments.claims.statistics import (
    by_seed,
    decide,
    interval,
    spearman,
    together,
)


def momentum(runs: Arms) -> Finding:
    """Judge whether a slower target shortens BYOL's centre."""
    if gone := missing(runs, tuple(MOMENTA)):
        return gone
    pairs = [(tau, run) for tau in TAUS for run in runs[tau_name(tau)]]
    order = spearman(
        [tau for tau, _ in pairs],
        [last_centre(run) for _, run in pairs],
        name="rank correlation of momentum and ||s||",
        groups=[tau for tau, _ in pairs],
    )
    lengths = {tau: interval(by_seed(runs[tau_name(tau)], last_centre)) for tau in TAUS}
    accuracy = {
        tau: interval(by_seed(runs[tau_name(tau)], probe), f"linear probe, {tau_name(tau)}", "%")
        for tau in TAUS
    }
    listed = "; ".join(
        f"{tau:g}: {lengths[tau].value:.2f}, {accuracy[tau].value:.1f} %" for tau in TAUS
    )
    names = [f"{tau:g}" for tau in TAUS]
    return Finding(
        decide(order, below=0.0),
        f"||s|| of the embedding and linear probe by momentum: {listed}.",
        (order, *(accuracy[tau] for tau in TAUS)),
        (
            Figure(
                "BYOL's centre over the momentum of its target.",
                "momentum of the target",
                "||s|| of the embedding at the end",
                [series_of("||s||", names, list(lengths.values()))],
            ),
        ),
    )


def sweep(runs: Arms) -> Finding:
    """Judge whether a moderate penalty is better than none and than a large one."""
    if gone := missing(runs, tuple(SWEEP)):
        return gone
    ends = [points(runs, penalty_name(MODERATE), penalty_name(end)) for end in (0.0, PENALTIES[-1])]
    accuracy = [interval(by_seed(runs[penalty_name(p)], probe)) for p in PENALTIES]
    lengths = [interval(by_seed(runs[penalty_name(p)], last_centre)) for p in PENALTIES]
    listed = "; ".join(
        f"{p:g}: {a.value:.1f} %, ||s|| {s.value:.2f}"
        for p, a, s in zip(PENALTIES, accuracy, lengths, strict=True)
    )
    names = [f"{p:g}" for p in PENALTIES]
    return Finding(
        together(*(decide(end) for end in ends)),
        f"Linear probe and ||s|| by λ: {listed}.",
        tuple(ends),
        (
            Figure(
                "Accuracy over the weight of the centre penalty.",
                "λ",
                "linear probe of the backbone, percent",
                [series_of("linear probe", names, accuracy)],
            ),
            Figure(
                "The centre over the weight of its penalty.",
                "λ",
                "||s|| of the embedding at the end",
                [series_of("||s||", names, lengths)],
            ),
        ),
    )
