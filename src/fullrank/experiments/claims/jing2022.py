"""How contrastive learning loses dimensions, and what a projector has to do with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from fullrank.experiments.claims import jing2022_linear as linear
from fullrank.experiments.claims.claim import (
    Arms,
    Claim,
    Figure,
    Finding,
    Paper,
    ScaleName,
    Series,
    Trained,
)
from fullrank.experiments.claims.conditions import (
    FASHION,
    IMAGENET,
    PROBED,
    Condition,
    Setting,
    arms,
)
from fullrank.experiments.claims.readings import checkups, missing, points, probe, series_of
from fullrank.experiments.claims.statistics import by_seed, decide, interval, paired, together
from fullrank.experiments.scale import PAPER as PUBLISHED
from fullrank.models.settings.backbone import ResNet
from fullrank.models.settings.sub_vector import SubVector

LAYERS = ("backbone", "embedding")
SIMCLR = "MLP"


def rank_share(run: Trained, layer: str) -> float:
    """Return the effective rank as a share of the layer's dimensions."""
    signs = run.shown[layer]
    return float(signs["effective_rank"]) / float(signs["d"])


def _kept(run: Trained, layer: str) -> float:
    """Return the effective rank over that of the random-init network."""
    first = checkups(run)[0]["layers"][layer]
    return float(run.shown[layer]["effective_rank"]) / float(first["effective_rank"])


def _tail(spectrum: list[float]) -> float:
    """Return the geometric mean of the last quarter of the singular values over the first."""
    last = spectrum[len(spectrum) * 3 // 4 :]
    floor = 1e-12 * spectrum[0]
    return math.fsum(math.log10(max(s, floor) / spectrum[0]) for s in last) / len(last)


def _last_tail(run: Trained, layer: str) -> float:
    return _tail(run.shown[layer]["spectrum"])


def _first_tail(run: Trained, layer: str) -> float:
    return _tail(checkups(run)[0]["layers"][layer]["spectrum"])


def _embedding(runs: Arms) -> Finding:
    if gone := missing(runs, (SIMCLR,)):
        return gone
    found = runs[SIMCLR]
    shares = [by_seed(found, partial(rank_share, layer=layer)) for layer in LAYERS]
    share = paired(shares[0], shares[1], "rank share, backbone minus embedding")
    kept = paired(
        by_seed(found, lambda run: _kept(run, "backbone")),
        by_seed(found, lambda run: _kept(run, "embedding")),
        "share of the random network's rank that is kept, backbone minus embedding",
    )
    tail, own_tail = (
        paired(
            by_seed(found, partial(_last_tail, layer=layer)),
            by_seed(found, partial(_first_tail, layer=layer)),
            f"change of the {layer}'s tail in training",
            "decades",
        )
        for layer in ("embedding", "backbone")
    )
    series = []
    for layer in LAYERS:
        for label, spectra in (
            ("random init", [checkups(run)[0]["layers"][layer]["spectrum"] for run in found]),
            ("trained", [run.shown[layer]["spectrum"] for run in found]),
        ):
            values = torch.tensor(spectra, dtype=torch.float64)
            mean = (values / values[:, :1]).mean(0)
            place = [(k + 1) / len(mean) for k in range(len(mean))]
            series.append(Series(f"{layer}, {label}", place, mean.clamp(min=1e-8).tolist()))
    return Finding(
        together(decide(share), decide(kept), decide(tail, below=0.0)),
        f"The embedding has {interval(shares[1]).value:.2f} of its dimensions as effective rank, "
        f"the backbone {interval(shares[0]).value:.2f}; in training the tail of the embedding's "
        f"singular values changes by {tail.value:+.2f} decades, the backbone's by "
        f"{own_tail.value:+.2f}, and the backbone keeps {kept.value:+.2f} more of the random "
        "network's rank.",
        (share, kept, tail, own_tail),
        (
            Figure(
                "The tails of embedding and backbone, before training and after.",
                "index of the singular value, as a share of the dimensions",
                "singular value over the largest",
                series,
                log_y=True,
            ),
        ),
    )


LINEAR, NONE = "linear", "none"


def sub_vector(share: float) -> str:
    """Return the name of the condition whose loss sees a share of the representation."""
    return f"first {share:g} of h"


Pairs = Sequence[tuple[str, str]]


def _above(pairs: Pairs) -> Callable[[Arms], Finding]:
    """Return a judge that wants the first of each pair above the second on the linear probe."""
    names = tuple(dict.fromkeys(name for pair in pairs for name in pair))

    def judge(runs: Arms) -> Finding:
        if gone := missing(runs, names):
            return gone
        differences = [points(runs, *pair) for pair in pairs]
        knn = [points(runs, *pair, name="knn") for pair in pairs]
        means = {name: interval(by_seed(runs[name], probe)) for name in names}
        return Finding(
            together(*(decide(difference) for difference in differences)),
            "Linear probe: "
            + ", ".join(f"{name} {mean.value:.1f} %" for name, mean in means.items())
            + "; by seed "
            + ", ".join(
                f"{a} minus {b} {d.value:+.1f} points"
                for (a, b), d in zip(pairs, differences, strict=True)
            )
            + ".",
            (*differences, *knn),
            (_probes_figure("What stands between representation and loss", names, runs),),
        )

    return judge


def _probes_figure(title: str, names: Sequence[str], runs: Arms) -> Figure:
    series = []
    for name in ("linear", "knn"):
        found = [interval(by_seed(runs[arm], partial(probe, name=name))) for arm in names]
        series.append(series_of(f"{name} probe", list(names), found))
    random = [100 * run.shown["random"]["linear"] for arm in names for run in runs[arm]]
    level = math.fsum(random) / len(random)
    series.append(Series("random init, linear probe", list(names), [level] * len(names)))
    return Figure(title, "projector", "accuracy of the backbone, percent", series)


# Shares of h that the loss sees; published: 360 of 2,048 dimensions.
SHARES = (0.0625, 0.25, 0.5)
MIDDLE = sub_vector(0.5)


def _interior(runs: Arms) -> Finding:
    names = [sub_vector(share) for share in SHARES] + [NONE]
    finding = _above(((MIDDLE, names[0]), (MIDDLE, NONE)))(runs)
    if gone := missing(runs, names):
        return gone
    means = {name: interval(by_seed(runs[name], probe)) for name in names}
    figure = _probes_figure("Accuracy over the number of dimensions in the loss", names, runs)
    best = max(means, key=lambda name: means[name].value)
    text = f"{finding.text} Over all shares the best is: {best}."
    return Finding(finding.verdict, text, finding.numbers, (figure,))


# A residual network: outside the sub-vector h learns through the last block's shortcut alone.
SMALL = replace(PROBED, steps=150, backbone=ResNet("resnet18", width=16, stem="imagenet"))
CPU, PAPER_SETTING = Setting(SMALL, FASHION), Setting(PUBLISHED, IMAGENET)
PROJECTORS = {
    SIMCLR: Condition("simclr"),
    LINEAR: Condition("simclr/linear-projector"),
    NONE: Condition("simclr/without-projector"),
}
# DirectCLR's own loss and augmentation on all of h: what its part of h is compared with.
WHOLE = {NONE: Condition("directclr/without-sub-vector")}
PARTS = {
    sub_vector(share): Condition(
        "directclr",
        cpu={"projector": SubVector(dims=None, share=share)},
        paper={"projector": SubVector(dims=dims)},
    )
    for share, dims in zip(SHARES, (32, 128, 360), strict=True)
}
PROTOCOL: Mapping[ScaleName, str] = {
    "cpu": "Fashion-MNIST, ResNet-18 of width 16 (128 dimensions), 150 steps of 128 images, "
    "linear probe and kNN on 5,000 labelled images.",
    "paper": "ImageNet, ResNet-50, 100 epochs of batch 4096 with LARS, linear probe.",
}

SHORTENED = (
    "The same. The published experiment has these layers and noises with 10,000 steps of 128 "
    "inputs, at rates of 0.001 and 0.01."
)


PAPER = Paper(
    name="jing2022",
    title="Understanding Dimensional Collapse in Contrastive Self-supervised Learning",
    citation="Jing, Vincent, LeCun and Tian 2022, arXiv:2110.09348 (ICLR 2022)",
    about="Negatives prevent complete collapse, and yet dimensions are lost: where augmentation "
    "varies more than the data, and by the implicit bias of several layers. A projector takes the "
    "loss of rank upon itself; DirectCLR does without one.",
    claims=(
        Claim(
            "jing2022/strong-augmentation",
            "Dimensions whose augmentation is stronger than the data's variance collapse under "
            "contrastive learning; the stronger, the further.",
            "the first of two causes: strong augmentation, with its toy experiment",
            {
                "cpu": "The flow of one linear layer, direction by direction; and one 16 × 16 "
                "layer trained by 250 steps of InfoNCE on 64 Gaussian inputs, noise of standard "
                "deviation 0.3 to 3 on the last 8 dimensions of both views; seeds 0 to 4.",
                "paper": SHORTENED,
            },
            "The simulated critical noise is within 2 % of twice the data's variance (in squared "
            "distances), and from each dose to the next the 8 smallest eigenvalues fall against "
            "the largest, the 95 % interval over seeds above 0 each time.",
            linear.augmentation,
        ),
        Claim(
            "jing2022/depth",
            "Without strong augmentation, the more linear layers, the lower the rank that training "
            "reaches.",
            "the second of two causes: implicit regularization, with its toy experiment",
            {
                "cpu": "Products of 1, 2 and 3 linear 16 × 16 layers that start as the same "
                "product, 250 steps of InfoNCE on 64 Gaussian inputs, noise of 0.001; seeds 0 to "
                "4.",
                "paper": SHORTENED,
            },
            "The effective rank (of singular values) falls from 1 to 2 and from 2 to 3 layers, "
            "95 % intervals of the differences over seeds above 0.",
            linear.depth,
            care="The paper calls it collapse. From this start the rank rises at every depth, the "
            "less the more layers there are.",
        ),
        Claim(
            "jing2022/embedding",
            "SimCLR's embedding has fewer of its dimensions than its representation, keeps less of "
            "its rank in training, and loses the tail of its singular values.",
            "the spectrum of SimCLR's embedding on ImageNet",
            PROTOCOL,
            "By seed, the effective rank as a share of the dimensions is higher in the backbone "
            "than in the embedding, the backbone keeps a larger share of the random-init network's "
            "rank, and the last quarter of the embedding's singular values falls in training (95 % "
            "intervals).",
            _embedding,
            arms=arms({SIMCLR: PROJECTORS[SIMCLR]}, CPU, PAPER_SETTING),
            seeds=5,
            care="On ImageNet the published tail is zero. Here the embeddings are healthy by this "
            "library's thresholds, and the backbone's tail falls, too: a difference of degree.",
        ),
        Claim(
            "jing2022/projector",
            "Accuracy of the representation rises from no projector over a linear one to an MLP.",
            "projector ablation (51.5, 61.1 and 66.5 % on ImageNet)",
            PROTOCOL,
            "On the linear probe the MLP is above the linear projector, and that above none, 95 % "
            "intervals of the differences by seed above 0.",
            _above(((SIMCLR, LINEAR), (LINEAR, NONE))),
            arms=arms(PROJECTORS, CPU, PAPER_SETTING),
            seeds=5,
            needs_labels=True,
        ),
        Claim(
            "jing2022/directclr",
            "A loss on a part of the representation does better than one on the whole: no "
            "projector is needed.",
            "sec. 6, DirectCLR (62.7 % on ImageNet, 51.5 % without projector)",
            PROTOCOL,
            "On the linear probe the loss on half of the representation (published: 360 of 2,048 "
            "dimensions) is above the loss on all of it, the 95 % interval of the difference by "
            "seed above 0.",
            _above(((MIDDLE, NONE),)),
            arms=arms({MIDDLE: PARTS[MIDDLE], **WHOLE}, CPU, PAPER_SETTING),
            seeds=5,
            needs_labels=True,
        ),
        Claim(
            "jing2022/dimensions",
            "The number of dimensions in DirectCLR's loss has an optimum between few and all.",
            "DirectCLR's accuracy over d0",
            PROTOCOL,
            "On the linear probe half of the dimensions (published: 360) is above a sixteenth (32) "
            "and above all, 95 % intervals of the differences by seed above 0. The middle was "
            "fixed beforehand.",
            _interior,
            arms=arms({**PARTS, **WHOLE}, CPU, PAPER_SETTING),
            seeds=5,
            needs_labels=True,
        ),
    ),
)
