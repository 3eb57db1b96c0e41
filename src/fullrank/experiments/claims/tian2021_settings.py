"""Tian et al. 2021: the networks that their claims are tested on.

Small scale: a four-layer convolutional network of width 8 on Fashion-MNIST, batches of 128, no
batch norm behind the embedding. Chosen on pilot runs with seeds 100 and 101.

- Predictor and target, 400 steps, momentum 0.99: peak rates of 0.025 and 0.1 were tried. At 0.025
  nothing collapses; at 0.1 the symmetric predictor without momentum is at kNN 62.9 and 64.2, the
  free one at 68.8 and 71.1, both with momentum at 69 to 72 (random init: 63.5 and 64.2). Decay of
  one e-fold in 120 steps (``fullrank explain``) collapses all four.
- Its rescue: 67.3 and 72.2. Without any decay 67.5; with ten times the decay on the predictor 66.8.
- DirectPred, a peak rate of 0.2, 120 and 480 steps: 70.3 and 73.4; with ε = 0.1 69.7 and 73.1. A
  linear predictor at its encoder's rate 65.2 and 70.3, at ten times this rate 66.5 and 71.6; two
  layers 66.2 and 72.4.

Published scale: STL-10, ResNet-18, and for the schedules ImageNet, ResNet-50.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fullrank.experiments.claims.conditions import (
    FASHION,
    IMAGENET,
    STL_10,
    Condition,
    Setting,
)
from fullrank.experiments.scale import FACTORIAL, PAPER
from fullrank.models.settings.predictor import PredictorPart
from fullrank.models.settings.target import Momentum, Online, StopGradient, TargetPart
from fullrank.train.config import CheckupSettings, ProbeSettings

RECIPE = "directpred/official"  # the form of the authors' own code on STL-10
SHORT_STEPS, LONG_STEPS = 120, 480
COLLAPSED_BASELINE = (
    "At the small scale the network with the trained linear predictor is completely collapsed by "
    "its verdict, and of its rates few were tried: a better one may leave less to beat."
)
_PROBED = replace(
    FACTORIAL,
    decay=None,
    tau=None,
    checkup=CheckupSettings(size=1000, budget=0.0, count=2),
    followed=None,
    probe=ProbeSettings(train=5000, test=5000),
)
# Followed along the way, at a fifth of the training time.
NETWORK = replace(
    _PROBED, steps=400, checkup=CheckupSettings(size=1000, budget=0.2, count=16)
)  # fmt: skip

SMALL = Setting(NETWORK, FASHION)
SMALL_SHORT = Setting(replace(_PROBED, steps=SHORT_STEPS), FASHION)
SMALL_LONG = Setting(replace(_PROBED, steps=LONG_STEPS), FASHION)
PUBLISHED = Setting(PAPER, STL_10)
PUBLISHED_IMAGENET = Setting(PAPER, IMAGENET)

ON_SMALL = (
    "Fashion-MNIST, four-layer convolutional network of width 8, batches of 128, no batch norm "
    "behind the "
    "embedding, momentum 0.99"
)
ON_STL = (
    "STL-10, ResNet-18, SimCLR's augmentations, projector 512-128, SGD with rate 0.03, momentum "
    "0.9 and "
    "weight decay 4e-4, batches of 128, momentum target 0.996"
)
ON_IMAGENET = "ImageNet, ResNet-50, BYOL's protocol (batches of 4,096, LARS, momentum target 0.996)"


def network(predictor: PredictorPart, target: str = "momentum", **optimizer: Any) -> Condition:
    """Return a network with a predictor and a kind of target, at the rates of the pilot.

    Args:
        predictor: of the network.
        target: ``momentum``, ``stop-gradient``, or ``online`` (a gradient through both sides).
        **optimizer: what differs from a decay of 4e-4 and one rate for all weights.
    """
    kinds: dict[str, tuple[TargetPart, TargetPart]] = {
        "momentum": (Momentum(0.99, "constant"), Momentum(0.996, "constant")),
        "stop-gradient": (StopGradient(), StopGradient()),
        "online": (Online(), Online()),
    }
    small, published = kinds[target]
    changes = {
        "predictor": predictor,
        "optimizer": {"weight_decay": 4e-4, "predictor_lr": 1.0, **optimizer},
    }
    return Condition(
        RECIPE,
        changes,
        cpu={"target": small, "optimizer": {"lr": 0.1}},
        paper={"target": published},
    )


def scheduled(
    small: Mapping[str, Any],
    published: Mapping[str, Any],
    epochs: int,
    recipe: str = "directpred",
) -> Condition:
    """Return a network of the comparison of predictors, on a short or a long schedule.

    Args:
        small: what differs from DirectPred at the small scale, by field.
        published: the same at the published scale.
        epochs: at the published scale.
        recipe: at the published scale.
    """
    return Condition(
        RECIPE,
        cpu={"target": Momentum(0.99, "cosine"), **small},
        paper={"training": {"epochs": epochs}, **published},
        published=recipe,
    )
