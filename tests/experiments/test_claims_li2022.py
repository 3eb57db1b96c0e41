"""The judges of Li et al.'s claims say what records say, and can say no."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fullrank.experiments.claims.claim import Trained
from fullrank.experiments.claims.li2022 import PAPER
from fullrank.experiments.claims.li2022_conditions import (
    CHOICES,
    GENTLE,
    POOL,
    SIZES,
    WIDTHS,
)
from fullrank.experiments.claims.li2022_judges import final_loss
from fullrank.experiments.claims.li2022_spectra import spectrum

CLAIMS = {claim.name.partition("/")[2]: claim for claim in PAPER.claims}


@pytest.fixture
def trained(tmp_path):
    """Return what makes a finished run with a given AUC, probe and loss."""

    def make(arm, seed, auc, probe, loss=-0.5):
        folder = tmp_path / f"{arm}-{seed}"
        folder.mkdir()

        def checkup(step, value):
            layers = {"backbone": {"cev_auc": value}}
            return {"event": "checkup", "step": step, "layers": layers}

        lines = [
            {"event": "start", "hash": "x"},
            checkup(0, 0.6),
            *({"event": "step", "step": k, "loss": loss * k / 100} for k in range(1, 101)),
            checkup(100, auc),
            {"event": "modes", "step": 100, "resolved": round(100 * (1 - auc))},
            {"event": "end"},
        ]
        (folder / "record.jsonl").write_text("".join(json.dumps(e) + "\n" for e in lines))
        shown = {
            "backbone": {"cev_auc": auc},
            "probe": {"linear": probe, "factors_r2": probe / 2},
            "random": {"linear": 0.3},
        }
        return Trained(arm, seed, "x", folder, shown)

    return make


def arms(trained, values, seeds=5, loss=lambda auc, probe: -0.5):
    """Return runs around an AUC and a probe for every arm; seeds differ a little in both."""
    return {
        name: [
            trained(name, s, auc + 0.001 * s, probe - 0.002 * s, loss(auc, probe))
            for s in range(seeds)
        ]
        for name, (auc, probe) in values.items()
    }


SIZE = {"250 images": (0.70, 0.40), "2,000 images": (0.8, 0.36), "10,000 images": (0.83, 0.34)}
ORDER = {"iid": (0.8, 0.35), "single pass": (0.7, 0.4), "cumulative": (0.75, 0.36)}


@pytest.mark.parametrize(
    ("name", "values", "verdict"),
    [
        ("data-size", SIZE, "held"),
        ("data-size", {**SIZE, "10,000 images": (0.60, 0.34)}, "did not hold"),
        ("data-size", {**SIZE, "10,000 images": (0.83, 0.45)}, "did not hold"),
        ("single-pass", ORDER, "held"),
        ("single-pass", {**ORDER, "single pass": (0.9, 0.4)}, "did not hold"),
        ("cumulative", ORDER, "held"),
        ("cumulative", {**ORDER, "cumulative": (0.81, 0.4)}, "did not hold"),
        ("hybrid", {"iid, long": (0.8, 0.35), "hybrid": (0.8, 0.4)}, "held"),
        ("hybrid", {"iid, long": (0.8, 0.35), "hybrid": (0.7, 0.3)}, "did not hold"),
        ("width", {"width 4": (0.9, 0.3), "width 32": (0.8, 0.3)}, "held"),
        ("width", {"width 4": (0.7, 0.3), "width 32": (0.8, 0.3)}, "did not hold"),
        ("depth", {"shallow": (0.9, 0.3), "deep": (0.8, 0.3)}, "held"),
        ("architecture", dict.fromkeys(["2,000 images", *CHOICES], (0.8, 0.3)), "did not hold"),
        (
            "architecture",
            {"2,000 images": (0.8, 0.3), **dict.fromkeys(CHOICES, (0.7, 0.3))},
            "held",
        ),
        (
            "weight-decay",
            {"2,000 images": (0.8, 0.3), **dict.fromkeys(GENTLE, (0.7, 0.3))},
            "held",
        ),
        (
            "weight-decay",
            {"2,000 images": (0.8, 0.3), **dict.fromkeys(GENTLE, (0.9, 0.3))},
            "did not hold",
        ),
    ],
)
def test_a_claim_is_judged_by_its_criterion(name, values, verdict, trained):
    found = CLAIMS[name].judge(arms(trained, values))
    assert found.verdict == verdict
    assert found.numbers and found.text


def test_noise_between_seeds_decides_nothing(trained):
    noisy = {
        name: [trained(name, s, auc, 0.3) for s, auc in enumerate(values)]
        for name, values in {"width 4": (0.7, 0.9, 0.8), "width 32": (0.8, 0.8, 0.81)}.items()
    }
    assert CLAIMS["width"].judge(noisy).verdict == "inconclusive"


def test_modes_that_are_alive_are_counted(trained):
    found = CLAIMS["hybrid"].judge(arms(trained, {"iid, long": (0.8, 0.35), "hybrid": (0.7, 0.4)}))
    (modes,) = (number for number in found.numbers if number.name.startswith("modes alive"))
    assert modes.value == pytest.approx(10, abs=1)


def test_missing_conditions_are_named(trained):
    found = CLAIMS["hybrid"].judge(arms(trained, {"iid, long": (0.8, 0.3)}))
    assert found.verdict == "inconclusive" and "hybrid" in found.text


@pytest.mark.parametrize(("sign", "verdict"), [(-1, "did not hold"), (1, "held")])
def test_a_loss_that_rises_with_the_collapse_is_not_blind(trained, sign, verdict):
    found = CLAIMS["loss-blind"].judge(arms(trained, SIZE, loss=lambda auc, probe: sign * probe))
    assert found.verdict == verdict
    assert found.numbers[-1].value == pytest.approx(sign, abs=0.1)


def test_the_final_loss_is_that_of_the_last_tenth(trained):
    (run,) = arms(trained, {"one": (0.7, 0.4)}, 1, loss=lambda auc, probe: -probe)["one"]
    assert final_loss(run) == pytest.approx(-0.4 * np.mean(range(91, 101)) / 100)


def test_an_auc_that_goes_with_accuracy_forecasts_it(trained):
    values = {f"condition {k}": (0.6 + 0.03 * k, 0.4 - 0.03 * k) for k in range(8)}
    assert CLAIMS["forecast"].judge(arms(trained, values)).verdict == "held"


def test_at_the_published_scale_the_most_images_are_all(trained):
    sizes = CLAIMS["data-size"].arms("paper", [0])
    shares = [getattr(runs[0].data.stream, "share", 1.0) for runs in sizes.values()]
    assert shares == [0.01, 0.1, 1.0]


def test_photographs_have_no_factors_and_are_judged_all_the_same(trained):
    values = {f"condition {k}": (0.6 + 0.03 * k, 0.4 - 0.03 * k) for k in range(8)}
    runs = arms(trained, values)
    for run in (run for found in runs.values() for run in found):
        del run.shown["probe"]["factors_r2"]
    found = CLAIMS["forecast"].judge(runs)
    assert found.verdict == "held"
    assert not any("factors" in number.name for number in found.numbers)


def test_one_seed_decides_nothing(trained):
    for name, names in {"architecture": ["2,000 images", *CHOICES], "width": WIDTHS}.items():
        found = CLAIMS[name].judge(arms(trained, dict.fromkeys(names, (0.8, 0.3)), seeds=1))
        assert found.verdict == "inconclusive"


def test_a_tail_that_does_not_tell_forecasts_nothing(trained):
    values = {f"condition {k}": (0.6 + 0.03 * k, 0.1 + 0.03 * k) for k in range(8)}
    found = CLAIMS["forecast"].judge(arms(trained, values))
    assert found.verdict == "did not hold"
    line, mean = found.numbers[2:]
    assert line.value < mean.value  # they go together, the other way round


def test_the_metric_holds_on_the_published_spectra():
    found = CLAIMS["metric"].judge({})
    assert found.verdict == "held"
    for number, percent in zip(found.numbers, (1, 10, 50), strict=True):
        sigma = spectrum(percent)
        k, p = len(sigma), sigma / sigma.sum()
        assert number.value == pytest.approx((k + 1 - np.arange(1, k + 1) @ p) / k, abs=1e-12)


def test_conditions_differ_in_what_they_say_and_share_their_runs():
    sizes = CLAIMS["data-size"].arms("cpu", range(2))
    shares = {n: runs[0].data.stream.share * 60_000 for n, runs in sizes.items()}
    assert [round(v) for v in shares.values()] == [250, POOL, 10_000]
    assert list(sizes) == list(SIZES)
    orders = CLAIMS["single-pass"].arms("cpu", range(2))
    assert orders["iid"] == sizes["2,000 images"]
    assert [run.run.seed for run in orders["iid"]] == [0, 1]
    assert len({run.identity() for runs in orders.values() for run in runs}) == 4


def test_the_published_protocol_is_that_of_the_paper():
    for claim in PAPER.claims[1:]:
        for configs in claim.arms("paper", [0]).values():
            (config,) = configs
            assert config.run.epochs == 100 and config.run.batch_size == 256
            assert config.optimizer.predictor_schedule == "constant"
            assert config.data.name == "folder:imagenet"
    hybrid = CLAIMS["hybrid"].arms("paper", [0])["hybrid"][0].data.stream
    assert (hybrid.chunks, hybrid.switch, hybrid.visits) == (100, 0.4, "share")
