"""A forecast knows nothing but the vital signs, tells how sure it is, and when to say nothing."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from fullrank.errors import UserError
from fullrank.measure.forecast import (
    Forecaster,
    data_key,
    forecast,
    shipped,
)
from fullrank.measure.forecast_features import FEATURES, forecast_features, names_for
from fullrank.measure.forecast_model import evaluate, nearest_distances
from fullrank.measure.forecast_words import sentences
from fullrank.measure.moments import moments_of
from fullrank.measure.vitals import vital_signs
from fullrank.randomness import generator

NAMES = tuple(feature.name for feature in FEATURES)


def views(n=400, d=24, noise=0.5, decay=0.1, seed=0):
    """Two noisy views of rows whose variance falls from direction to direction."""
    gen = generator(seed, "forecast")
    scales = torch.exp(-decay * torch.arange(d, dtype=torch.float64))
    rows = torch.randn(n, d, generator=gen, dtype=torch.float64) * scales + 0.3
    return [
        rows + noise * scales * torch.randn(n, d, generator=gen, dtype=torch.float64)
        for _ in range(2)
    ]


def signs(*rows):
    return vital_signs(moments_of(*rows))


def fitted(half_width=0.5, **changes):
    """A forecaster that knows two data sets and rows like those of ``views``, by hand."""
    rows = [
        [forecast_features(signs(*views(decay=decay, noise=noise)))[name] for name in NAMES]
        for decay in (0.05, 0.1, 0.15, 0.2)
        for noise in (0.3, 0.5, 0.7)
    ]
    table = np.array(rows)
    centre, scale = table.mean(0), np.maximum(table.std(0), 1e-3)
    weights = [0.0] * len(NAMES)
    weights[NAMES.index("log_rank")] = 1.0
    probe = {
        "name": "by hand",
        "model": {
            "kind": "ridge",
            "weights": [*weights, 0.25],
            "square_weights": [],
            "intercept": 0.0,
        },
        "intercepts": {"digits": 1.0, "shapes": -1.0},
        "half_width": half_width,
        "labelled": 1000,
        "labelled_centre": 10.0,
        "labelled_scale": 2.0,
        "ordered": sorted(float(row) for row in (table @ np.eye(len(NAMES))[1] - centre[1])),
    }
    variant = {
        "views": 2,
        "features": list(NAMES),
        "centre": centre.tolist(),
        "scale": scale.tolist(),
        "rows": ((table - centre) / scale).tolist(),
        "neighbours": 2,
        "typical": 2.0,
        "far": 8.0,
        "least_n_over_d": 5.0,
        "probes": {"knn": probe},
        **changes,
    }
    on = {
        "runs": 12,
        "recipes": ["a", "b"],
        "data": {"digits": {"labelled": 1000}, "shapes": {"labelled": 4000}},
    }
    return Forecaster(
        {"format": 1, "version": "test", "level": 0.9, "trained_on": on, "variants": [variant]}
    )


def test_features_depend_on_neither_scale_nor_rotation():
    rows = views()
    turn = torch.linalg.qr(torch.randn(24, 24, generator=generator(1, "turn")).double()).Q
    expected = forecast_features(signs(*rows))
    assert set(expected) == set(NAMES)
    for changed in ([17.0 * v for v in rows], [v @ turn for v in rows]):
        found = forecast_features(signs(*changed))
        for name in NAMES:
            assert math.isclose(found[name], expected[name], rel_tol=1e-6, abs_tol=1e-6), name


def test_features_of_isotropic_rows_are_those_of_a_flat_spectrum():
    d = 16
    eye = torch.eye(d, dtype=torch.float64)
    rows = torch.cat([eye, -eye])  # centred, every direction alike
    found = forecast_features(signs(rows, -rows))
    assert math.isclose(found["log_rank"], math.log(d), rel_tol=1e-9)
    assert math.isclose(found["log_stable_rank"], math.log(d), rel_tol=1e-9)
    assert math.isclose(found["auc"], (d + 1) / (2 * d), rel_tol=1e-9)
    assert math.isclose(found["log_tail"], math.log(1 / 2), rel_tol=1e-9)
    assert math.isclose(found["log_spread"], 0.0, abs_tol=1e-9)
    assert math.isclose(found["log_alignment"], math.log(4), rel_tol=1e-9)


def test_one_view_has_the_features_of_one_view():
    assert set(forecast_features(signs(views()[0]))) == set(names_for(1))
    assert set(names_for(2)) - set(names_for(1)) == {"log_alignment", "log_view_share"}


@pytest.mark.parametrize("broken", [{"spectrum": []}, {"spread": None}, {"effective_rank": 0.0}])
def test_without_a_measurement_there_is_no_forecast(broken):
    found = fitted().forecast({**signs(*views()), **broken}, "digits")
    assert not found.expected and found.standing is None and "missing" in str(found.reason)


def test_a_constant_has_no_forecast():
    rows = torch.ones(50, 8, dtype=torch.float64)
    found = forecast(signs(rows, rows), "fashion-mnist")
    assert not found.expected and found.standing is None and found.reason


def test_an_accuracy_is_told_for_known_data_and_only_a_standing_for_others():
    known, unknown = (fitted().forecast(signs(*views()), data) for data in ("digits", "cifar10"))
    accuracy = known.expected["knn"]
    assert 0 < accuracy.low < accuracy.value < accuracy.high < 1
    assert known.labelled == 1000 and known.reason is None
    assert unknown.expected == {} and unknown.standing == known.standing
    assert "cifar10" in str(unknown.reason) and "digits, shapes" in str(unknown.reason)
    assert fitted().forecast(signs(*views())).standing == known.standing


def test_the_constant_of_the_data_set_and_the_labelled_images_count():
    odds = {}
    for data, labelled in (("digits", 1024), ("digits", 4096), ("shapes", 1024)):
        p = fitted().forecast(signs(*views()), data, labelled).expected["knn"].value
        odds[data, labelled] = math.log(p / (1 - p))
    assert math.isclose(odds["digits", 4096] - odds["digits", 1024], 0.25, abs_tol=1e-9)
    assert math.isclose(odds["digits", 1024] - odds["shapes", 1024], 2.0, abs_tol=1e-9)


@pytest.mark.parametrize("labelled", [0, -5])
@pytest.mark.parametrize("data", ["fashion-mnist", "cifar10", None])
def test_a_probe_needs_labelled_images(data, labelled):
    with pytest.raises(UserError, match=f"labelled: {labelled} given. Allowed: 1 or more"):
        forecast(signs(*views()), data, labelled)


def test_what_is_unlike_widens_the_interval_and_what_is_far_has_none():
    def width(forecaster, rows):
        p = forecaster.forecast(signs(*rows), "digits").expected["knn"]
        return math.log(p.high / (1 - p.high)) - math.log(p.low / (1 - p.low))

    near = views(decay=0.1, noise=0.5)
    apart = views(decay=0.3, noise=0.5)
    assert math.isclose(width(fitted(), near), 1.0, rel_tol=1e-9)  # twice the half-width
    novelty = fitted(far=1e9).forecast(signs(*apart), "digits").novelty
    assert novelty > 1
    assert math.isclose(width(fitted(far=1e9), apart), novelty, rel_tol=1e-9)
    far = fitted(far=1e-9).forecast(signs(*apart), "digits")
    assert far.expected == {} and far.standing is None
    assert "unlike" in str(far.reason) and "theirs are" in str(far.reason)


def test_too_few_images_a_dimension_have_no_forecast():
    found = fitted().forecast(signs(*views(n=60)), "digits")
    assert not found.expected and "60 images" in str(found.reason)


def test_a_data_set_is_its_classes_and_its_size():
    assert data_key("digits") == "digits"
    assert data_key("shapes", "shape", 16) == "shapes (label shape, 16 pixels)"
    assert data_key("shapes", "shape") != data_key("shapes", "x")


def test_a_forecast_is_said_as_its_record_says_it():
    for data in ("digits", "cifar10"):
        found = fitted().forecast(signs(*views()), data)
        kept = json.loads(json.dumps({"event": "forecast", **found.to_dict()}))
        assert sentences(kept) == found.sentences() != []
    assert sentences({}) == []
    assert sentences({"expected": {"knn": 3}}) == []
    assert sentences({"expected": [1], "standing": "x"}) == []


def test_a_model_of_another_kind_or_format_is_refused():
    with pytest.raises(UserError, match="ridge, trees"):
        evaluate({"kind": "oracle"}, np.zeros((1, 2)))
    with pytest.raises(UserError, match="Allowed: 1"):
        Forecaster({"format": 99})


def test_distances_are_those_of_scipy():
    from scipy.spatial.distance import cdist

    random = np.random.default_rng(0)
    rows, to = random.normal(size=(7, 3)), random.normal(size=(9, 3))
    expected = np.sort(cdist(rows, to), axis=1)[:, 2]
    np.testing.assert_allclose(nearest_distances(rows, to, 3), expected)


def test_what_ships_knows_what_it_was_fitted_on():
    on = shipped().fitted["trained_on"]
    assert on["runs"] >= 150 and len(on["recipes"]) >= 9
    assert {v["views"] for v in shipped().fitted["variants"]} == {1, 2}
    assert all(
        set(v["features"]) == set(names_for(v["views"])) for v in shipped().fitted["variants"]
    )
