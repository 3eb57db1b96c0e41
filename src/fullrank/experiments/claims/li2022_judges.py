"""What decides Li, Efros and Pathak's claims: the tail, the probe and the loss of runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, linear_regression

from fullrank.experiments.claims.claim import (
    Arms,
    Figure,
    Finding,
    Number,
    Series,
    Trained,
    Verdict,
)
from fullrank.experiments.claims.li2022_conditions import (
    BASE,
    CHOICES,
    FEWEST,
    GENTLE,
    HYBRIDS,
    MOST,
    SIZES,
)
from fullrank.experiments.claims.readings import (
    gain,
    missing,
    points,
    probe,
    series_of,
    vital,
)
from fullrank.experiments.claims.statistics import (
    by_seed,
    decide,
    interval,
    paired,
    spearman,
    together,
)


def auc(run: Trained) -> float:
    """Return Li et al.'s AUC of the backbone at the end."""
    return vital(run, "cev_auc", "backbone")


def rise(run: Trained) -> float:
    """Return by how much AUC is above that of the random-init network."""
    first = run.of("checkup")[0]
    return auc(run) - float(first["layers"]["backbone"]["cev_auc"])


def factors(run: Trained) -> float:
    """Return the mean R² of the continuous factors, in points."""
    return 100 * float(run.shown["probe"]["factors_r2"])


def known(arms: Arms) -> bool:
    """Say whether the images' factors are known: those of photographs are not."""
    return all("factors_r2" in run.shown["probe"] for found in arms.values() for run in found)


def alive(run: Trained) -> float:
    """Return how many eigenmodes of the embedding are alive: at least 1e-4 of the largest."""
    return float(run.of("modes")[-1]["resolved"])


def final_loss(run: Trained) -> float:
    """Return the mean loss of the last tenth of the recorded steps."""
    losses = [float(line["loss"]) for line in run.of("step")]
    return fmean(losses[-max(1, len(losses) // 10) :])


def difference(arms: Arms, first: str, second: str) -> Number:
    """Return the difference of two conditions in AUC, by seed."""
    pair = (by_seed(arms[first], auc), by_seed(arms[second], auc))
    return paired(*pair, f"AUC, {first} - {second}")


def of_factors(arms: Arms, first: str, second: str) -> tuple[Number, ...]:
    """Return the difference of two conditions in the mean R² of the factors, if they are known."""
    if not known(arms):
        return ()
    pair = (by_seed(arms[first], factors), by_seed(arms[second], factors))
    return (paired(*pair, f"mean R² of the factors, {first} - {second}", "points"),)


def in_factors(numbers: Sequence[Number]) -> str:
    """Say a difference in the mean R² of the factors, if there is one."""
    return f" (mean R² of the factors {numbers[0].value:+.1f} points)" if numbers else ""


def over_init(arms: Arms) -> tuple[Number, ...]:
    """Return by how much each condition's linear probe is above the random-init network's."""
    return tuple(
        interval(by_seed(found, gain), f"linear probe, {name} - random init", "points")
        for name, found in arms.items()
    )


def of_modes(arms: Arms, first: str, second: str) -> Number:
    """Return the difference of two conditions in the number of modes alive, by seed."""
    pair = (by_seed(arms[first], alive), by_seed(arms[second], alive))
    return paired(*pair, f"modes alive in the embedding, {first} - {second}")


def bars(arms: Arms, title: str) -> Figure:
    """Draw AUC of conditions beside the random-init network's."""
    names = list(arms)
    trained = [interval(by_seed(found, auc)) for found in arms.values()]
    untrained = [interval([auc(run) - rise(run) for run in found]) for found in arms.values()]
    return Figure(
        title,
        "condition",
        "AUC of the backbone",
        [series_of("trained", names, trained), series_of("random init", names, untrained)],
    )


def data_size(arms: Arms) -> Finding:
    """Judge: more images, more collapse, a lower probe."""
    if (none := missing(arms, list(SIZES))) is not None:
        return none
    rank = difference(arms, MOST, FEWEST)
    linear = points(arms, MOST, FEWEST)
    r2 = of_factors(arms, MOST, FEWEST)
    return Finding(
        together(decide(rank, above=0.0), decide(linear, below=0.0)),
        f"The most instead of the fewest images, at the same number of steps, change AUC by "
        f"{rank.value:+.3f} and the linear probe by {linear.value:+.1f} points{in_factors(r2)}.",
        (rank, linear, *r2, *over_init(arms)),
        (bars(arms, "More images at the same number of steps leave a shorter tail."),),
    )


def loss_blind(arms: Arms) -> Finding:
    """Judge: with more images the loss ends no higher, whatever becomes of the probe."""
    if (none := missing(arms, list(SIZES))) is not None:
        return none
    ends = (by_seed(arms[MOST], final_loss), by_seed(arms[FEWEST], final_loss))
    higher = paired(*ends, f"final loss, {MOST} - {FEWEST}")
    rank, linear = difference(arms, MOST, FEWEST), points(arms, MOST, FEWEST)
    every = [run for found in arms.values() for run in found]
    pooled = spearman(
        [final_loss(r) for r in every],
        [probe(r) for r in every],
        name="Spearman(loss, probe) over all conditions",
        groups=_conditions(arms),
    )
    drawn = Figure(
        "What the loss says of the probe.",
        "final training loss",
        "linear probe (%)",
        [
            Series(n, [final_loss(r) for r in f], [probe(r) for r in f], kind="points")
            for n, f in arms.items()
        ],
    )
    return Finding(
        decide(higher, below=0.0),
        f"The most instead of the fewest images change the final loss by {higher.value:+.3f}, AUC "
        f"by {rank.value:+.3f} and the linear probe by {linear.value:+.1f} points. Over all "
        f"conditions the rank correlation of loss and probe is {pooled.value:+.2f}.",
        (higher, rank, linear, pooled),
        (drawn,),
    )


def forecast(arms: Arms) -> Finding:
    """Judge: AUC goes with accuracy."""
    every = [run for found in arms.values() for run in found]
    if len(every) < 12:
        return Finding("inconclusive", f"Only {len(every)} of at least 12 runs have finished.")
    x, y = [auc(run) for run in every], [probe(run) for run in every]
    groups = _conditions(arms)
    ranked = spearman(x, y, name="Spearman(AUC, probe)", groups=groups)
    r2: tuple[Number, ...] = ()
    if known(arms):
        name = "Spearman(AUC, mean R² of the factors)"
        r2 = (spearman(x, [factors(run) for run in every], name=name, groups=groups),)
    line, mean = _left_out(x, y, groups)
    fitted = Number("mean absolute error of the line, each condition left out", line, unit="points")
    guess = Number("the same of the mean of the others", mean, unit="points")
    drawn = Figure(
        "AUC and the probe, run by run.",
        "AUC of the backbone",
        "linear probe (%)",
        [
            Series(n, [auc(r) for r in f], [probe(r) for r in f], kind="points")
            for n, f in arms.items()
        ],
    )
    return Finding(
        decide(ranked, below=-0.5),
        f"Over {len(every)} runs AUC and the linear probe have a rank correlation of "
        f"{ranked.value:+.2f}; for a condition left out, a line fitted to the others is {line:.2f} "
        f"points off, their mean {mean:.2f}.",
        (ranked, *r2, fitted, guess),
        (drawn,),
    )


def _conditions(arms: Arms) -> list[str]:
    """Return the condition of every run: seeds of one are no independent witnesses."""
    return [name for name, found in arms.items() for _ in found]


def _left_out(x: Sequence[float], y: Sequence[float], groups: Sequence[str]) -> tuple[float, float]:
    """Return the mean absolute error of a line, and of the mean, fitted to all other groups."""
    line, mean = [], []
    for own, at, value in zip(groups, x, y, strict=True):
        others = [i for i, group in enumerate(groups) if group != own]
        a, b = [x[i] for i in others], [y[i] for i in others]
        slope, start = linear_regression(a, b)
        line.append(abs(start + slope * at - value))
        mean.append(abs(fmean(b) - value))
    return fmean(line), fmean(mean)


def more_collapse(first: str, second: str, what: str) -> Callable[[Arms], Finding]:
    """Return the judge of: the first condition has a higher AUC than the second."""

    def judge(arms: Arms) -> Finding:
        if (none := missing(arms, [first, second])) is not None:
            return none
        rank = difference(arms, first, second)
        pair = (by_seed(arms[first], rise), by_seed(arms[second], rise))
        above = paired(*pair, f"rise of AUC over random init, {first} - {second}")
        return Finding(
            decide(rank, above=0.0),
            f"AUC of {first} - {second} is {rank.value:+.3f}; counted from the random-init "
            f"networks, {above.value:+.3f}.",
            (rank, above, points(arms, first, second), *over_init(arms)),
            (bars(arms, what),),
        )

    return judge


def choices(arms: Arms) -> Finding:
    """Judge: what stands behind the backbone changes AUC."""
    (base,) = BASE
    if (none := missing(arms, [base, *CHOICES])) is not None:
        return none
    numbers = [difference(arms, name, base) for name in CHOICES]
    if any(n.low is None for n in numbers):
        return Finding("inconclusive", "One seed decides nothing.", numbers)
    apart = [n for n in numbers if n.low is not None and n.high is not None and n.low * n.high > 0]
    verdict: Verdict = "inconclusive" if apart else "did not hold"
    if len(apart) == len(numbers):
        verdict = "held"
    return Finding(
        verdict,
        "Against the base: "
        + "; ".join(f"{name} {n.value:+.3f}" for name, n in zip(CHOICES, numbers, strict=True))
        + f" in AUC. Intervals of {len(apart)} of {len(numbers)} are off zero.",
        numbers,
        (bars(arms, "The backbone's tail, by what is chosen behind it."),),
    )


def single_pass(arms: Arms) -> Finding:
    """Judge: a single pass collapses less and probes better than IID training."""
    if (none := missing(arms, ["iid", "single pass"])) is not None:
        return none
    rank, linear = difference(arms, "single pass", "iid"), points(arms, "single pass", "iid")
    return Finding(
        together(decide(rank, below=0.0), decide(linear, above=0.0)),
        f"A single pass changes AUC by {rank.value:+.3f} and the linear probe by "
        f"{linear.value:+.1f} points.",
        (
            rank,
            linear,
            *of_factors(arms, "single pass", "iid"),
            of_modes(arms, "single pass", "iid"),
            *over_init(arms),
        ),
        (bars(arms, "The order of the images decides how short the tail becomes."),),
    )


def cumulative(arms: Arms) -> Finding:
    """Judge: the cumulative order collapses less than IID training."""
    if (none := missing(arms, ["iid", "cumulative"])) is not None:
        return none
    rank = difference(arms, "cumulative", "iid")
    linear = points(arms, "cumulative", "iid")
    return Finding(
        decide(rank, below=0.0),
        f"Adding a chunk at a time changes AUC by {rank.value:+.3f} and the linear probe by "
        f"{linear.value:+.1f} points.",
        (rank, linear, *of_factors(arms, "cumulative", "iid"), *over_init(arms)),
    )


def hybrid(arms: Arms) -> Finding:
    """Judge: the hybrid probes better than IID training."""
    iid, mixed = HYBRIDS
    if (none := missing(arms, [iid, mixed])) is not None:
        return none
    linear = points(arms, mixed, iid)
    rank, r2 = difference(arms, mixed, iid), of_factors(arms, mixed, iid)
    return Finding(
        decide(linear, above=0.0),
        f"The hybrid is {linear.value:+.1f} points from IID training by the linear probe and "
        f"{rank.value:+.3f} in AUC{in_factors(r2)}. The paper reports up to 18 points on ImageNet.",
        (linear, rank, *r2, of_modes(arms, mixed, iid), *over_init(arms)),
        (bars(arms, "A single pass first keeps the tail that all images at once would cost."),),
    )


def weight_decay(arms: Arms) -> Finding:
    """Judge: less weight decay, or less noise between views, leaves a longer tail."""
    (base,) = BASE
    if (none := missing(arms, [base, *GENTLE])) is not None:
        return none
    numbers = [difference(arms, base, name) for name in GENTLE]
    modes = [of_modes(arms, base, name) for name in GENTLE]
    return Finding(
        together(*(decide(n, above=0.0) for n in numbers)),
        f"AUC is {numbers[0].value:+.3f} higher with four times the weight decay and "
        f"{numbers[1].value:+.3f} with noise between views; {-modes[0].value:.0f} and "
        f"{-modes[1].value:.0f} fewer modes of the embedding are alive (at least 1e-4 of the "
        "largest variance).",
        (*numbers, *modes),
        (bars(arms, "The tail goes with weight decay and with noise between views."),),
    )
