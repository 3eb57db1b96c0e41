"""Laws that every recipe obeys; a new recipe is picked up by itself."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from fullrank.models.settings import FIELDS
from fullrank.models.settings.backbone import Conv4
from fullrank.models.settings.projector import NoProjector
from fullrank.models.settings.target import Momentum, Online
from fullrank.recipes.recipe import Recipe
from fullrank.recipes.registry import recipes

ALL = list(recipes().values())
every_recipe = pytest.mark.parametrize("recipe", ALL, ids=lambda r: r.name)
BACKBONE = Conv4(width=2)


def small(recipe: Recipe):
    torch.manual_seed(0)
    return recipe.preset("small").build(BACKBONE, channels=1, size=16)


def views(n=8, seed=0):
    gen = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 1, 16, 16, generator=gen) for _ in range(2)]


@every_recipe
def test_goes_to_yaml_and_back(recipe):
    text = yaml.safe_dump(recipe.to_dict())
    plain = yaml.safe_load(text)
    assert plain.pop("name") == recipe.name
    parts = {}
    for field, values in plain.items():
        parts[field] = FIELDS[field][values.pop("kind")](**values)
    assert replace(recipe, **parts) == recipe
    assert hash(replace(recipe, **parts)) == hash(recipe)


@every_recipe
def test_states_its_paper_and_what_prevents_collapse(recipe):
    assert recipe.paper.arxiv
    assert recipe.equations
    assert any(p.collapse == "complete" for p in recipe.prevents)


@every_recipe
@pytest.mark.parametrize("preset", ["paper", "small"])
def test_collapsed_loss_is_the_loss_of_constant_embeddings(recipe, preset):
    chosen = recipe.preset(preset)
    n, d = 8, chosen.embedding_dim(32)
    constant = [torch.linspace(-1, 2, d).expand(n, d)] * 2
    from fullrank.models.objectives.objective import Outputs

    loss = chosen.objective.build(d)(Outputs(constant, constant, constant, constant))
    expected = chosen.collapsed_loss(32, n)
    assert float(loss.total) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@every_recipe
def test_gradients_reach_what_the_target_says(recipe):
    network = small(recipe)
    network.loss(network(views())).total.backward()
    for name, parameter in network.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert reached == (not name.startswith("target.")), name


@every_recipe
def test_the_network_states_the_dimension_of_its_features(recipe):
    network = small(recipe)
    outputs = network(views())
    assert outputs.features[0].shape == (8, network.feature_dim)
    assert outputs.embeddings[0].shape[1] == recipe.preset("small").embedding_dim(
        network.feature_dim
    )


@every_recipe
def test_permuting_the_batch_changes_nothing(recipe):
    network = small(recipe).double()
    batch = [view.double() for view in views()]
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    first = network.loss(network(batch)).total
    second = network.loss(network([view[order] for view in batch])).total
    torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-9)


@every_recipe
def test_a_state_dict_restores_everything(recipe):
    network = small(recipe)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    other.load_state_dict(network.state_dict())
    x = views()
    torch.testing.assert_close(network.loss(network(x)).total, other.loss(other(x)).total)


@every_recipe
def test_bf16_agrees_with_float32(recipe):
    network = small(recipe)
    x = views(n=32)
    exact = network.loss(network(x)).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(x)
        rounded = network.loss(outputs).total
    assert rounded.dtype == torch.float32
    scale = abs(recipe.preset("small").collapsed_loss(16, 32)) + 1
    assert abs(float((rounded - exact).detach())) < 0.05 * scale


@every_recipe
def test_any_field_can_be_replaced(recipe):
    plain = replace(recipe.preset("small"), target=Online(), projector=NoProjector())
    network = plain.build(BACKBONE, 1, 16)
    assert torch.isfinite(network.loss(network(views())).total)


@every_recipe
def test_a_momentum_target_starts_as_the_online_network(recipe):
    network = replace(recipe.preset("small"), target=Momentum()).build(BACKBONE, 1, 16)
    for name, online in network.backbone.state_dict().items():
        assert torch.equal(network.target.backbone.state_dict()[name], online)


@pytest.fixture(scope="module")
def two_ranks():
    """Loss and gradient of every recipe by two processes, and by one on the same global batch."""
    script = Path(__file__).with_name("two_ranks.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@every_recipe
def test_two_ranks_equal_one_process(recipe, two_ranks):
    found = two_ranks[recipe.name]
    assert found["loss_difference"] < 1e-12 * max(1.0, abs(found["loss"]))
    assert found["gradient_norm"] > 0
    assert found["gradient_difference"] < 1e-9 * found["gradient_norm"]
    assert found["statistics_difference"] < 1e-12


def test_a_mechanism_that_was_taken_out_no_longer_stands():
    from fullrank.models.settings.predictor import NoPredictor

    whole = recipes()["simsiam"]
    assert {p.collapse for p in whole.standing()} == {"complete", "dimensional"}
    assert replace(whole, predictor=NoPredictor()).standing() == []
    assert replace(whole, target=Online()).standing() == []
    vicreg = recipes()["vicreg"]
    loose = replace(vicreg, objective=replace(vicreg.objective, covariance=0.0))
    assert [p.collapse for p in loose.standing()] == ["complete"]


@every_recipe
@pytest.mark.parametrize("preset", ["paper", "small"])
def test_all_mechanisms_stand_in_the_whole_recipe(recipe, preset):
    assert recipe.preset(preset).standing() == list(recipe.prevents)
