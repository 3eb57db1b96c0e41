"""The centre of the embedding: what holds it short in every method, and what it does not see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fullrank.experiments.claims.claim import (
    Arms,
    Claim,
    Figure,
    Finding,
    Number,
    Paper,
    ScaleName,
    Series,
    Trained,
    Verdict,
)
from fullrank.experiments.claims.conditions import arms, joined
from fullrank.experiments.claims.jha2024_conditions import (
    COMPARED,
    EXPECTED_COMPLETE,
    METHODS,
    MOMENTA,
    PUBLISHED,
    SMALL_CENTRE,
    SWEEP,
    ablations,
    as_published,
    sweeps,
)
from fullrank.experiments.claims.jha2024_limits import (
    LONG,
    WEAK,
    among_healthy,
    complete,
    not_enough,
)
from fullrank.experiments.claims.jha2024_sweeps import momentum, sweep
from fullrank.experiments.claims.readings import (
    Layer,
    centre,
    checkups,
    in_words,
    kinds,
    last_centre,
    missing,
    per_sample,
)
from fullrank.experiments.claims.statistics import (
    all_seeds,
    by_seed,
    decide,
    interval,
    paired,
    together,
)

LAYERS: tuple[Layer, ...] = ("backbone", "embedding")
# A batch norm without affine parameters at the end centres SimSiam's embedding by construction.
CENTRED = {("simsiam", "embedding")}

Read = Callable[[Mapping[str, Any]], float]


def track(run: Trained, layer: Layer, read: Read) -> dict[int, float]:
    """Return a number of every check-up by its step."""
    return {int(line["step"]): read(line["layers"][layer]) for line in checkups(run)}


def changes(runs: Sequence[Trained], layer: Layer, read: Read, name: str) -> Number:
    """Return the change from the random-init network to the end, by seed."""
    tracks = {run.seed: track(run, layer, read) for run in runs}
    first = {seed: values[min(values)] for seed, values in tracks.items()}
    last = {seed: values[max(values)] for seed, values in tracks.items()}
    return paired(last, first, name)


def _trend(read: Read, sign: int, label: str) -> Callable[[Arms], Finding]:
    """Return a judge that wants a number to fall (-1) or to rise (1) in every method and layer."""

    def judge(runs: Arms) -> Finding:
        if gone := missing(runs, METHODS):
            return gone
        found = {
            (method, layer): changes(
                runs[method], layer, read, f"change of {label}, {method}, {layer}"
            )
            for method in METHODS
            for layer in LAYERS
            if (method, layer) not in CENTRED
        }
        verdicts = {
            key: decide(number, above=0.0) if sign > 0 else decide(number, below=0.0)
            for key, number in found.items()
        }
        held = [" ".join(key) for key, v in verdicts.items() if v == "held"]
        against = [" ".join(key) for key, v in verdicts.items() if v == "did not hold"]
        series = [
            Series(
                f"{method}, {layer}",
                *_mean_track([track(run, layer, read) for run in runs[method]]),
            )
            for method, layer in found
        ]
        way = "rises" if sign > 0 else "falls"
        text = f"{label} {way} in {len(held)} of {len(found)} methods and layers"
        text += f" ({', '.join(held)})" if held else ""
        text += f"; the other way in: {', '.join(against)}." if against else "; in none the other."
        return Finding(
            together(*verdicts.values()),
            text,
            tuple(found.values()),
            (Figure(f"{label} in training.", "step", label, series),),
        )

    return judge


def _mean_track(tracks: Sequence[Mapping[int, float]]) -> tuple[list[float], list[float]]:
    """Return the steps that all runs have, and the mean over runs at each."""
    steps = sorted(set.intersection(*(set(values) for values in tracks)))
    return [float(s) for s in steps], [
        sum(values[step] for values in tracks) / len(tracks) for step in steps
    ]


def _without(runs: Arms) -> Finding:
    if gone := missing(runs, tuple(EXPECTED_COMPLETE)):
        return gone
    verdicts: list[Verdict] = []
    numbers, words = [], []
    for name, collapses in EXPECTED_COMPLETE.items():
        lengths = by_seed(runs[name], last_centre)
        number = interval(lengths, f"||s|| of the embedding, {name}")
        verdicts.append(
            all_seeds(lengths, (lambda s: s > LONG) if collapses else (lambda s: s <= LONG))
        )
        numbers.append(number)
        words.append(f"{name} {number.value:.3f} ({in_words(kinds(runs[name]))})")
    return Finding(together(*verdicts), f"||s|| at the end: {'; '.join(words)}.", tuple(numbers))


PROTOCOL = {
    "cpu": "Fashion-MNIST, conv4 of width 8; {cpu}. Vital signs of 1,000 held-out images in eval "
    "mode, two views each.",
    "paper": "ImageNet-100, ResNet-18, each recipe's own optimiser, 200 epochs.",
}


def _protocol(cpu: str) -> dict[ScaleName, str]:
    return {"cpu": PROTOCOL["cpu"].format(cpu=cpu), "paper": PROTOCOL["paper"]}


METHODS_PROTOCOL = _protocol(
    "each method as published, 120 steps of 128 images (BYOL, SimSiam) or 150 of the recipe's "
    "batch, with 16 check-ups"
)
COMPARED_PROTOCOL = "240 steps of 128 images, probes on 5,000 labelled images"
EVERYWHERE = (
    "in every method, of the backbone and of the embedding (but SimSiam's, whose batch norm "
    "centres it by construction)"
)
EVERY_RUN = joined(as_published, ablations, sweeps)


PAPER = Paper(
    name="jha2024",
    title="The Common Stability Mechanism behind most Self-Supervised Learning Approaches",
    citation="Jha, Blaschko, Asano and Tuytelaars 2024, arXiv:2402.14957",
    about="Embeddings have length 1; s is their mean over images and views, the centre. All "
    "methods are said to avoid collapse by one mechanism: they keep ||s|| short while images stay "
    "where their views agree. ||s||² is 1 minus the spread of the vital signs; an image's length "
    "over its augmentations is read from the alignment.",
    claims=(
        Claim(
            "jha2024/centre-falls",
            "In SimCLR, BYOL, SwAV, SimSiam, Barlow Twins and DINO the magnitude of the centre "
            "falls in training.",
            "the centre vector of each method over training",
            METHODS_PROTOCOL,
            f"||s|| at the end is below that of the random-init network (batch norm calibrated) "
            f"{EVERYWHERE}: 95 % intervals of the change by seed below 0.",
            _trend(centre, -1, "||s||"),
            arms=as_published,
            care="Neither Barlow Twins nor DINO keeps the centre of its raw embedding short by "
            "itself: the one takes the mean out before it compares, the other centres its teacher "
            "alone. Eleven intervals of three seeds are looked at, and any one decides.",
        ),
        Claim(
            "jha2024/per-sample-rises",
            "In the same methods the magnitude of an image's mean over its augmentations rises in "
            "training.",
            "the expected representation of images over their augmentations",
            METHODS_PROTOCOL,
            "The root mean square length over images at the end is above that of the random-init "
            f"network {EVERYWHERE}: 95 % intervals of the change by seed above 0.",
            _trend(per_sample, 1, "length of an image's mean"),
            arms=as_published,
        ),
        Claim(
            "jha2024/ablations",
            "What keeps the centre short can be told apart: without its predictor SimSiam's "
            "centre grows to collapse; Barlow Twins without its off-diagonal term and SwAV with "
            "fixed prototypes keep theirs short.",
            "the hypotheses tested on SimSiam, Barlow Twins and SwAV",
            _protocol(
                "SimSiam without predictor and without output batch norm for 120 steps of 128 "
                "images, Barlow Twins without off-diagonal term and SwAV with fixed prototypes for "
                "150 of the recipe's batch"
            ),
            f"||s|| of the embedding ends above {LONG:g} in every seed of SimSiam without "
            "predictor, and at most there in every seed of the other two; the other way in every "
            "seed of one, and the claim does not hold.",
            _without,
            arms=ablations,
        ),
        Claim(
            "jha2024/momentum",
            "BYOL's momentum modulates the centre: the slower the target, the shorter ||s||.",
            "BYOL over momentum values",
            _protocol(f"BYOL with a constant momentum of 0 to 0.999, {COMPARED_PROTOCOL}"),
            "The rank correlation of momentum and ||s|| of the embedding over all runs is below 0, "
            "with its whole 95 % interval.",
            momentum,
            arms=arms(MOMENTA, COMPARED, PUBLISHED),
            needs_labels=True,
        ),
        Claim(
            "jha2024/penalty",
            "The simple objective, alignment plus λ times the centre's squared length, works for "
            "moderate λ: accuracy falls towards both ends.",
            "L_Simple; a sweep over λ is what its reviewers asked for",
            _protocol(f"alignment with a centre penalty of 0 to 32, {COMPARED_PROTOCOL}"),
            "On the linear probe λ = 1 is above λ = 0 and above λ = 32, 95 % intervals of the "
            "differences by seed above 0.",
            sweep,
            arms=arms(SWEEP, COMPARED, PUBLISHED),
            seeds=5,
            needs_labels=True,
        ),
        Claim(
            "jha2024/not-enough",
            "A short centre does not explain all: it leaves the spectrum free, and dimensional "
            "collapse with it.",
            "against the paper's account; Zhuo et al. 2023 on SymSimSiam, and theory/centre.py",
            _protocol(f"SymSimSiam, the centre penalty at λ = 1, and SimCLR, {COMPARED_PROTOCOL}"),
            "In theory antipodal points and a great circle keep a participation ratio below 2.5 of "
            "6 and a centre below 0.1 under the penalty, where negatives give above 4. In runs of "
            "SymSimSiam and the centre penalty ||s|| is below 0.1, the embedding's effective rank "
            "below SimCLR's by seed (95 % intervals), and most verdicts are dimensional collapse.",
            not_enough,
            arms=arms(SMALL_CENTRE, COMPARED, PUBLISHED),
            seeds=5,
            own=False,
        ),
        Claim(
            "jha2024/complete",
            f"Over these runs a centre longer than {LONG:g} is complete collapse, and nothing else "
            "is.",
            "the paper's account of collapse, made a test",
            _protocol("all runs of the other claims"),
            "Over all runs the AUROC of ||s|| for the verdict complete collapse is above 0.95 with "
            f"its whole 95 % interval, and at least 95 % of the runs are on the right side of "
            f"{LONG:g} (below 80 %: does not hold).",
            complete,
            arms=EVERY_RUN,
            needs_labels=True,
            own=False,
            care="A check of consistency more than evidence: the verdict goes by the spread, which "
            "is 1 - ||s||², compared with the random-init network's. Elsewhere (tian2021) a few "
            "runs with a centre just above 0.9 are healthy.",
        ),
        Claim(
            "jha2024/among-healthy",
            "Among runs that did not collapse completely, the length of the centre says little "
            "about accuracy.",
            "against reading ||s|| as a measure of quality; the paper compares accuracies",
            _protocol("all runs of the other claims"),
            f"The 95 % interval of the rank correlation of ||s|| with the linear probe's gain over "
            f"the random-init network lies within ±{WEAK:g}; wholly outside, and the claim does "
            "not hold.",
            among_healthy,
            arms=EVERY_RUN,
            needs_labels=True,
            own=False,
        ),
    ),
)
