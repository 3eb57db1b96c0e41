"""Recipes in a user's own file."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import yaml

import fullrank
from fullrank.cli import main
from fullrank.errors import UserError
from fullrank.recipes.registry import recipe
from fullrank.train.folder import config_of, default_folder
from fullrank.train.resolve import resolve

OWN = '''
"""SimSiam with an objective of its own: the squared cosine."""

from dataclasses import dataclass, replace
from typing import ClassVar

from fullrank.models.objectives.objective import Loss, Objective
from fullrank.models.settings.objective import ObjectivePart
from fullrank.recipes.registry import recipe as known
from torch.nn.functional import cosine_similarity


@dataclass(frozen=True)
class SquaredCosine(ObjectivePart):
    kind: ClassVar[str] = "squared-cosine"

    weight: float = 1.0

    def build(self, dim, images=0):
        return SquaredCosineObjective(self.weight)

    def collapsed_loss(self, dim, batch_size):
        return -self.weight


class SquaredCosineObjective(Objective):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, outputs):
        pairs = [cosine_similarity(p, t).square().mean() for p, t in outputs.ordered_pairs()]
        return Loss.of(squared=-self.weight * sum(pairs) / len(pairs))


mine = replace(known("simsiam"), name="mine", objective=SquaredCosine())
number = 3
'''
TINY = {
    "preset": "small",
    "data": "digits",
    "backbone": {"name": "conv4", "width": 2},
    "batch_size": 64,
    "steps": 4,
    "threads": 1,
    "device": "cpu",
    "checkup": {"size": 100},
    "probe": {"train": 200, "test": 100},
}


@pytest.fixture
def own(tmp_path) -> Path:
    path = tmp_path / "my_recipe.py"
    path.write_text(OWN)
    return path


def test_a_file_with_parts_of_its_own_trains_and_is_found_again(own, tmp_path, monkeypatch):
    monkeypatch.chdir(own.parent)
    out = tmp_path / "run"
    done = fullrank.train("my_recipe.py:mine", **TINY, out=str(out))
    assert done.status == "finished"
    kept = yaml.safe_load((out / "config.yaml").read_text())
    assert kept["recipe"]["name"] == f"{own}:mine"
    assert kept["recipe"]["objective"] == {"kind": "squared-cosine", "weight": 1.0}
    monkeypatch.chdir("/")
    assert config_of(out).recipe == recipe(f"{own}:mine").preset("small")


def test_its_runs_lie_beside_all_others(own):
    for name, shown in (
        (f"{own}:mine/without-predictor", "my_recipe-mine-without-predictor-digits-conv4-"),
        ("simsiam/linear", "simsiam-linear-digits-conv4-"),
    ):
        folder = default_folder(resolve({"recipe": name, **TINY}))
        assert folder.parent == Path("runs") and folder.name.startswith(shown)


def test_its_settings_are_options_and_its_variants_are_known(own):
    config = resolve({"recipe": f"{own}:mine", **TINY, "recipe.objective.weight": 2.0})
    assert config.recipe.objective.to_dict() == {"kind": "squared-cosine", "weight": 2.0}
    ablated = recipe(f"{own}:mine/without-predictor")
    assert ablated.predictor == recipe("simsiam/without-predictor").predictor
    assert ablated.name == f"{own}:mine/without-predictor"
    assert recipe(ablated.name) == ablated


def test_it_is_shown_like_any_other(own, capsys):
    assert main(["recipes", f"{own}:mine", "simsiam"]) == 0
    assert "* objective" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (OWN, "my_recipe.py:mime", "Did you mean 'mine'"),
        (OWN, "my_recipe.py", "my_recipe.py:NAME, NAME one of mine"),
        (OWN, "my_recipe.py:number", "names no recipe"),
        ("x = 1\n", "my_recipe.py:mine", "does not"),
        ("x = 1\nimport no_such_module\n", "my_recipe.py:mine", "fails in line 2"),
        ("x = 1\ndef f(:\n", "my_recipe.py:mine", "fails in line 2: SyntaxError"),
        (OWN, "other.py:mine", "there is no file"),
        (OWN, "my_recipe.py:mine/without-stopgradient", "Did you mean 'without-stop-gradient'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text, name, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "my_recipe.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main(["train", name, "--data", "digits"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_an_audit_does_not_run_a_file_that_a_run_names(own, tmp_path):
    out = tmp_path / "run"
    fullrank.train(f"{own}:mine", **TINY, out=str(out))
    with pytest.raises(UserError, match="to read the run is to run it"):
        fullrank.audit(out, limit=50)
    assert fullrank.audit(out, limit=50, trust=True).audits


def test_a_file_of_ones_own_goes_to_other_processes(own):
    config = resolve(TINY | {"recipe": f"{own}:mine"})
    sent = pickle.dumps(config)
    assert b"fullrank_recipe_" not in sent  # the module is this process's alone
    assert pickle.loads(sent) == config


@pytest.mark.slow
def test_a_file_of_ones_own_is_swept(own, tmp_path):
    grid = {"base": TINY | {"recipe": f"{own}:mine"}, "seeds": [0, 1]}
    store = {"runs": tmp_path / "runs", "out": tmp_path / "out"}
    done = fullrank.sweep(grid, engine="pool", workers=1, **store)
    assert not done.failed and len(list((tmp_path / "runs").glob("*/encoder.json"))) == 2
