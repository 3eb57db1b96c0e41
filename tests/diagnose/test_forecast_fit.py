"""Forecasts are scored on what was left out, intervals cover it, what ships is what was fitted."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fullrank.measure
from fullrank.diagnose.forecast_baselines import BASELINES
from fullrank.diagnose.forecast_fit import (
    Unlikeness,
    conformal_quantile,
    coverage,
    fit_forecaster,
    fit_with_interval,
)
from fullrank.diagnose.forecast_models import (
    CANDIDATES,
    Candidate,
    Training,
    plain_trees,
)
from fullrank.diagnose.forecast_scores import (
    choose,
    error_difference,
    folds,
    nested,
    order_difference,
    out_of_fold,
    score,
    spearman_within,
)
from fullrank.diagnose.forecast_table import RunRow, read_table, write_table
from fullrank.errors import UserError
from fullrank.measure.forecast import Forecaster
from fullrank.measure.forecast_features import names_for
from fullrank.measure.forecast_model import evaluate, expit, logit

NAMES = names_for(2)
RIDGES = CANDIDATES[:3]


def sigmoid(odds):
    return 1 / (1 + math.exp(-float(odds)))


def rows(recipes=12, kinds=4, seeds=2, noise=0.1, effect=0.2, data=("digits", "shapes"), seed=0):
    """Runs whose log-odds are a weighted sum of their features, a recipe's own part, and noise."""
    random = np.random.default_rng(seed)
    made = []
    for r in range(recipes):
        own = effect * random.normal()
        for k in range(kinds):
            base = random.normal(size=len(NAMES))
            for s in range(seeds):
                x = base + 0.05 * random.normal(size=len(NAMES))
                where = data[k % len(data)]
                odds = 0.6 * x[0] - 0.4 * x[3] + own + noise * random.normal()
                odds += {"digits": 1.0}.get(where, 0.0)
                made.append(row(r, k, s, where, x, sigmoid(odds)))
    return made


def row(r, k, s, data, x, accuracy):
    return RunRow(
        run=f"run-{r}-{k}-{s}",
        hash=f"{r}{k}{s}",
        kind=f"{r}-{k}",
        recipe=f"recipe-{r}",
        form="",
        backbone="conv4",
        width=(4, 8)[k // 2 % 2],
        data=data,
        train_images=1000,
        stream="iid",
        seed=s,
        steps=10,
        d=64,
        n=1000,
        labelled=1000 * (1 + k // 2 % 2),
        tested=500,
        classes=10,
        features={name: float(value) for name, value in zip(NAMES, x, strict=True)},
        metrics={"cev_auc": 0.5 - 0.01 * float(x[0]), "lidar": 3.0, "final_loss": float(r)},
        accuracy={"knn": accuracy, "linear": accuracy},
        random={"knn": 0.5, "linear": 0.5},
    )


def training(**settings):
    return Training.of(rows(**settings), "knn")


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("n", [9, 10, 19])
def test_with_one_run_a_group_the_quantile_is_that_of_split_conformal_prediction(n, level):
    residuals = np.random.default_rng(n).normal(size=n)
    groups = np.array([str(i) for i in range(n)])
    place = math.ceil(level * (n + 1) - 1e-9)
    expected = np.sort(np.abs(residuals))[place - 1] if place <= n else math.inf
    assert conformal_quantile(residuals, groups, level) == expected


def test_the_quantile_covers_a_new_group_of_exchangeable_ones():
    # Groups of different sizes and of spreads of their own: exchangeable, not alike.
    random = np.random.default_rng(0)
    inside = []
    for _ in range(600):
        sizes = random.integers(1, 6, size=13)
        residuals = [random.lognormal() * random.normal(size=size) for size in sizes]
        groups = np.repeat(np.arange(12).astype(str), sizes[:-1])
        limit = conformal_quantile(np.concatenate(residuals[:-1]), groups, 0.8)
        inside.append((np.abs(residuals[-1]) <= limit).mean())
    error = np.std(inside) / math.sqrt(len(inside))
    assert np.mean(inside) >= 0.8 - 3 * error
    assert np.mean(inside) <= 0.8 + 1 / 13 + 3 * error


def test_too_few_groups_have_no_quantile():
    assert conformal_quantile(np.ones(4), np.array(list("abcd")), 0.9) == math.inf


def test_intervals_cover_recipes_that_were_left_out():
    found = [coverage(training(recipes=13, seed=seed), RIDGES[:1]) for seed in range(2)]
    inside = np.concatenate([one.inside for one in found])
    assert inside.mean() >= 0.87  # 90 % were asked for
    assert all((one.width > 0).all() for one in found)


@pytest.mark.parametrize("by", ["run", "recipe", "width", "data"])
def test_what_is_left_out_shares_no_group_with_what_stays(by):
    table = training(kinds=8)
    held_out = np.zeros(len(table), int)
    for kept, held in folds(table, by):
        assert not (kept & held).any() and held.any() and kept.any()
        assert not set(table.kind[kept]) & set(table.kind[held])
        if by == "run":
            assert set(table.recipe[kept]) == set(table.recipe[held])
        else:
            assert not set(getattr(table, by)[kept]) & set(getattr(table, by)[held])
        held_out += held
    assert (held_out == 1).all()


def test_labels_of_the_same_images_are_left_out_together():
    table = training(data=("shapes (label shape)", "shapes (label x)", "digits"))
    for kept, held in folds(table, "data"):
        assert {"digits"} in (set(table.data[kept]), set(table.data[held]))


@pytest.mark.parametrize("by", ["recipe", "width", "data"])
def test_accuracies_of_what_is_left_out_change_nothing_that_is_said_of_it(by):
    table = training()
    before = out_of_fold(table, nested(RIDGES), by)
    _, held = next(iter(folds(table, by)))
    other = np.where(held, 1 - table.accuracy, table.accuracy)
    after = out_of_fold(replace(table, accuracy=other), nested(RIDGES), by)
    np.testing.assert_array_equal(after[held], before[held])
    assert not np.array_equal(after[~held], before[~held])


def test_a_feature_that_names_the_recipe_is_worth_nothing_for_a_new_one():
    # Accuracy depends on the recipe alone, and a feature tells the recipe.
    random = np.random.default_rng(0)
    odds = random.normal(size=12)
    made = []
    for one in rows(noise=0.0, effect=0.0):
        r = int(one.recipe.removeprefix("recipe-"))
        features = dict.fromkeys(NAMES, 0.0) | {"log2_d": float(r)}
        accuracy = {"knn": sigmoid(odds[r]), "linear": 0.5}
        made.append(replace(one, features=features, accuracy=accuracy))
    table = Training.of(made, "knn")
    trees = CANDIDATES[-1]
    seen = np.abs(trees.fit(table)(table) - table.accuracy).mean()
    unseen = np.abs(out_of_fold(table, trees.fit, "recipe") - table.accuracy).mean()
    constant = np.abs(table.accuracy - table.accuracy.mean()).mean()
    assert seen < 0.1 * constant and unseen > 0.8 * constant


def test_ridge_is_that_of_scikit_learn_and_learns_the_weights():
    from sklearn.linear_model import Ridge

    table = training(recipes=40, noise=0.01, effect=0.0, data=("digits",))
    fitted = Candidate("ridge", "ridge", penalty=2.0).fit(table)
    inputs = fitted.inputs(table)
    expected = Ridge(alpha=2.0).fit(inputs, logit(table.accuracy)).predict(inputs)
    plain = json.loads(json.dumps(fitted.model))
    said = evaluate(plain, inputs) + fitted.intercepts["digits"]
    np.testing.assert_allclose(said, expected, atol=1e-10)
    unscaled = np.array(fitted.model["weights"][:-1]) / fitted.scale
    np.testing.assert_allclose(unscaled, [0.6, 0, 0, -0.4, *[0.0] * 6], atol=0.02)


def test_trees_from_json_are_those_of_scikit_learn():
    from sklearn.ensemble import GradientBoostingRegressor

    random = np.random.default_rng(0)
    inputs = random.normal(size=(200, 5))
    target = np.sin(inputs[:, 0]) + inputs[:, 1] * inputs[:, 2]
    forest = GradientBoostingRegressor(n_estimators=30, max_depth=3, random_state=0)
    forest.fit(inputs, target)
    plain = json.loads(json.dumps(plain_trees(forest)))
    new = random.normal(size=(500, 5))
    np.testing.assert_allclose(evaluate(plain, new), forest.predict(new), atol=1e-12)


def test_data_sets_have_constants_of_their_own_and_unknown_ones_the_mean():
    table = training(recipes=40, noise=0.01, effect=0.0)
    fitted = RIDGES[0].fit(table)
    apart = fitted.intercepts["digits"] - fitted.intercepts["shapes"]
    assert math.isclose(apart, 1.0, abs_tol=0.05)
    assert math.isclose(fitted.unknown, sum(fitted.intercepts.values()) / 2)
    unknown = replace(table, data=np.array(["cifar10"] * len(table)))
    assert np.isfinite(fitted(unknown)).all()


def test_a_line_on_a_metric_that_is_linear_in_accuracy_is_exact():
    table = training()
    table = replace(table, metrics={"cev_auc": 3 - 2 * table.accuracy})
    auc = next(b for b in BASELINES if b.metrics == ("cev_auc",))
    for by in ("recipe", "width"):
        np.testing.assert_allclose(out_of_fold(table, auc.fit, by), table.accuracy, atol=1e-9)
    missing = np.where(np.arange(len(table)) < 5, np.nan, table.metrics["cev_auc"])
    expected = auc.fit(replace(table, metrics={"cev_auc": missing}))
    assert np.isfinite(expected(table)).all()
    mean = BASELINES[0].fit(replace(table, labelled=np.full(len(table), 9.0)))
    some = table.data == "digits"
    level = table.accuracy[some].mean()
    np.testing.assert_allclose(
        mean(replace(table.take(some), labelled=np.full(some.sum(), 9.0))), level
    )


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda b: b.title)
def test_a_line_says_the_same_of_a_run_whatever_runs_are_beside_it(baseline):
    table, random = training(), np.random.default_rng(1)
    table = replace(table, metrics={m: random.normal(size=len(table)) for m in baseline.metrics})
    line = baseline.fit(table)
    alone = [line(table.take(np.array([i])))[0] for i in range(len(table))]
    np.testing.assert_allclose(alone, line(table), atol=1e-12)


def test_the_parts_of_clid_count_alike_in_any_unit_and_not_at_all_where_they_are_equal():
    table, random = training(), np.random.default_rng(1)
    clid = next(b for b in BASELINES if b.title == "CLID")
    learned, dimension = random.normal(size=(2, len(table)))

    def said(learned, dimension, of=slice(None)):
        own = replace(table, metrics={"clid_learnability": learned, "twonn": dimension})
        return clid.fit(own.take(np.arange(len(table))[of]))(own)

    found = said(learned, dimension)
    np.testing.assert_allclose(said(0.1 * learned + 3, 50 * dimension), found, atol=1e-9)
    equal = np.where(np.arange(len(table)) < 50, 0.1, dimension)
    constant = said(learned, np.full(len(table), 7.0), slice(50))
    np.testing.assert_allclose(said(learned, equal, slice(50)), constant, atol=1e-9)
    unknown = np.where(np.arange(len(table)) < 50, np.nan, dimension)
    line = clid.fit(replace(table, metrics={"clid_learnability": learned, "twonn": unknown}))
    assert np.isfinite(line(table)).all()
    none = said(learned, unknown, slice(50))
    np.testing.assert_allclose(none, said(0 * learned, 0 * dimension, slice(50)), atol=1e-9)


def test_the_order_is_that_of_scipy_and_knows_no_data_set():
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    x = random.normal(size=50)
    y = x + random.normal(size=50)
    one = np.array(["a"] * 50)
    assert math.isclose(spearman_within(x, y, one), spearmanr(x, y).statistic, abs_tol=1e-12)
    two = np.array(["a"] * 25 + ["b"] * 25)
    shifted = np.where(two == "a", 100.0, 0.0)
    assert math.isclose(
        spearman_within(x + shifted, y + shifted, two), spearman_within(x, y, two), abs_tol=1e-12
    )
    assert math.isnan(spearman_within(x, np.ones(50), one))


def test_a_perfect_forecast_has_no_error_and_beats_another():
    table = training()
    found = score(table, table.accuracy, "recipe")
    assert found.error.value == found.error.high == 0
    assert math.isclose(found.spearman.value, 1.0) and found.groups == 12
    apart = error_difference(table, table.accuracy, table.accuracy + 0.02)
    assert all(math.isclose(x, -2, abs_tol=1e-9) for x in (apart.value, apart.low, apart.high))


def test_forecasts_are_compared_on_the_same_resamples():
    table, random = training(), np.random.default_rng(3)
    noisy = table.accuracy + random.normal(0, 0.1, len(table))
    same = order_difference(table, noisy, noisy + 1, "recipe")
    assert same.value == same.low == same.high == 0
    better = order_difference(table, table.accuracy, noisy, "recipe")
    assert 0 < better.low < better.value < better.high
    # Where one recipe alone is wrong, how wrong a new recipe would be is hardly known.
    wrong = np.where(table.recipe == table.recipe[0], table.accuracy + 0.3, table.accuracy)
    runs, recipes = (error_difference(table, wrong, table.accuracy, by) for by in (None, "recipe"))
    assert runs.value == recipes.value > 0
    assert recipes.low < runs.low and recipes.high > runs.high


def test_the_simplest_of_equally_good_models_is_chosen():
    table = training(recipes=10)
    same = [replace(RIDGES[0], name="first"), replace(RIDGES[0], name="second")]
    assert choose(table, same)[0].name == "first"
    of_one = table.take(table.recipe == "recipe-0")  # by leaving configurations out
    assert choose(of_one)[0].kind == "ridge"
    hopeless = Candidate("hopeless", "ridge", penalty=1e9)
    assert choose(table, [hopeless, RIDGES[0]])[0].name == RIDGES[0].name


def test_a_row_far_from_all_is_novel_and_one_of_them_is_not():
    table = training()
    unlike = Unlikeness.of(table, np.zeros(len(NAMES)), np.ones(len(NAMES)))
    near, far = unlike.novelty(np.stack([unlike.rows[0], unlike.rows[0] + 50]))
    assert near < 2 < far
    assert unlike.typical <= unlike.far


def test_what_is_fitted_serves_as_it_was_fitted():
    made = rows(recipes=14)
    forecaster = Forecaster(json.loads(json.dumps(fit_forecaster(made, "test", RIDGES))))
    assert "test: 112 runs of 14 recipes on digits, shapes" in forecaster.basis
    model = fit_with_interval(Training.of(made, "knn"), RIDGES)
    probe = forecaster.fitted["variants"][0]["probes"]["knn"]
    assert probe["half_width"] == model.half_width
    said = np.array([probe["intercepts"][r.data] for r in made])
    inputs = model.fitted.inputs(Training.of(made, "knn"))
    np.testing.assert_allclose(
        expit(evaluate(probe["model"], inputs) + said),
        model.fitted(Training.of(made, "knn")),
        atol=1e-9,
    )


def test_a_table_is_read_as_it_was_written(tmp_path):
    made = rows(recipes=2)
    made[0] = replace(made[0], metrics={}, form="linear, predictor none", width=0)
    path = tmp_path / "new" / "table.csv"
    write_table(made, path)
    read = read_table(path)
    assert [replace(r, features={}, accuracy={}, metrics={}) for r in read] == [
        replace(r, features={}, accuracy={}, metrics={}) for r in made
    ]
    for ours, theirs in zip(read, made, strict=True):
        assert ours.metrics.keys() == theirs.metrics.keys()
        for name in NAMES:
            assert math.isclose(ours.features[name], theirs.features[name], rel_tol=1e-6)
    write_table(read, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == path.read_bytes()


def test_bad_tables_and_stores_are_named(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "bad.csv").write_text("run,seed\nx,two\n")
    with pytest.raises(UserError, match=r"line 2 of .*bad\.csv"):
        read_table(tmp_path / "bad.csv")
    with pytest.raises(UserError, match="Allowed: probed runs"):
        fit_forecaster([], "test")
    unlabelled = [replace(one, accuracy={}) for one in rows(recipes=2)]
    with pytest.raises(UserError, match="Allowed: probed runs"):
        fit_forecaster(unlabelled, "test")
    with pytest.raises(UserError, match="they need labels"):
        Training.of(unlabelled, "knn")
    with pytest.raises(UserError, match=r"1 recipe given\. Allowed: 9 or more"):
        fit_forecaster(rows(recipes=1), "test")
    with pytest.raises(UserError, match="the recipe recipe-0"):
        list(folds(training(recipes=1), "recipe"))


@pytest.mark.slow
def test_what_ships_is_what_its_table_gives():
    folder = Path(fullrank.measure.__path__[0]) / "fitted"
    shipped = json.loads((folder / "forecast.json").read_text())
    found = json.loads(json.dumps(fit_forecaster(read_table(folder / "forecast.csv"), "again")))
    assert found["trained_on"] == shipped["trained_on"]
    for ours, theirs in zip(found["variants"], shipped["variants"], strict=True):
        for probe in ("knn", "linear"):
            assert ours["probes"][probe]["name"] == theirs["probes"][probe]["name"]
            for key in ("half_width", "labelled_centre"):
                a, b = (v["probes"][probe][key] for v in (ours, theirs))
                assert math.isclose(a, b, rel_tol=1e-6)
        np.testing.assert_allclose(ours["rows"], theirs["rows"], atol=1e-3)
