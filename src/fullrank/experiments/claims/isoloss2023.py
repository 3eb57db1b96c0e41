"""IsoLoss: all eigenmodes learn at one rate, and variance is regularised without a term for it."""

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
    Paper,
    ScaleName,
    Series,
)
from fullrank.experiments.claims.conditions import (
    CIFAR_10,
    FASHION,
    PAPER_RESNET18,
    PROBED,
    Condition,
    Setting,
    arms,
)
from fullrank.experiments.claims.readings import (
    HEALTHY,
    in_words,
    kinds,
    missing,
    points,
    verdict,
    vital,
)
from fullrank.experiments.claims.statistics import by_seed, decide, most, paired, together
from fullrank.models.settings.target import Momentum
from fullrank.models.settings.views import Crops
from fullrank.theory.flow import integrate
from fullrank.theory.isoloss import cosine_rates, euclidean_rates

F64 = torch.float64
NOISE, SHARE = 0.3, 0.9
STARTS = torch.logspace(-3, -1, 9, dtype=F64)


# Decades of time after which every mode has arrived.
LATEST = {"predictor": 3.2, "isotropic": 1.5}


def arrival_times(form: str, exponent: float) -> Float[Tensor, " m"]:
    """Return when each mode's predictor, from ``STARTS``, reaches 0.9 of its fixed point.

    Read off the simulated flow of the Euclidean loss, between two of its times by a straight line.
    """
    w = STARTS ** (0.5 / exponent)
    times = torch.cat(
        [torch.zeros(1, dtype=F64), torch.logspace(-1.5, LATEST[form], 300, dtype=F64)]
    )
    rates = euclidean_rates(torch.full_like(w, NOISE), exponent=exponent, form=form)
    p = integrate(rates, (w,), times, rtol=1e-5).states[0].abs() ** (2 * exponent)
    goal = SHARE / (1 + NOISE)
    after = (p < goal).sum(dim=0)
    before = after - 1
    modes = torch.arange(len(w))
    low, high = p[before, modes], p[after, modes]
    return times[before] + (goal - low) / (high - low) * (times[after] - times[before])


def rate_ratio(form: str) -> float:
    """Return the largest over the smallest rate of the modes below their balance, by the cosine.

    One large mode stands for the embedding's main direction; the others start as ``STARTS``.
    """
    p = torch.cat([torch.ones(1, dtype=F64), STARTS])
    w = p.sqrt()[None]
    rate = (cosine_rates(NOISE, form=form)(0.0, (w,))[0] / w)[0, 1:]
    return float(rate.max() / rate.min())


def _equal_convergence(none: Arms) -> Finding:
    ratios, series = {}, []
    for form in ("predictor", "isotropic"):
        found = [arrival_times(form, exponent) for exponent in (0.5, 1.0)]
        ratios[form] = [float(t.max() / t.min()) for t in found]
        name = "DirectPred" if form == "predictor" else "IsoLoss"
        series.append(Series(name, STARTS.tolist(), found[0].tolist()))
    cosine = {form: rate_ratio(form) for form in ratios}
    uneven = min(*ratios["predictor"], cosine["predictor"])
    even = max(*ratios["isotropic"], cosine["isotropic"])
    return Finding(
        "held" if uneven >= 10 and even <= 3 else "did not hold",
        f"From starts that differ a hundredfold, DirectPred's slowest mode takes "
        f"{min(ratios['predictor']):.0f} times as long as its fastest, IsoLoss's "
        f"{max(ratios['isotropic']):.1f} times. Under the cosine the rates of small modes differ "
        f"by a factor of {cosine['predictor']:.0f} and {cosine['isotropic']:.2f}.",
        (
            Number("slowest over fastest mode, DirectPred, at least", uneven),
            Number("slowest over fastest mode, IsoLoss, at most", even),
        ),
        (
            Figure(
                "How long a mode takes depends on its start under DirectPred, hardly under "
                "IsoLoss.",
                "start of the mode's predictor eigenvalue",
                "time until 0.9 of the fixed point",
                series,
                log_x=True,
                log_y=True,
            ),
        ),
    )


def _variance(none: Arms) -> Finding:
    start = torch.logspace(-1.0, 0.3, 12, dtype=F64)
    times = torch.tensor([0.0, 150.0], dtype=F64)
    numbers, worst = [], 0.0
    ends: dict[str, Tensor] = {}
    for form in ("predictor", "isotropic"):
        rates = euclidean_rates(torch.full_like(start, NOISE), exponent=0.5, form=form)
        p = integrate(rates, (start,), times).end[0].abs()
        off = float(((1 + NOISE) * p - 1).abs().max())
        numbers.append(Number(f"largest |(1 + σ²) p - 1|, Euclidean, {form}", off))
        # Modes of a cosine share the length: they come to one value, which depends on the start.
        rates = cosine_rates(NOISE, exponent=0.5, form=form)
        long = torch.tensor([0.0, 1000.0], dtype=F64)
        p = integrate(rates, (start[None],), long).end[0][0].abs()
        uneven = float((p.max() - p.min()) / p.mean())
        numbers.append(Number(f"range of p over its mean, cosine, {form}", uneven))
        worst = max(worst, off, uneven)
        ends[form] = p
    kept = []
    for form in ("no stop-gradient", "no predictor"):
        rates = euclidean_rates(torch.full_like(start, NOISE), exponent=0.5, form=form)
        left = float((integrate(rates, (start,), times).end[0] / start).abs().max())
        numbers.append(Number(f"largest share of a mode that is left, Euclidean, {form}", left))
        kept.append(left)
    held = worst <= 1e-2 and max(kept) <= 1e-2
    names = [f"{p:.2g}" for p in start.tolist()]
    return Finding(
        "held" if held else "did not hold",
        f"With predictor and stop-gradient every mode comes to rest where it should, to "
        f"{worst:.0e}: (1 + σ²) p = 1 under the squared distance, one value for all under the "
        f"cosine. Without either, at most {max(kept):.0e} of any mode is left.",
        tuple(numbers),
        (
            Figure(
                "Under the cosine, modes of any start end alike.",
                "start of the mode's predictor eigenvalue",
                "predictor eigenvalue",
                [
                    Series("start", names, start.tolist(), kind="points"),
                    Series("end, DirectPred", names, ends["predictor"].tolist(), kind="points"),
                    Series("end, IsoLoss", names, ends["isotropic"].tolist(), kind="points"),
                ],
            ),
        ),
    )


WITH, WITHOUT = "IsoLoss with EMA", "IsoLoss without EMA"
# How much worse "can be dropped" allows: two points of a probe, half of the effective rank.
MARGIN, RANK_MARGIN = 2.0, 1.0


def _without_momentum(runs: Arms) -> Finding:
    if gone := missing(runs, (WITH, WITHOUT)):
        return gone
    linear = points(runs, WITHOUT, WITH)
    knn = points(runs, WITHOUT, WITH, "knn")
    without, held = (
        by_seed(runs[arm], lambda run: math.log2(vital(run, "effective_rank")))
        for arm in (WITHOUT, WITH)
    )
    ranks = paired(without, held, "log2 of the ratio of effective ranks")
    counts = kinds(runs[WITHOUT])
    healthy = most([verdict(run) for run in runs[WITHOUT]], [HEALTHY])
    return Finding(
        together(decide(linear, above=-MARGIN), decide(ranks, above=-RANK_MARGIN), healthy),
        f"Without the average the linear probe changes by {linear.value:+.1f} points, kNN by "
        f"{knn.value:+.1f}, and the embedding's effective rank by a factor of "
        f"{2**ranks.value:.2f}; verdicts without it: {in_words(counts)}.",
        (linear, ranks, knn),
    )


EXACT: Mapping[ScaleName, str] = {
    "cpu": "Simulated flows of linear encoders in float64; nothing is trained.",
    "paper": "The same: the theory is of linear encoders.",
}

PAPER = Paper(
    name="isoloss2023",
    title="Implicit variance regularization in non-contrastive self-supervised learning",
    citation="Halvagal, Laborieux and Zenke 2023, arXiv:2212.04858 (NeurIPS 2023)",
    about="DirectPred in the eigenbasis of its predictor: each eigenmode's variance is held up by "
    "its own gradient, at a rate in proportion to it. IsoLoss takes that proportion away.",
    claims=(
        Claim(
            "isoloss2023/equal-convergence",
            "Under IsoLoss all eigenmodes converge at one rate; under DirectPred small modes are "
            "as much slower as they are smaller.",
            "the gradients of the eigenmodes with and without IsoLoss",
            EXACT,
            "Over starts of the modes that differ by a factor of 100, the slowest mode takes at "
            "least 10 times as long as the fastest under DirectPred (α = 1/2 and 1), and at most 3 "
            "times as long under IsoLoss; under the cosine the rates of small modes differ by the "
            "same factors.",
            _equal_convergence,
        ),
        Claim(
            "isoloss2023/variance-regularisation",
            "A predictor in F's eigenbasis behind a stop-gradient regularises variance implicitly: "
            "every mode moves to its non-zero fixed point under the squared distance, all to one "
            "value under the cosine; without stop-gradient or predictor modes vanish.",
            "the theory of the eigenmodes, for both losses",
            EXACT,
            "Twelve modes of starts between 0.1 and 2 end within 1 % of 1/(1 + σ²) (Euclidean) and "
            "of each other (cosine), with DirectPred and IsoLoss; without stop-gradient and "
            "without predictor at most 1 % of any mode is left (Euclidean).",
            _variance,
        ),
        Claim(
            "isoloss2023/without-momentum",
            "IsoLoss needs no moving average: without it the representation keeps its accuracy "
            "and at least half of its rank.",
            "experiments on CIFAR-10 without EMA",
            {
                "cpu": "Fashion-MNIST, conv4 of width 8, 240 steps of 128 images; the published "
                "forms with (F over hundreds of steps) and without average (over a few).",
                "paper": "CIFAR-10, ResNet-18, 1,000 epochs of batch 256, SGD at 0.1.",
            },
            f"By seed, the linear probe without the average is less than {MARGIN:g} points below "
            "that with it and the embedding's effective rank more than half of it (95 % intervals "
            "beyond these margins), and most runs without it are healthy.",
            _without_momentum,
            arms=arms(
                {
                    WITH: Condition(
                        "isoloss",
                        published="isoloss/without-momentum",
                        paper={
                            "views": Crops(),
                            "predictor": {"rho": 0.998},
                            "target": Momentum(tau=0.99),
                        },
                    ),
                    WITHOUT: Condition("isoloss/without-momentum", paper={"views": Crops()}),
                },
                Setting(PROBED, FASHION),
                Setting(PAPER_RESNET18, CIFAR_10),
            ),
            seeds=5,
            needs_labels=True,
            care="The paper speaks of accuracy. That half of the rank is enough is our own choice, "
            "and little to ask.",
        ),
    ),
)
