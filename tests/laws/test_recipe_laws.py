"""Laws that every recipe obeys; a new recipe, variant or ablation is picked up by itself."""

from __future__ import annotations

import copy
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml

from batches import BACKBONE, batch_size, network_of, ours, views_of
from fullrank.errors import UserError
from fullrank.models.objectives.objective import Outputs
from fullrank.models.settings.backbone import Conv4
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import NoProjector
from fullrank.models.settings.target import Momentum, Online
from fullrank.recipes.registry import recipe as find
from fullrank.recipes.registry import recipes

ALL = list(recipes().values())
FORMS = [r.variant(v.name) for r in ALL for v in r.variants]
ABLATED = [(r, a) for r in ALL for a in r.ablations]
every_recipe = pytest.mark.parametrize("recipe", ALL, ids=lambda r: r.name)
every_form = pytest.mark.parametrize(
    "recipe",
    [*ALL, *(pytest.param(form, marks=pytest.mark.thorough) for form in FORMS)],
    ids=lambda r: r.name,
)
every_ablation = pytest.mark.parametrize(
    ("recipe", "ablation"), ABLATED, ids=[f"{r.name}/{a.name}" for r, a in ABLATED]
)


@every_form
def test_goes_to_yaml_and_back(recipe):
    plain = yaml.safe_load(yaml.safe_dump(recipe.to_dict()))
    assert plain.pop("name") == recipe.name
    parts = {}
    for field, values in plain.items():
        parts[field] = recipe.kinds(field)[values.pop("kind")](**values)
    assert replace(recipe, **parts) == recipe
    assert hash(replace(recipe, **parts)) == hash(recipe)


@every_form
def test_states_its_paper_and_what_prevents_collapse(recipe):
    assert re.fullmatch(r"\d{4}\.\d{4,5}", recipe.paper.arxiv)
    assert recipe.equations
    assert any(p.collapse == "complete" for p in recipe.prevents)
    assert find(recipe.name) == recipe


@every_recipe
def test_every_recipe_has_ablations_of_names_of_its_own(recipe):
    names = [v.name for v in (*recipe.variants, *recipe.ablations)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in names)
    assert recipe.ablations


def settled_loss(part, constant, n):
    """The loss of a constant embedding once all that is remembered is it, too."""
    d = len(constant)
    objective = part.build(d, images=n).double()
    rows = [constant.double().expand(n, d)] * 2
    outputs = Outputs(rows, rows, rows, rows, indices=torch.arange(n))
    settle = getattr(objective, "after_step", None)
    with torch.no_grad():
        loss = objective(outputs)
        for step in range(200 if settle else 0):
            settle(step + 1, 200)
            loss = objective(outputs)
    return loss.total.item()


@every_form
@pytest.mark.parametrize("preset", ["paper", "small"])
def test_collapsed_loss_is_the_loss_of_constant_embeddings(recipe, preset):
    chosen = recipe.preset(preset)
    # What is remembered fills up as fast as it may.
    short = {k: 64 for k in ("queue", "support") if getattr(chosen.objective, k, None)}
    part = replace(chosen.objective, **short)
    n, d = 16, min(chosen.embedding_dim(32), 512)
    some, zero = torch.linspace(-1, 2, d), torch.zeros(d)
    expected = part.collapsed_loss(d, n)
    if expected is None:
        with pytest.raises(UserError, match="collapse"):
            settled_loss(part, some, 512)  # enough of them to be whitened, were they not constant
        return
    constant = zero if part.collapsed_at == "zero" else some
    assert settled_loss(part, constant, n) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    if part.collapsed_at == "zero":
        assert settled_loss(part, some, n) > expected


@every_form
def test_gradients_reach_what_the_target_says(recipe):
    network, views = ours(recipe)
    network.after_step(1000, 1000)  # nothing is frozen any more
    network.loss(network(*views)).total.backward()
    for name, parameter in network.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert reached == (parameter.requires_grad and not name.startswith("target.")), name


@every_form
def test_every_parameter_has_a_gradient_from_the_first_step(recipe):
    # Zero where it is frozen: processes that train together wait for all of them.
    network, views = ours(recipe)
    network.loss(network(*views)).total.backward()
    without = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


@every_form
def test_the_network_states_the_dimension_of_its_features(recipe):
    network, views = ours(recipe)
    outputs = network(*views)
    n = batch_size(recipe)
    assert outputs.features[0].shape == (n, network.feature_dim)
    dim = recipe.preset("small").embedding_dim(network.feature_dim)
    assert outputs.embeddings[0].shape == (n, dim)
    assert outputs.predictions[0].shape == outputs.targets[0].shape == (n, dim)


@every_form
def test_permuting_the_batch_changes_nothing(recipe):
    network, (views, indices) = ours(recipe, torch.float64)
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(1))
    first = network.loss(network(views, indices)).total
    second = network.loss(network([view[order] for view in views], indices[order])).total
    torch.testing.assert_close(first, second, rtol=1e-8, atol=1e-8)


@every_form
def test_a_forward_pass_changes_nothing_that_is_kept(recipe):
    network, views = ours(recipe)
    before = copy.deepcopy(network.state_dict())
    network.loss(network(*views))
    for name, value in network.state_dict().items():
        averages = "running_" in name or "num_batches" in name
        assert averages or torch.equal(value, before[name]), name


@every_form
def test_a_state_dict_restores_everything(recipe):
    network, views = ours(recipe)
    for step in range(3):
        network.loss(network(*views))
        network.after_step(step + 1, 100)
    other = network_of(recipe, seed=1)
    other.load_state_dict(network.state_dict())
    torch.testing.assert_close(network.loss(network(*views)).total, other.loss(other(*views)).total)


@every_form
def test_bf16_agrees_with_float32(recipe):
    network, views = ours(recipe, n=max(32, batch_size(recipe)))
    exact = network.loss(network(*views)).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(*views)
        rounded = network.loss(outputs).total
    assert rounded.dtype == torch.float32
    collapsed = recipe.preset("small").collapsed_loss(16, 32)
    scale = abs(float(exact.detach()) if collapsed is None else collapsed) + 1
    assert abs(float((rounded - exact).detach())) < 0.05 * scale


@every_form
def test_any_field_can_be_replaced(recipe):
    plain = replace(recipe.preset("small"), target=Online(), projector=NoProjector())
    network = plain.build(BACKBONE, 1, 16, images=batch_size(recipe))
    network.before_epoch(0, lambda: [])
    assert torch.isfinite(network.loss(network(*views_of(recipe))).total)


@every_form
def test_a_momentum_target_starts_as_the_online_network(recipe):
    target = recipe.preset("small").target
    target = target if isinstance(target, Momentum) else Momentum()
    network = replace(recipe.preset("small"), target=target).build(BACKBONE, 1, 16)
    for part in ("backbone", "projector"):
        averaged = getattr(network.target, part).state_dict()
        for name, online in getattr(network, part).state_dict().items():
            assert torch.equal(averaged[name], online)


@cache
def two_ranks(of: str):
    """Loss, gradient and state by two processes, and by one on the same batch."""
    script = Path(__file__).with_name("two_ranks.py")
    done = subprocess.run([sys.executable, script, of], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@every_form
def test_two_ranks_equal_one_process(recipe):
    found = two_ranks("variants" if recipe.chosen else "recipes")[recipe.name]
    assert "error" not in found, found["error"]
    assert math.isfinite(found["loss"])
    assert found["loss_difference"] < 1e-10 * max(1.0, abs(found["loss"]))
    assert found["gradient_norm"] > 0
    assert found["gradient_difference"] < 1e-8 * found["gradient_norm"]
    assert found["state_difference"] < 1e-10


@every_form
@pytest.mark.parametrize("preset", ["paper", "small"])
def test_all_mechanisms_stand_in_the_whole_recipe(recipe, preset):
    assert recipe.preset(preset).standing() == list(recipe.prevents)


@every_ablation
@pytest.mark.parametrize("preset", ["paper", "small"])
def test_an_ablation_changes_the_recipe_and_still_runs(recipe, ablation, preset):
    ablated = recipe.variant(ablation.name).preset(preset)
    assert ablated != recipe.preset(preset)
    assert ablated.name == f"{recipe.name}/{ablation.name}"
    assert len(ablation.predicts) > 20
    if ablation.collapse is not None:  # and then a mechanism against it is gone
        standing = {p.collapse for p in ablated.standing()}
        assert ablated.standing() != list(recipe.prevents), standing
    if preset == "small":
        network, views = ours(recipe.variant(ablation.name))
        assert torch.isfinite(network.loss(network(*views)).total)


@pytest.mark.parametrize("name", list(recipes()))
def test_a_published_protocol_names_a_backbone_and_an_optimiser(name):
    from fullrank.models.settings.backbone import backbone_type

    whole = recipes()[name]
    backbone_type(whole.training.backbone)
    whole.check(whole.training.batch_size)
    small = whole.preset("small")
    small.check(small.training.batch_size)


def test_a_mechanism_that_was_taken_out_no_longer_stands():
    whole = recipes()["simsiam"]
    assert {p.collapse for p in whole.standing()} == {"complete", "dimensional"}
    assert replace(whole, predictor=NoPredictor()).standing() == []
    assert replace(whole, target=Online()).standing() == []
    vicreg = recipes()["vicreg"]
    loose = replace(vicreg, objective=replace(vicreg.objective, covariance=0.0))
    assert [p.collapse for p in loose.standing()] == ["complete"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("simsian", "Did you mean 'simsiam'"),
        ("simsiam/without-stopgradient", "Did you mean 'without-stop-gradient'"),
        ("vicreg/without-nothing", "variant of vicreg"),
    ],
)
def test_an_unknown_name_gives_the_nearest(name, message):
    with pytest.raises(UserError, match=re.escape(message)):
        find(name)


def test_a_wider_backbone_gives_a_wider_representation():
    narrow, wide = (recipes()["simsiam"].build(Conv4(width=w), 1, 16) for w in (2, 4))
    assert wide.feature_dim == 2 * narrow.feature_dim
