"""Tian et al. 2021: theory's claims are judged, and the judges of networks decide either way."""

from __future__ import annotations

import json
import math

import pytest
import torch

from fullrank.experiments.claims import linear_networks
from fullrank.experiments.claims.claim import Trained
from fullrank.experiments.claims.linear_networks import Trial, predicted, trained
from fullrank.experiments.claims.registry import paper
from fullrank.experiments.claims.tian2021_directpred import DIRECT, EVERY_FIFTH, LINEAR, TWO_LAYER
from fullrank.experiments.claims.tian2021_networks import (
    BOTH,
    FREE,
    NO_PREDICTOR,
    NO_STOP,
    TIED,
    TIED_MOMENTUM,
)
from fullrank.experiments.claims.tian2021_symmetric import PLACEMENTS, RESCUED

CLAIMS = {claim.name.removeprefix("tian2021/"): claim for claim in paper("tian2021").claims}
THEORY = ("collapse-theorem", "alignment-theorem", "basin")
SLOW_THEORY = ("balance", "fixed-points", "critical-decay", "tracks")


@pytest.mark.parametrize(
    "name", [*THEORY, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_THEORY)]
)
def test_what_theory_decides_holds(name):
    found = CLAIMS[name].judge({})
    assert found.verdict == "held", found.text
    assert found.numbers and found.figures
    for number in found.numbers:
        assert math.isfinite(number.value) and number.n is None, number
    for figure in found.figures:
        for series in figure.series:
            assert len(series.x) == len(series.y) > 0
            assert all(math.isfinite(y) for y in series.y), series.name


def test_linear_networks_without_predictor_die_as_the_matrix_exponential_says():
    # Steps of SGD on the mean: W shrinks by 1 - rate (σ² + η) a step.
    trial = Trial("no predictor", 0.5, 1.0, 1.0)
    found = trained(trial, 100)
    noise, rate = linear_networks.NOISE**2, linear_networks.RATE
    steps = round(trial.length / rate)
    shrunk = (1 - rate * (noise + trial.weight_decay)) ** (2 * steps)
    assert (found[-1] / found[0] / shrunk - 1).abs().max() < 0.05
    times, flow = predicted(trial, 100)
    decay = torch.exp(-2 * (noise + trial.weight_decay) * times)
    torch.testing.assert_close(flow, flow[0] * decay[:, None], rtol=1e-5, atol=1e-12)
    assert (found[0] / flow[0] - 1).abs().max() < 1e-5


class Made:
    """Runs that a test made up: what they showed, and what stands in their records."""

    def __init__(self, folder):
        self.folder = folder

    def runs(self, arm, values=(), kind="healthy", spread=0.4, rank=20.0, aligned=()):
        found = []
        for seed, value in enumerate(values or [70.0] * 5):
            folder = self.folder / f"{arm}-{seed}".replace("/", " ")
            folder.mkdir(parents=True, exist_ok=True)
            lines = [
                {"event": "modes", "step": step, "aligned": a}
                for step, a in enumerate(aligned[seed] if aligned else (0.1, 0.9))
            ]
            (folder / "record.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
            shown = {
                "verdict": {"embedding": kind, "backbone": "healthy"},
                "embedding": {"spread": spread, "effective_rank": rank},
                "probe": {"knn": value / 100},
                "random": {"knn": 0.635},
            }
            found.append(Trained(arm, seed, "0" * 12, folder, shown))
        return found


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)


NEAR = (0.0, 0.4, -0.3, 0.1, -0.2)


def around(value, spread=1.0):
    return [value + spread * noise for noise in NEAR]


def opposite(value, spread=1.0):
    return [value - spread * noise for noise in NEAR]


@pytest.mark.parametrize(
    ("tied", "expected"), [(63.0, "held"), (76.0, "did not hold"), (69.8, "inconclusive")]
)
def test_the_symmetric_predictor(made, tied, expected):
    arms = {
        BOTH: made.runs(BOTH, around(70)),
        TIED_MOMENTUM: made.runs(TIED_MOMENTUM, opposite(70.5)),
        FREE: made.runs(FREE, opposite(70)),
        TIED: made.runs(TIED, around(tied)),
    }
    found = CLAIMS["symmetric-momentum"].judge(arms)
    assert found.verdict == expected
    assert found.numbers[0].value == pytest.approx(tied - 70)
    assert found.numbers[1].value == pytest.approx(tied - 70 - 0.5)
    assert found.numbers[0].n == 5


@pytest.mark.parametrize(("change", "expected"), [(3, "held"), (-3, "did not hold"), (0, None)])
def test_the_rescue_and_the_placement(made, change, expected):
    arms = {name: made.runs(name, around(67)) for name in PLACEMENTS}
    arms[RESCUED] = made.runs(RESCUED, opposite(67 + change))
    assert CLAIMS["decay-placement"].judge(arms).verdict == (expected or "inconclusive")
    arms = {RESCUED: arms[RESCUED], TIED: made.runs(TIED, around(67))}
    found = CLAIMS["rescue"].judge(arms)
    assert found.verdict == (expected or "inconclusive")
    assert found.numbers[0].value == pytest.approx(change)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("healthy", "complete collapse", "complete collapse"), "held"),
        (("healthy", "dimensional collapse", "healthy"), "did not hold"),
        (("healthy", "complete collapse", "healthy"), "inconclusive"),
        (("complete collapse",) * 3, "inconclusive"),
    ],
)
def test_the_collapse_of_networks(made, kinds, expected):
    names = (BOTH, NO_STOP, NO_PREDICTOR)
    arms = {n: made.runs(n, [70.0] * 3, kind) for n, kind in zip(names, kinds, strict=True)}
    assert CLAIMS["collapse"].judge(arms).verdict == expected


@pytest.mark.parametrize(
    ("ends", "expected"),
    [((0.05, 0.95), "held"), ((0.5, 0.6), "did not hold"), ((0.1, 0.6), "inconclusive")],
)
def test_the_alignment_of_networks(made, ends, expected):
    aligned = [(ends[0], 0.3, ends[1] + 0.05 * noise) for noise in NEAR]
    arms = {name: made.runs(name, aligned=aligned) for name in (BOTH, FREE)}
    found = CLAIMS["alignment"].judge(arms)
    assert found.verdict == expected
    assert found.numbers[0].value == pytest.approx(ends[1] - ends[0])


@pytest.mark.parametrize("length", ["short", "long"])
@pytest.mark.parametrize(
    ("gain", "linear", "two_layer"),
    [
        (2.0, "held", "held"),
        (-1.0, "did not hold", "held"),
        (-2.1, "did not hold", "inconclusive"),
        (-5.0, "did not hold", "did not hold"),
    ],
)
def test_directpred_beside_trained_predictors(made, length, gain, linear, two_layer):
    direct = made.runs(DIRECT, around(72 + gain))
    for name, other, expected in (("linear", LINEAR, linear), ("two-layer", TWO_LAYER, two_layer)):
        arms = {DIRECT: direct, other: made.runs(other, opposite(72))}
        found = CLAIMS[f"{name}-{length}"].judge(arms)
        assert found.verdict == expected
        assert found.numbers[0].value == pytest.approx(gain)


@pytest.mark.parametrize(
    ("short", "long", "expected"),
    [(0.1, -0.5, "held"), (0.1, -4.0, "did not hold"), (-2.1, 0.0, "inconclusive")],
)
def test_the_frequency(made, short, long, expected):
    arms = {}
    for length, change in (("short", short), ("long", long)):
        arms[f"{DIRECT}, {length}"] = made.runs(f"{DIRECT}, {length}", around(72))
        arms[f"{EVERY_FIFTH}, {length}"] = made.runs(
            f"{EVERY_FIFTH}, {length}", opposite(72 + change)
        )
    assert CLAIMS["frequency"].judge(arms).verdict == expected


@pytest.mark.parametrize("name", [name for name in CLAIMS if name not in (*THEORY, *SLOW_THEORY)])
def test_without_runs_nothing_is_decided(name):
    found = CLAIMS[name].judge({arm: [] for arm in CLAIMS[name].arms("cpu", [])})
    assert found.verdict == "inconclusive" and "No run has finished" in found.text


def test_the_published_scale_is_as_published():
    """STL-10, ResNet-18: SGD 0.03, momentum 0.9, decay 4e-4, EMA 0.996, batches of 128."""
    for name, (config, *_) in CLAIMS["symmetric-momentum"].arms("paper", [0]).items():
        optimizer = config.optimizer
        assert (config.data.name, config.backbone.name) == ("stl10", "resnet18"), name
        assert (config.run.batch_size, config.run.epochs) == (128, 100)
        assert optimizer.lr * 128 / 256 == pytest.approx(0.03)
        assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 4e-4)
        assert (config.recipe.projector.hidden, config.recipe.projector.out) == (512, 128)
        if "momentum" in name:
            assert (config.recipe.target.tau, config.recipe.target.schedule) == (0.996, "constant")
    for length, epochs in (("short", 60), ("long", 300)):
        for config, *_ in CLAIMS[f"linear-{length}"].arms("paper", [0]).values():
            assert (config.data.name, config.backbone.name) == ("folder:imagenet", "resnet50")
            assert (config.run.batch_size, config.run.epochs) == (4096, epochs)
    frequencies = CLAIMS["frequency"].arms("paper", [0])
    assert [c.run.epochs for (c,) in frequencies.values()] == [100, 100, 500, 500]
    assert [c.recipe.predictor.frequency for (c,) in frequencies.values()] == [1, 5, 1, 5]
    for (config,) in frequencies.values():
        assert (config.recipe.predictor.rho, config.recipe.predictor.epsilon) == (0.3, 0.01)


def test_conditions_differ_in_what_they_are_named_for():
    for scale in ("cpu", "paper"):
        arms = CLAIMS["decay-placement"].arms(scale, [0])
        decays = [
            (c.optimizer.weight_decay, c.optimizer.predictor_weight_decay) for (c,) in arms.values()
        ]
        assert decays == [(0.0, 4e-4), (4e-4, 0.0), (4e-4, None), (0.0, None)]
        assert {c.optimizer.predictor_lr for (c,) in arms.values()} == {10.0}
        kinds = {
            name: (c.recipe.predictor.kind, c.recipe.target.kind)
            for claim in ("symmetric-momentum", "collapse")
            for name, (c,) in CLAIMS[claim].arms(scale, [0]).items()
        }
        assert kinds == {
            BOTH: ("linear", "momentum"),
            FREE: ("linear", "stop-gradient"),
            TIED_MOMENTUM: ("symmetric-linear", "momentum"),
            TIED: ("symmetric-linear", "stop-gradient"),
            NO_STOP: ("linear", "online"),
            NO_PREDICTOR: ("none", "stop-gradient"),
        }
