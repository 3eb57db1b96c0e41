from dataclasses import replace
from itertools import combinations as pairs

import pytest
import torch

from fullrank.data.augment import Augment
from fullrank.data.settings import DataSettings
from fullrank.data.sources import load_source
from fullrank.errors import UserError
from fullrank.experiments.cells import cells, scale_for
from fullrank.experiments.factorial import (
    TRAINED,
    Factors,
    combinations,
    factors_of,
    is_asymmetric,
    merged,
    with_factors,
)
from fullrank.experiments.scale import FACTORIAL, Scale
from fullrank.models.settings.backbone import Conv4
from fullrank.recipes.registry import recipe, recipes
from fullrank.recipes.training import Optimizer
from fullrank.train.module import build_optimizer
from fullrank.train.resolve import resolve

DIGITS = DataSettings("digits")
ASYMMETRIC = ("simsiam", "byol", "directpred")


def test_every_combination_is_exactly_one_cell():
    found = merged()
    all_of_them = list(combinations())
    assert len(all_of_them) == len(set(all_of_them)) == 4 * 2 * 2 * 4 * 2
    listed = [f for same in found.values() for f in same]
    assert sorted(listed, key=repr) == sorted(all_of_them, key=repr)
    # Targets: online, stop-gradient, momentum. Decays: four with a trained predictor, else two.
    assert len(found) == (2 * 4 + 2 * 2) * 3 * 2
    assert all(cell in same for cell, same in found.items())


def test_the_canonical_combination_is_its_own():
    for factors in combinations():
        assert factors.canonical().canonical() == factors.canonical()


@torch.no_grad()
def parameters(network):
    return [p.clone() for p in network.parameters()]


def trained(factors, steps=2):
    """Train a small network of these very factors, not of what they are merged into."""
    form, optimizer = with_factors(recipe("simsiam").preset("small"), factors, FACTORIAL)
    torch.manual_seed(0)
    network = form.build(Conv4(width=2), 1, 8).train()
    source = load_source(DIGITS)
    images = source.train.read(torch.arange(32))
    augment = Augment(
        FACTORIAL.config(form, optimizer, DIGITS).augmentation(1, source.size), source.channels
    )
    by = build_optimizer(network, optimizer, 128)
    for step in range(steps):
        loss = network.loss(network(augment(images, step)))
        by.zero_grad()
        loss.total.backward()
        by.step()
        network.after_step(step + 1, steps)
    return parameters(network)


# A few of the cells with everything that merges into them; the rest differ in the batch norm alone.
@pytest.mark.parametrize("predictor", ["none", "linear", "closed form"])
def test_merged_combinations_train_alike_and_cells_do_not(predictor):
    weights = {}
    for cell, same in merged().items():
        if cell.predictor != predictor or not cell.output_norm:
            continue
        weights[cell] = trained(cell)
        for other in same:
            for ours, theirs in zip(weights[cell], trained(other), strict=True):
                assert torch.equal(ours, theirs), (cell, other)
    for one, other in pairs(weights, 2):
        same_shape = len(weights[one]) == len(weights[other])
        assert not same_shape or any(
            not torch.equal(a, b) for a, b in zip(weights[one], weights[other], strict=True)
        ), (one, other)


@pytest.mark.parametrize("name", ASYMMETRIC)
def test_a_cell_has_the_factors_that_it_says(name):
    for cell in cells(name):
        if cell.factors is not None:
            assert factors_of(cell.recipe, cell.optimizer) == cell.factors


@pytest.mark.parametrize("name", ASYMMETRIC)
def test_the_explanation_of_the_asymmetric_family_holds_the_whole_factorial(name):
    found = cells(name)
    assert {c.factors for c in found} - {None} == set(merged())
    assert [c.published for c in found].count(True) == 1
    labels = [label for c in found for label in (c.label, *c.merged)]
    for factors in combinations():
        assert factors.label in labels
    by_ablation = {c.ablation for c in found} - {None}
    assert by_ablation == {a.name for a in recipe(name).ablations}


def test_the_asymmetric_family_is_that_of_a_predictor_and_a_constant_target():
    found = {name for name, r in recipes().items() if is_asymmetric(r.preset("small"))}
    assert found >= set(ASYMMETRIC)
    assert not found & {"simclr", "vicreg", "swav", "dino", "mocov3", "symsimsiam", "barlow-twins"}


@pytest.mark.parametrize("name", list(recipes()))
def test_cells_of_every_recipe_work_and_are_different_runs(name):
    found = cells(name)
    scale = scale_for(recipe(name))
    hashes = [c.config(scale, DIGITS, 0).identity() for c in found]
    assert len(set(hashes)) == len(found) == len({c.id for c in found})
    assert found[0].published
    told = {c.ablation for c in found} | {label for c in found for label in c.merged}
    for ablation in recipe(name).ablations:
        assert ablation.name in told or ablation.name.replace("-", " ") in told
    quick = cells(name, quick=True)
    assert {c.id for c in quick} <= {c.id for c in found}
    assert len(quick) <= 16


@pytest.mark.parametrize("name", ["simsiam", "byol", "vicreg", "dino"])
def test_a_configuration_comes_back_from_yaml_as_the_same_run(name):
    # The folder of a run is found by this, and the run can be repeated from its own file.
    scale = scale_for(recipe(name))
    for cell in cells(name)[::7]:
        config = cell.config(scale, DIGITS, 1)
        assert resolve(config.to_dict()).identity() == config.identity()


def test_weight_decay_falls_on_what_the_factor_says():
    base = recipe("simsiam").preset("small")
    for factors in merged():
        form, optimizer = with_factors(base, factors, FACTORIAL)
        network = form.build(Conv4(width=2), 1, 8)
        decays = {
            g["predictor"]: g["weight_decay"] > 0
            for g in build_optimizer(network, optimizer, 128).param_groups
        }
        assert decays[False] == (factors.weight_decay in ("encoder", "both"))
        assert (True in decays) == (factors.predictor in TRAINED)
        if True in decays:
            assert decays[True] == (factors.weight_decay in ("predictor", "both"))


def test_weight_decay_shrinks_an_idle_weight_by_the_e_folds_of_the_scale():
    scale = Scale(steps=2000, decay=1.5)
    _, settings = scale.applied_to(recipe("simsiam").preset("small"))
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    sgd = torch.optim.SGD([weight], lr=1.0, momentum=0.9, weight_decay=settings.weight_decay)
    from fullrank.train.rates import rate_at, scaled_lr

    for step in range(scale.steps):
        sgd.param_groups[0]["lr"] = scaled_lr(settings, 128) * rate_at(settings, step, scale.steps)
        weight.grad = torch.zeros_like(weight)
        sgd.step()
    assert -float(weight.detach().log()) == pytest.approx(1.5, rel=0.02)


def test_the_peak_rate_is_the_one_at_the_recipes_own_batch():
    base = recipe("simsiam").preset("small")
    _, optimizer = Scale(batch_size=64).applied_to(base)
    assert optimizer.lr * 64 == base.training.optimizer.lr * base.training.batch_size


def test_the_rescue_learns_ten_times_faster_and_alone_decays():
    rescued = next(c for c in cells("simsiam") if c.id == "symmetric.stop-gradient.rescued")
    assert rescued.optimizer.predictor_lr == 10
    assert rescued.optimizer.weight_decay == 0
    assert (rescued.optimizer.predictor_weight_decay or 0) > 0


def test_other_forms_have_no_factors():
    base = recipe("simsiam").preset("small")
    optimizer = Optimizer()
    assert factors_of(recipe("simsiam/bias-predictor").preset("small"), optimizer) is None
    assert factors_of(recipe("directpred/hybrid").preset("small"), optimizer) is None
    assert factors_of(recipe("vicreg").preset("small"), optimizer) is None
    both = Factors("mlp", True, False, "both", True)
    assert factors_of(base, optimizer) == both
    assert factors_of(base, replace(optimizer, weight_decay=0.0)) == replace(
        both, weight_decay="none"
    )


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(UserError, match="simsiam"):
        cells("simsaim")
