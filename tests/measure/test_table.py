"""The table of a layer: values against NumPy, honest intervals, flags, and no NaN anywhere."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import t
from torch import Tensor

from fullrank.measure.jackknife import Jackknifed
from fullrank.measure.moments import Moments
from fullrank.measure.reading import reading_of
from fullrank.measure.scale import limits
from fullrank.measure.table import (
    Conventions,
    Reading,
    read_table,
    read_values,
    standard_errors,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def table(*views: Tensor, sample: int = 500, **options: Conventions) -> dict[str, Reading]:
    moments = Moments(shards=8)
    moments.update(*views)
    return read_table(moments.compute_shards(), views[0][:sample], **options)


def entropy_rank(weights: np.ndarray) -> float:
    p = weights / weights.sum()
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


def test_every_plug_in_value_is_that_of_a_float64_svd() -> None:
    n, d = 1500, 32
    x = normal(n, d) * torch.arange(1, d + 1) ** -0.7 + 0.3
    rows = x.numpy()
    centred = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
    raw = np.linalg.svd(rows, compute_uv=False)
    lambda_ = centred**2
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    p = raw / raw.sum() + 1e-7
    expected = {
        "effective_rank": entropy_rank(centred),
        "rankme": float(np.exp(-(p * np.log(p)).sum())),
        "participation_ratio": lambda_.sum() ** 2 / (lambda_**2).sum(),
        "stable_rank": lambda_.sum() / lambda_[0],
        "anisotropy": lambda_[0] / lambda_.sum(),
        "condition_number": centred[0] / centred[-1],
        "cev_auc": float((np.cumsum(centred) / centred.sum()).mean()),
        "hard_rank": np.linalg.matrix_rank(rows - rows.mean(0)),
        "dead_units": 0,
        "spread": 1 - float((unit.mean(0) ** 2).sum()),
        "normalised_std": float(unit.std(0).mean()) * math.sqrt(d),
        "expected_over_data": float(np.linalg.norm(unit.mean(0))),
    }
    found = table(x)
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, rel=1e-9), name


def test_intervals_are_about_the_corrected_value() -> None:
    for name, reading in table(normal(640, 32), normal(640, 32, seed=1)).items():
        assert reading.value is not None, name
        if reading.low is None or reading.high is None:
            assert any("error bar" in flag for flag in reading.flags), name
            continue
        centre = reading.value if reading.corrected is None else reading.corrected
        assert reading.low <= centre <= reading.high, name


def test_correction_takes_the_small_sample_bias_off() -> None:
    """Of evenly spread Gaussian data every rank is d, and n = 10 d reads it low."""
    d = 32
    found = table(normal(10 * d, d))
    for name in ("effective_rank", "participation_ratio"):
        reading = found[name]
        assert reading.value is not None and reading.corrected is not None
        assert abs(reading.corrected - d) < abs(reading.value - d) / 3, name


@pytest.mark.parametrize(
    "rows",
    [
        torch.ones(50, 4),
        torch.zeros(50, 4),
        normal(1, 4),
        normal(2, 4),
        normal(3, 40),
        normal(50, 1),
        torch.ones(1, 1),
        1e-30 * normal(64, 8),
    ],
    ids=lambda rows: f"{len(rows)} rows",
)
def test_extreme_data_gives_json_without_nan(rows: Tensor) -> None:
    for views in ((rows,), (rows, rows.clone()), (rows, rows.clone(), rows.clone())):
        found = table(*views)
        text = json.dumps({name: r.to_dict() for name, r in found.items()}, allow_nan=False)
        assert json.loads(text)["spread"]["value"] is not None


def test_few_rows_are_flagged_and_enough_are_not() -> None:
    few, enough = table(normal(60, 32)), table(normal(600, 32))
    assert any("n < 5d" in flag for flag in few["effective_rank"].flags)
    assert not any("n < 5d" in flag for flag in enough["effective_rank"].flags)


def test_view_metrics_need_views() -> None:
    one = table(normal(200, 8))
    two = table(normal(200, 8), normal(200, 8, seed=1))
    assert "alignment" not in one and "lidar" not in one
    assert {"alignment", "lidar", "canonical_correlation"} <= two.keys()


def test_conventions_reach_the_metrics() -> None:
    x = normal(800, 128) * torch.arange(1, 129) ** -1.0
    default = table(x)
    other = table(x, conventions=Conventions(alpha_range=(10, 60), rankme_epsilon=1e-3))
    assert default["alpha_req"].value != other["alpha_req"].value
    assert default["rankme"].value != other["rankme"].value
    assert default["effective_rank"].value == other["effective_rank"].value


def test_values_without_error_bars_are_the_same() -> None:
    moments = Moments(shards=8)
    moments.update(normal(300, 16), normal(300, 16, seed=1))
    shards = moments.compute_shards()
    readings = read_table(shards)
    for name, value in read_values(shards.total).items():
        assert readings[name].value == pytest.approx(value, rel=1e-12), name


def test_nothing_is_corrected_beyond_what_it_can_be() -> None:
    d = 16
    for seed in range(2):
        found = table(normal(5 * d, d, seed=seed), normal(5 * d, d, seed=100 + seed))
        for name, reading in found.items():
            lowest, highest = limits(name, d)
            for end in (reading.corrected, reading.low, reading.high):
                assert end is None or lowest <= end <= highest, name


def test_equal_eigenvalues_leave_what_orders_them_uncorrected() -> None:
    flat, steep = (table(normal(640, 32) * torch.arange(1, 33) ** -a) for a in (0.0, 1.0))
    for name in ("stable_rank", "anisotropy", "cev_auc", "alpha_req", "condition_number"):
        assert flat[name].corrected is None and steep[name].corrected is not None, name
        assert any("not corrected" in flag for flag in flat[name].flags), name


def test_bounds_say_that_they_are_no_interval_and_hold_the_value() -> None:
    for name, reading in table(normal(640, 32)).items():
        bounds = any("bounds" in flag for flag in reading.flags)
        assert bounds == any("not corrected" in flag for flag in reading.flags), name
        if bounds and reading.value is not None:
            assert reading.low is not None and reading.high is not None, name
            assert reading.low <= reading.value <= reading.high, name


def test_bounds_reach_what_is_left_of_a_bias_of_any_order() -> None:
    """Of values ``3 + n^-p`` at n and n/2, without error, the bounds hold 3 for p from 1/2 up."""
    for power in (0.5, 0.7, 1.0, 2.0):
        at_8_7, at_half = 3 + (8 / 7) ** power, 3 + 2**power
        low, high = Jackknifed(4.0, (at_8_7,) * 8, (at_half,) * 8).bounds()
        assert low <= 3 <= 4 <= high, power
    assert all(map(math.isnan, Jackknifed(1.0, ()).bounds()))


def test_the_error_of_a_correction_grows_with_what_it_leaves_open() -> None:
    smooth = Jackknifed(5.0, (5.0, 5.2) * 4, (5.2,) * 8)
    assert smooth.corrected is not None and smooth.standard_error is not None
    by_halves = 2 * 5.0 - 5.2
    assert smooth.corrected_error == pytest.approx(
        math.hypot(smooth.standard_error, smooth.corrected - by_halves)
    )
    assert Jackknifed(5.0, (5.0, 5.2)).corrected_error == Jackknifed(5.0, (5.0, 5.2)).standard_error


def test_standard_errors_are_those_that_intervals_are_made_of() -> None:
    moments = Moments(shards=8)
    moments.update(normal(400, 8) + 1, normal(400, 8, seed=1) + 1)  # not at the end of a range
    shards = moments.compute_shards()
    readings = read_table(shards)
    # Not on another scale, and with no error of a correction added.
    names = ("spread", "alignment", "effective_rank", "rankme", "spectral_entropy", "lidar")
    errors = standard_errors(shards, names=names)
    assert errors.keys() == set(names)
    for name in ("spread", "alignment"):
        low, high = readings[name].low, readings[name].high
        assert low is not None and high is not None
        assert high - low == pytest.approx(2 * t.ppf(0.975, 7) * errors[name], rel=1e-9), name


def test_a_maximum_has_no_interval() -> None:
    reading = table(normal(400, 8))["coherence"]
    assert reading.value is not None and reading.low is None and reading.high is None
    assert any("no error bar" in flag for flag in reading.flags)


def test_a_spectrum_of_wide_rows_says_that_it_is_not_corrected() -> None:
    jackknifed = Jackknifed(5.0, (4.9, 5.0, 5.1))
    reading = reading_of("effective_rank", jackknifed, 2000, correct=False)
    assert reading.corrected is None and reading.low is not None
    assert any("not corrected" in flag for flag in reading.flags)


def test_what_does_not_vary_is_not_corrected_into_something() -> None:
    for name, reading in table(torch.ones(400, 8)).items():
        if reading.corrected is not None:
            assert reading.corrected == reading.value, name
        if reading.low is not None and reading.value is not None:
            assert reading.low <= reading.value <= (reading.high or 0), name
