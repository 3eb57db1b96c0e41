"""Tian et al. 2021: symmetric predictors, with and without a momentum target, and their rescue."""

from __future__ import annotations

from fullrank.experiments.claims.claim import Arms, Claim, Finding, Number
from fullrank.experiments.claims.conditions import arms
from fullrank.experiments.claims.readings import HEALTHY, kinds, missing, vital
from fullrank.experiments.claims.statistics import by_seed, decide, interval, paired, together
from fullrank.experiments.claims.tian2021_networks import (
    BOTH,
    CONDITIONS,
    FREE,
    TIED,
    TIED_MOMENTUM,
)
from fullrank.experiments.claims.tian2021_probes import above, knn, probe_figure
from fullrank.experiments.claims.tian2021_settings import (
    ON_SMALL,
    ON_STL,
    PUBLISHED,
    SMALL,
    network,
)
from fullrank.models.settings.predictor import SymmetricLinearPredictor


def _symmetric(found: Arms) -> Finding:
    names = (BOTH, TIED_MOMENTUM, FREE, TIED)
    if (gone := missing(found, names)) is not None:
        return gone
    values = {name: knn(found[name]) for name in names}
    alone = paired(values[TIED], values[FREE], "symmetric - free predictor, no momentum", "points")
    beside = paired(
        values[TIED_MOMENTUM], values[BOTH], "symmetric - free predictor, momentum", "points"
    )
    seeds = set.intersection(*(set(v) for v in values.values()))
    both = paired(
        {s: values[TIED][s] - values[FREE][s] for s in seeds},
        {s: values[TIED_MOMENTUM][s] - values[BOTH][s] for s in seeds},
        "difference of these differences",
        "points",
    )
    ranks = {n: interval(by_seed(found[n], lambda r: vital(r, "effective_rank"))) for n in names}
    random = interval(by_seed(found[TIED], lambda run: 100 * run.shown["random"]["knn"]))
    said = "; ".join(
        f"{name}: kNN {interval(values[name]).value:.1f} %, rank {ranks[name].value:.1f}"
        for name in names
    )
    return Finding(
        together(decide(alone, below=0.0), decide(both, below=0.0)),
        f"{said}; the random-init network: kNN {random.value:.1f} %.",
        [
            alone,
            both,
            beside,
            *(Number(f"effective rank, {n}", r.value, r.low, r.high, n=r.n)
              for n, r in ranks.items()),
        ],
        [probe_figure("Symmetric and free predictors, with and without momentum.", found, names)],
    )  # fmt: skip


SYMMETRIC = Claim(
    name="tian2021/symmetric-momentum",
    statement="A symmetric linear predictor fails without a momentum target; with one, or without "
    "the "
    "symmetry, it works.",
    source="Table of symmetric and regular predictors; Hoeppe et al. 2022 (replication)",
    protocol={
        "cpu": f"{ON_SMALL}, 400 steps at a peak rate of 0.1, weight decay 4e-4 on all weights: a "
        "symmetric and "
        "a free linear predictor, each with a momentum target and with a stop-gradient alone.",
        "paper": f"{ON_STL}, 100 epochs; the same four conditions.",
    },
    criterion="In the kNN probe, paired by seed: without momentum the symmetric predictor is "
    "below the free "
    "one, and further below it than with momentum; both 95 % intervals exclude 0.",
    judge=_symmetric,
    arms=arms({n: CONDITIONS[n] for n in (BOTH, TIED_MOMENTUM, FREE, TIED)}, SMALL, PUBLISHED),
    seeds=5,
    needs_labels=True,
)


RESCUED = "symmetric, no momentum, ten times the rate, decay on the predictor"
_HOT = {"predictor_lr": 10.0}
PLACEMENTS = {
    RESCUED: network(
        SymmetricLinearPredictor(),
        "stop-gradient",
        **_HOT,
        weight_decay=0.0,
        predictor_weight_decay=4e-4,
    ),
    "decay on the encoder": network(
        SymmetricLinearPredictor(), "stop-gradient", **_HOT, predictor_weight_decay=0.0
    ),
    "decay on both": network(SymmetricLinearPredictor(), "stop-gradient", **_HOT),
    "no decay": network(SymmetricLinearPredictor(), "stop-gradient", **_HOT, weight_decay=0.0),
}

RESCUE = Claim(
    name="tian2021/rescue",
    statement="A predictor that learns ten times as fast and alone decays rescues the symmetric "
    "predictor "
    "without momentum.",
    source="Symmetric predictors without momentum; Hoeppe et al. 2022 (replication)",
    protocol={
        "cpu": f"{ON_SMALL}, 400 steps: the symmetric predictor with a stop-gradient alone, as it "
        "is and with "
        "ten times the predictor's learning rate and weight decay 4e-4 on the predictor only.",
        "paper": f"{ON_STL}, 100 epochs; the same two conditions.",
    },
    criterion="In the kNN probe, paired by seed, the rescued network is above the other; the 95 % "
    "interval "
    "excludes 0.",
    judge=above(RESCUED, TIED, "The symmetric network, and with a fast, decaying predictor."),
    arms=arms({RESCUED: PLACEMENTS[RESCUED], TIED: CONDITIONS[TIED]}, SMALL, PUBLISHED),
    seeds=5,
    needs_labels=True,
)


def _placement(found: Arms) -> Finding:
    names = tuple(PLACEMENTS)
    if (gone := missing(found, names)) is not None:
        return gone
    values = {name: knn(found[name]) for name in names}
    first = values[RESCUED]
    numbers = [
        paired(first, values[name], f"decay on the predictor - {name}, kNN probe", "points")
        for name in ("no decay", "decay on both", "decay on the encoder")
    ]
    said = "; ".join(f"{n}: kNN {interval(values[n]).value:.1f} %" for n in names)
    healthy = sum(kinds(found[name]).get(HEALTHY, 0) for name in names)
    return Finding(
        decide(numbers[0]),
        f"{said}. {healthy} of {sum(len(found[n]) for n in names)} embeddings are healthy.",
        numbers,
        [probe_figure("Where weight decay acts.", found, names)],
    )


PLACEMENT = Claim(
    name="tian2021/decay-placement",
    statement="What rescues it is weight decay on the predictor: without any decay the network "
    "probes lower.",
    source="Hoeppe et al. 2022 (replication of the symmetric predictor without momentum)",
    protocol={
        "cpu": f"{ON_SMALL}, 400 steps, a symmetric predictor with a stop-gradient alone at ten "
        "times the "
        "encoder's learning rate; weight decay 4e-4 on the predictor, the encoder, both, or "
        "neither.",
        "paper": f"{ON_STL}, 100 epochs; the same four conditions.",
    },
    criterion="In the kNN probe, paired by seed, decay on the predictor is above no decay at all; "
    "the 95 % "
    "interval excludes 0.",
    judge=_placement,
    arms=arms(PLACEMENTS, SMALL, PUBLISHED),
    seeds=5,
    needs_labels=True,
    own=False,
)
