import itertools
import subprocess
import sys

import pytest
import yaml

from fullrank.errors import UserError
from fullrank.experiments.grid import read_grid
from fullrank.train.resolve import resolve

BASE = {"recipe": "simsiam", "preset": "small", "data": "digits", "steps": 5}


def of(**given):
    return read_grid({"base": BASE, **given})


def test_every_combination_is_a_point_with_every_seed():
    grid = of(
        grid={"optimizer.lr": [0.1, 0.2], "recipe": {"predictor": ["mlp", "none"]}},
        sets={"width": {"narrow": {"backbone.width": 4}, "wide": {"backbone": {"width": 8}}}},
        seeds=[3, 5],
    )
    assert list(grid.axes) == ["optimizer.lr", "recipe.predictor", "width"]
    everything = itertools.product([0.1, 0.2], ["mlp", "none"], ["narrow", "wide"], [3, 5])
    assert {(*p.labels.values(), p.seed) for p in grid.points} == set(everything)
    assert len({p.config.identity() for p in grid.points}) == 16
    for point in grid.points:
        lr, predictor, width = point.labels.values()
        assert point.config.optimizer.lr == lr
        assert point.config.recipe.predictor.kind == predictor
        assert point.config.backbone.width == {"narrow": 4, "wide": 8}[width]
        assert point.config.run.seed == point.seed


def test_a_point_is_what_train_makes_of_the_same_settings():
    (point,) = of(grid={"optimizer.lr": [0.3]}, seeds=[7]).points
    assert point.config == resolve(BASE | {"optimizer.lr": 0.3, "seed": 7})


def test_all_points_come_once_before_any_comes_twice():
    points = of(grid={"optimizer.lr": [0.1, 0.2, 0.3]}, seeds=2).points
    assert [p.seed for p in points] == [0, 0, 0, 1, 1, 1]


def test_who_hands_out_the_runs_imports_no_torch():
    code = (
        "import sys, fullrank.experiments.sweep\n"
        "from fullrank.experiments.grid import read_grid\n"
        f"read_grid({ {'base': BASE, 'seeds': 2} })\n"
        "print(sorted({'torch', 'lightning', 'sklearn', 'plotly'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_file_is_read_as_what_it_holds(tmp_path):
    given = {"base": BASE, "grid": {"optimizer.lr": [0.1, 0.2]}, "seeds": 2}
    path = tmp_path / "rates.yaml"
    path.write_text(yaml.safe_dump(given))
    grid = read_grid(path)
    assert grid.name == "rates"
    assert grid.points == read_grid(given).points


def test_a_grid_without_a_file_is_named_by_what_it_holds():
    grids = [{"base": BASE, "seeds": n} for n in (1, 2)]
    names = [read_grid(grid).name for grid in grids]
    assert len(set(names)) == 2
    assert names == [read_grid(dict(grid)).name for grid in grids]


def test_a_number_without_a_point_is_a_number_all_the_same(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text("base: {data: digits}\ngrid: {optimizer.lr: [1e-3, 0.001, 2e-3]}\n")
    grid = read_grid(path)  # YAML takes 1e-3 for text
    assert grid.axes == {"optimizer.lr": [0.001, 0.002]}
    assert len(grid.points) == 2 and len(grid.merged) == 1


def test_points_of_one_configuration_are_one_and_it_is_said():
    named = {"both": {"optimizer.lr": 0.1}, "again": {"optimizer": {"lr": 0.1}}}
    grid = of(sets={"rate": named}, seeds=2)
    assert [(p.labels["rate"], p.seed) for p in grid.points] == [("both", 0), ("both", 1)]
    assert grid.merged == ["rate again is the same as rate both"]


def test_settings_of_a_part_go_with_the_part():
    base = BASE | {"recipe.predictor.hidden": 24}
    grid = read_grid({"base": base, "grid": {"recipe.predictor": ["mlp", "none"]}})
    mlp, none = (p.config.recipe.predictor for p in grid.points)
    assert mlp.hidden == 24 and none.kind == "none"


def test_a_length_replaces_the_other_length():
    grid = of(grid={"epochs": [1, 2]})
    assert [p.config.run.epochs for p in grid.points] == [1, 2]
    assert [p.config.run.steps for p in grid.points] == [None, None]


def test_a_base_alone_is_one_point_of_its_seed():
    (point,) = read_grid({"base": BASE | {"seed": 4}}).points
    assert point.seed == 4 and point.config.run.seed == 4 and str(point) == "seed 4"
    assert read_grid({"base": BASE | {"seed": 4}, "seeds": None}).points == [point]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "empty"),
        ({"base": {}, "grid": {}}, "empty"),
        ({"gird": {"optimizer.lr": [1]}}, "Did you mean 'grid'"),
        ({"base": {"optimizer.lrr": 1}}, "base: .*Did you mean '--optimizer.lr'"),
        ({"grid": {"optimizer.lrr": [1]}}, "optimizer.lrr 1: .*Did you mean '--optimizer.lr'"),
        ({"grid": {"optimizer.lr": []}}, "optimizer.lr: .*a list of values"),
        ({"grid": {"optimizer.lr": 0.1}}, "optimizer.lr: .*a list of values"),
        ({"grid": {"optimizer.lr": [0.1, "fast"]}}, "at optimizer.lr fast: optimizer.lr: 'fast'"),
        ({"grid": {"batch_size": [-1]}}, "at batch_size -1: batch_size: -1"),
        ({"grid": {"recipe": ["simsam"]}}, "Did you mean 'simsiam'"),
        ({"grid": {"backbone": [{"name": "conv4"}]}}, "under `sets`"),
        ({"grid": {"seed": [1, 2]}}, "`seeds`"),
        ({"sets": {"width": {}}}, "sets: width is empty"),
        ({"sets": {"width": [1]}}, "sets: width: .*a mapping"),
        ({"sets": {"width": {"one": 3}}}, "sets: width: one: 3"),
        ({"sets": {"w": {"one": {"backbone.widht": 3}}}}, "at w one: .*backbone.width"),
        ({"grid": {"steps": [3]}, "sets": {"a": {"b": {"steps": 4}}}}, "steps is set by two axes"),
        ({"base": BASE, "seeds": 0}, "seeds: 0"),
        ({"base": BASE, "seeds": [1, 1]}, "seeds: "),
        ({"base": BASE, "seeds": "3"}, "seeds: '3'"),
        ({"base": BASE, "seeds": ["a"]}, r"seeds: \['a'\]"),
        ({"base": BASE, "seeds": 3.0}, "seeds: 3.0"),
        ({"base": BASE, "seeds": [0.5]}, r"seeds: \[0.5\]"),
        ({"base": BASE, "seeds": [True]}, r"seeds: \[True\]"),
        ({"base": BASE, "seeds": {"a": 1}}, "seeds: {"),
        ({"sets": {"s": {"one": {"seed": 3}}}}, "sets: s: one: 'seed' is not .*`seeds`"),
        ({"sets": {"s": {"one": {"out": "x"}}}}, "sets: s: one: 'out' is not .*--runs"),
        (
            {"grid": {"steps": [3]}, "sets": {"steps": {"few": {"batch_size": 4}}}},
            "'steps' is the name of two axes",
        ),
        ({"base": {"seed": 1}, "seeds": 2}, "'seed' is not allowed here"),
        ({"base": {"out": "x"}}, "'out' is not allowed here"),
        ({"base": [1]}, "base: .*a mapping"),
    ],
)
def test_what_is_wrong_with_a_grid_is_named(given, message):
    with pytest.raises(UserError, match=message):
        read_grid(given)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"- 1", "holds list"),
        (b"grid: [1", "not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_grid_is_named(tmp_path, content, message):
    path = tmp_path / "grid.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path}.*{message}"):
        read_grid(path)
    with pytest.raises(UserError, match=r"no\.yaml cannot be read"):
        read_grid(tmp_path / "no.yaml")
