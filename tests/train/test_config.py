"""Configurations: one truth from keywords, command line and YAML; errors that help."""

from __future__ import annotations

import pytest
import yaml

from fullrank.errors import UserError
from fullrank.recipes.registry import recipes
from fullrank.train.resolve import resolve, resolve_command_line


@pytest.mark.parametrize("name", list(recipes()))
@pytest.mark.parametrize("preset", ["paper", "small"])
def test_goes_to_yaml_and_back(name, preset):
    config = resolve({"recipe": name, "preset": preset, "data": "digits", "steps": 3})
    again = resolve(yaml.safe_load(yaml.safe_dump(config.to_dict())))
    assert again == config
    assert again.identity() == config.identity()


def test_keywords_and_command_line_are_one():
    keywords = resolve(
        {
            "recipe": {"name": "byol", "predictor": "linear", "target": {"tau": 0.9}},
            "preset": "small",
            "data": {"name": "shapes", "size": 16},
            "backbone": {"name": "conv4", "width": 4},
            "optimizer": {"lr": 0.5},
            "steps": 7,
        }
    )
    line = "byol --recipe.predictor linear --recipe.target.tau 0.9 --preset small --data shapes "
    line += "--data.size=16 --backbone conv4 --backbone.width 4 --optimizer.lr 0.5 --steps 7"
    assert resolve_command_line(line.split()) == keywords


def test_dashes_and_underscores_are_one():
    a = resolve_command_line(["simsiam", "--batch-size", "32"])
    b = resolve_command_line(["simsiam", "--batch_size", "32"])
    assert a == b


def test_a_replaced_kind_brings_its_own_options():
    config = resolve_command_line(["simsiam", "--recipe.predictor", "linear"])
    assert config.recipe.predictor.to_dict() == {"kind": "linear", "bias": False}
    with pytest.raises(UserError, match=r"predictor\.hidden"):
        resolve_command_line(
            ["simsiam", "--recipe.predictor=linear", "--recipe.predictor.hidden=3"]
        )


def test_the_command_line_stands_above_the_file(tmp_path):
    first = resolve({"recipe": "byol", "steps": 5, "seed": 1, "backbone": {"width": 8}})
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(first.to_dict()))
    line = ["--config", str(path), "--seed", "2", "--epochs", "3", "--backbone", "mlp"]
    config = resolve_command_line(line)
    assert (config.run.seed, config.run.steps, config.run.epochs) == (2, None, 3.0)
    assert config.backbone.name == "mlp"
    assert config.recipe == first.recipe
    other = resolve_command_line(["simsiam", "--config", str(path)])
    assert other.recipe == recipes()["simsiam"]


def test_identity_ignores_machine_paths_and_logging():
    base = {"recipe": "simsiam", "data": "digits", "steps": 5}
    same = {"devices": 2, "threads": 1, "out": "x", "logger": "none", "log_every": 3}
    moved = {"data": {"name": "digits", "root": "/elsewhere", "workers": 7}}
    identity = resolve(base).identity()
    assert resolve(base | same).identity() == identity
    assert resolve(base | moved).identity() == identity
    for change in ({"seed": 1}, {"steps": 6}, {"optimizer": {"lr": 1.0}}, {"precision": "32"}):
        assert resolve(base | change).identity() != identity


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("simsam", "recipe: 'simsam' is not known. Did you mean 'simsiam'"),
        ("simsiam --data fashon-mnist", "Did you mean 'fashion-mnist'"),
        ("simsiam --backbone conv5", "Did you mean 'conv4'"),
        ("simsiam --recipe.predictor mpl", "recipe.predictor: 'mpl' is not known. Did you mean"),
        ("simsiam --recipe.target stopgradient", "Did you mean 'stop-gradient'"),
        ("simsiam --recipe.predictor.hiden 3", "Did you mean '--recipe.predictor.hidden'"),
        ("simsiam --optimiser.lr 3", "Did you mean '--optimizer.lr'"),
        ("simsiam --steps abc", "steps"),
        ("simsiam --steps", "--steps needs a value"),
        ("simsiam --steps 0", "steps: 0 is not allowed. Allowed: 1 or more"),
        ("simsiam --steps 3 --epochs 2", "one of the two"),
        ("simsiam --precision 16", "precision"),
        ("simsiam --preset tiny", "preset: 'tiny' is not allowed"),
        ("simsiam --batch_size 0", "batch_size: 0"),
        ("simsiam --batch_size 33 --devices 2", "divides batch_size"),
        ("simclr --batch_size 1", "compares the images of a batch"),
        ("byol --recipe.target.tau 1.5", "recipe.target.tau: 1.5 is not allowed"),
        (
            "simsiam --recipe.predictor none --recipe.predictor.hidden 3",
            "As chosen, recipe.predictor takes no options",
        ),
        ("byol --recipe.target.tau 1 --recipe.target.schedule constant", "never moves the target"),
        ("simclr --recipe.objective.temperature 0", "above 0"),
        ("vicreg --recipe.projector.out 1", "no rank to spread"),
        ("simsiam --recipe.views.count 1", "a positive is a pair"),
        ("simsiam --optimizer.lr -1", "optimizer.lr"),
        ("simsiam stray", "'stray' is not expected here"),
        ("simsiam --config missing.yaml", "missing.yaml cannot be read"),
    ],
)
def test_bad_input_is_named_with_what_is_allowed(line, message):
    with pytest.raises(UserError) as caught:
        resolve_command_line(line.split())
    assert message in str(caught.value)


def test_broken_yaml_is_named(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("a: [1")
    with pytest.raises(UserError, match=r"broken\.yaml is not valid YAML"):
        resolve_command_line(["--config", str(path)])
    path.write_text("- 1")
    with pytest.raises(UserError, match="holds list"):
        resolve_command_line(["--config", str(path)])
