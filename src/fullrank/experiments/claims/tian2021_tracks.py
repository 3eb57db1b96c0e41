"""Tian et al. 2021: linear networks that SGD trains follow the predicted tracks."""

from __future__ import annotations

from fullrank.experiments.claims.claim import Arms, Claim, Figure, Finding, Number, Series
from fullrank.experiments.claims.linear_networks import Trial, predicted, trained
from fullrank.experiments.claims.tian2021_networks_flow import no_runs

SEEDS = (0, 1, 2)
# Steps of a finite size fall behind the flow by a share that grows with time, where modes die fast.
TRIALS = (
    Trial("stop-gradient", 0.02, 1.0, 12.0),
    Trial("stop-gradient", 0.0, 2.0, 8.0),
    Trial("momentum", 0.02, 1.0, 8.0),
    Trial("no stop-gradient", 0.02, 1.0, 4.0),
    Trial("no predictor", 0.02, 1.0, 8.0),
)


def _tracks(none: Arms) -> Finding:
    worst: dict[str, float] = {}
    series: list[Series] = []
    moved = 0.0
    for trial in TRIALS:
        name = f"{trial.form}, η = {trial.weight_decay:g}, α_p = {trial.predictor_rate:g}"
        for seed in SEEDS:
            times, expected = predicted(trial, seed)
            found = trained(trial, seed)
            worst[name] = max(worst.get(name, 0.0), float((found / expected - 1).abs().max()))
            moved = max(moved, float((expected[-1] / expected[0]).log().abs().max()))
            if trial is TRIALS[0] and seed == 0:
                for j in (0, 3, 7):
                    track = (times.tolist(), expected[:, j].tolist())
                    series.append(Series(f"mode {8 - j}, predicted", *track))
                    track = (times.tolist(), found[:, j].tolist())
                    series.append(Series(f"mode {8 - j}, trained", *track, kind="points"))
    error = 100 * max(worst.values())
    return Finding(
        "held" if error <= 5 else "did not hold",
        f"Over {len(TRIALS)} forms and {len(SEEDS)} seeds every eigenvalue of F stays within "
        f"{error:.1f} % of its predicted track.",
        (
            Number("largest departure from the predicted eigenvalues", error, unit="%"),
            *(Number(name, 100 * value, unit="%") for name, value in worst.items()),
            Number("largest |ln| of an eigenvalue's change (the comparison is not idle)", moved),
        ),
        (
            Figure(
                "Eigenvalues of linear networks under SGD, and as predicted.",
                "time (learning rate x steps)",
                "eigenvalue of F",
                series,
                log_y=True,
            ),
        ),
    )


TRACKS = Claim(
    name="tian2021/tracks",
    statement="Linear networks trained by SGD follow the predicted tracks of their eigenvalues.",
    source="Lemma 1",
    protocol=no_runs(
        "Linear networks (20 inputs, 8 outputs, a predictor that is not symmetric) on noisy normal "
        "vectors (σ = 0.4), batches of 256, learning rate 0.01; five forms (stop-gradient with and "
        "without decay, momentum target, no stop-gradient, no predictor), three seeds; beside the "
        "matrix flow from the same start, at nine times."
    ),
    criterion="Every eigenvalue of F = WWᵀ is within 5 % of the predicted one at all nine times, "
    "in every "
    "form and seed.",
    judge=_tracks,
)
