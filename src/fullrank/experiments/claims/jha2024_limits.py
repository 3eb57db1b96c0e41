"""What the length of the centre tells of a run, and what it leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from scipy.stats import rankdata

from fullrank.experiments.claims.claim import (
    Arms,
    Figure,
    Finding,
    Number,
    Series,
    Trained,
    Verdict,
)
from fullrank.experiments.claims.jha2024_conditions import FIRST_MOMENT, SPREAD
from fullrank.experiments.claims.readings import (
    COMPLETE,
    DIMENSIONAL,
    gain,
    in_words,
    kinds,
    last_centre,
    missing,
    verdict,
    vital,
)
from fullrank.experiments.claims.statistics import (
    by_seed,
    decide,
    interval,
    most,
    paired,
    spearman,
    together,
)
from fullrank.theory.centre import Demonstration, first_moment_is_not_enough

LONG = 0.9
"""Length of the centre from which on a run counts as collapsed to one point."""
SHORT = 0.1
WEAK = 0.5
"""Rank correlation below which a prediction is weak."""


@cache
def _demonstration() -> Demonstration:
    return first_moment_is_not_enough()


def not_enough(runs: Arms) -> Finding:
    """Judge whether a small centre goes with dimensional collapse, in theory and in runs."""
    shown = _demonstration()
    stay = [at for at, name in enumerate(shown.names) if name != "point"]
    after, spread = shown.rank["centre"][stay], shown.rank["contrast"][stay]
    centres = shown.centre["centre"][stay]
    low = float(centres.max()) < SHORT and float(after.max()) < 2.5 and float(spread.min()) > 4
    theory: Verdict = "held" if low else "did not hold"
    words = (
        "In theory two antipodal points and a great circle keep participation ratios of "
        f"{', '.join(f'{v:.1f}' for v in after.tolist())} of 6 under the penalty, at a centre of "
        f"at most {float(centres.max()):.0e}; negatives raise them to "
        f"{', '.join(f'{v:.1f}' for v in spread.tolist())}."
    )
    if gone := missing(runs, (*FIRST_MOMENT, SPREAD)):
        return Finding(together(theory, "inconclusive"), f"{words} {gone.text}", ())
    verdicts: list[Verdict] = [theory]
    numbers: list[Number] = []
    for name in FIRST_MOMENT:
        length = interval(by_seed(runs[name], last_centre), f"||s||, {name}")
        gap = paired(
            by_seed(runs[SPREAD], _log_rank),
            by_seed(runs[name], _log_rank),
            f"log2 of the effective rank, {SPREAD} minus {name}",
        )
        kind = most([verdict(run) for run in runs[name]], [DIMENSIONAL])
        verdicts += [decide(length, below=SHORT), decide(gap), kind]
        numbers += [length, gap]
        words += (
            f" {name}: ||s|| {length.value:.3f}, {2**gap.value:.1f} times less rank than "
            f"{SPREAD}, {in_words(kinds(runs[name]))}."
        )
    return Finding(together(*verdicts), words, tuple(numbers), (_spectra(runs),))


def _log_rank(run: Trained) -> float:
    return float(np.log2(vital(run, "effective_rank")))


def _spectra(runs: Arms) -> Figure:
    series = []
    for name in (*FIRST_MOMENT, SPREAD):
        spectra = np.array([run.shown["embedding"]["spectrum"] for run in runs[name]])
        mean = (spectra / spectra[:, :1]).mean(0).clip(min=1e-8)
        series.append(Series(name, [float(k + 1) for k in range(len(mean))], mean.tolist()))
    return Figure(
        "With the centre at the origin, the spectrum may still be empty.",
        "index of the singular value of the embedding",
        "singular value over the largest",
        series,
        log_y=True,
    )


def area(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Return the AUROC: how often one of the first is above one of the second, ties half."""
    ranks = rankdata([*positive, *negative])[: len(positive)]
    n, m = len(positive), len(negative)
    return float((ranks.sum() - n * (n + 1) / 2) / (n * m))


def area_interval(
    positive: Sequence[float], negative: Sequence[float], name: str, seed: int = 0
) -> Number:
    """Return the AUROC with a 95 % bootstrap interval, both groups resampled on their own."""
    random = np.random.default_rng(seed)
    draws = [
        area(
            random.choice(np.asarray(positive), len(positive)).tolist(),
            random.choice(np.asarray(negative), len(negative)).tolist(),
        )
        for _ in range(1000)
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    n = len(positive) + len(negative)
    return Number(name, area(positive, negative), float(low), float(high), n=n)


def _every_run(arms: Arms) -> list[Trained]:
    """Return every run once, however many conditions it stands for."""
    return list({run.hash: run for runs in arms.values() for run in runs}.values())


def complete(arms: Arms) -> Finding:
    """Judge whether a long centre tells complete collapse."""
    runs = _every_run(arms)
    collapsed = [last_centre(run) for run in runs if verdict(run) == COMPLETE]
    others = [last_centre(run) for run in runs if verdict(run) != COMPLETE]
    if not collapsed or not others:
        return Finding(
            "inconclusive",
            f"{len(collapsed)} of {len(runs)} runs collapsed completely: there is nothing to tell "
            "apart.",
        )
    found = area_interval(collapsed, others, "AUROC of ||s|| for complete collapse")
    right = sum(s > LONG for s in collapsed) + sum(s <= LONG for s in others)
    share = Number(f"runs on the right side of ||s|| = {LONG:g}", right / len(runs))
    told = decide(found, above=0.95)
    fixed: Verdict = (
        "held" if share.value >= 0.95 else "did not hold" if share.value < 0.8 else "inconclusive"
    )
    wrong = sorted(
        {
            f"{name} ({verdict(run)} at {last_centre(run):.2f})"
            for name, own in arms.items()
            for run in own
            if (last_centre(run) > LONG) != (verdict(run) == COMPLETE)
        }
    )
    return Finding(
        together(told, fixed),
        f"Of {len(runs)} runs {len(collapsed)} collapsed completely by the record's verdict, which "
        f"goes by the random-init network's spread; AUROC {found.value:.3f}, and {right} lie on "
        f"the right side of {LONG:g}"
        + (f"; on the wrong one: {', '.join(wrong)}." if wrong else ".")
        + " The verdict itself goes by the spread, 1 - ||s||², so that the two differ only in what "
        "they are compared with.",
        (found, share),
        (_points("Complete collapse and the length of the centre.", arms),),
    )


def among_healthy(arms: Arms) -> Finding:
    """Judge whether the centre says little about accuracy where nothing collapsed completely."""
    runs = [run for run in _every_run(arms) if verdict(run) != COMPLETE]
    condition = {run.hash: name for name, own in arms.items() for run in own}
    if len(runs) < 10:
        return Finding("inconclusive", f"Only {len(runs)} runs did not collapse completely.")
    found = spearman(
        [last_centre(run) for run in runs],
        [gain(run) for run in runs],
        name="rank correlation of ||s|| and the linear probe's gain",
        groups=[condition[run.hash] for run in runs],
    )
    assert found.low is not None
    assert found.high is not None
    strong = found.low > WEAK or found.high < -WEAK
    weak = found.low > -WEAK and found.high < WEAK
    return Finding(
        "did not hold" if strong else "held" if weak else "inconclusive",
        f"Over {len(runs)} runs without complete collapse the rank correlation of ||s|| with the "
        f"linear probe's gain over random init is {found.value:+.2f} ({found.low:+.2f} to "
        f"{found.high:+.2f}).",
        (found,),
        (_points("Accuracy and the length of the centre, without complete collapse.", arms),),
    )


def _points(title: str, arms: Arms) -> Figure:
    groups: Mapping[str, list[Trained]] = {
        kind: [] for kind in sorted({verdict(run) for run in _every_run(arms)})
    }
    for run in _every_run(arms):
        groups[verdict(run)].append(run)
    return Figure(
        title,
        "||s|| of the embedding at the end",
        "linear probe, points above the random-init network",
        [
            Series(
                kind, [last_centre(run) for run in own], [gain(run) for run in own], kind="points"
            )
            for kind, own in groups.items()
        ],
    )
