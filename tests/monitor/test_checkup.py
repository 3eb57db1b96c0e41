"""Check-ups measure what is there and leave no trace."""

from __future__ import annotations

import itertools

import pytest
import torch

from fullrank.data.augment import Augment
from fullrank.data.settings import resolve_augmentation
from fullrank.measure.moments import moments_of
from fullrank.measure.vitals import vital_signs
from fullrank.models.settings.backbone import Conv4
from fullrank.monitor import checkup
from fullrank.monitor.checkup import HeldOut, calibrated, take_vitals
from fullrank.monitor.schedule import TimeBudget, checkup_steps
from fullrank.recipes.registry import recipe


def network(seed=0):
    torch.manual_seed(seed)
    return recipe("simsiam").preset("small").build(Conv4(width=2), 1, 8)


def held_out(n=60, chunk=16):
    gen = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (n, 1, 8, 8), generator=gen, dtype=torch.uint8)
    augment = Augment(resolve_augmentation("auto", "digits", 8, 1, 2), 1)
    return HeldOut(images, augment, seed=0, device=torch.device("cpu"), chunk=chunk)


def test_a_check_up_leaves_weights_statistics_modes_and_chance_as_they_were():
    model = network()
    model.projector.eval()  # a mixed state must come back as it was
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    chance = torch.get_rng_state()
    take_vitals(model, held_out())
    calibrated(model, held_out())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), chance)


def test_the_same_views_are_shown_at_every_call():
    data = held_out()
    first = [v for views in data.views() for v in views]
    second = [v for views in data.views() for v in views]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert take_vitals(network(), data) == take_vitals(network(), data)


def test_views_are_kept_up_to_a_size_and_are_the_same(monkeypatch):
    data, drawn = held_out(), held_out()
    with torch.inference_mode():
        vitals = take_vitals(network(), data)
    kept = [v for views in data.views() for v in views]
    assert all(a is b for a, b in zip(kept, itertools.chain(*data.views()), strict=True))
    assert not any(v.is_inference() for v in kept)  # a network can be trained on them
    monkeypatch.setattr(checkup, "KEPT_BYTES", sum(v.nbytes for v in kept) - 1)
    for _ in range(2):
        assert take_vitals(network(), drawn) == vitals
    fresh = list(itertools.chain(*drawn.views()))
    assert all(torch.equal(a, b) and a is not b for a, b in zip(kept, fresh, strict=True))
    assert not any(a is b for a, b in zip(fresh, itertools.chain(*drawn.views()), strict=True))


def test_vitals_are_those_of_the_features_of_both_views():
    model, data = network(), held_out()
    model.eval()
    with torch.no_grad():
        views = [torch.cat(v) for v in zip(*data.views(), strict=True)]
        features = [model.backbone(v) for v in views]
    expected = vital_signs(moments_of(*features))
    found = take_vitals(model, data)["backbone"]
    for name in ("spread", "effective_rank", "alignment", "cev_auc"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_errors_are_those_of_leaving_out_one_eighth_of_the_images():
    model, data = network(), held_out()
    model.eval()
    with torch.no_grad():
        views = [torch.cat(v) for v in zip(*data.views(), strict=True)]
        features = [model.backbone(v) for v in views]
    index = torch.arange(60)
    signs = [vital_signs(moments_of(*(f[index % 8 != k] for f in features))) for k in range(8)]
    errors = take_vitals(model, data)["backbone"]["errors"]
    assert errors.keys() >= {"spread", "alignment", "effective_rank", "cev_auc"}
    for name in ("spread", "alignment", "effective_rank", "cev_auc"):
        kept = torch.tensor([sign[name] for sign in signs], dtype=torch.float64)
        expected = (7 * kept.var(correction=0)).sqrt()
        torch.testing.assert_close(errors[name], float(expected), rtol=1e-3, atol=1e-7)


def test_what_is_too_wide_for_cheap_errors_has_none(monkeypatch):
    monkeypatch.setattr(checkup, "CHEAP_WIDTH", 2)
    wide = take_vitals(network(), held_out())
    assert wide["embedding"]["errors"] == {}
    assert wide["embedding"]["effective_rank"] > 0


def test_calibration_gives_the_statistics_of_the_held_out_views():
    model, data = network(), held_out(n=64, chunk=64)
    copy = calibrated(model, data)
    norm, untouched = copy.backbone[1], model.backbone[1]
    (views,) = data.views()
    with torch.no_grad():
        means = [model.backbone[0](v).mean((0, 2, 3)) for v in views]
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0))
    assert torch.equal(untouched.running_mean, torch.zeros(2))
    assert norm.momentum == untouched.momentum


def test_a_fresh_batch_norm_looks_collapsed_and_its_calibrated_copy_does_not():
    model, data = network(), held_out()
    fresh = take_vitals(model, data)["embedding"]["spread"]
    settled = take_vitals(calibrated(model, data), data)["embedding"]["spread"]
    assert fresh < 0.5 < settled


def test_check_ups_are_due_at_geometric_then_even_steps():
    steps = checkup_steps(1000, 24)
    assert steps[:5] == [0, 1, 2, 4, 8]
    assert steps[-1] == 1000
    assert len(steps) <= 24
    gaps = [b - a for a, b in itertools.pairwise(steps)]
    even = gaps[8:-1]
    assert max(even) - min(even) <= max(even) * 0.5
    assert checkup_steps(1, 24) == [0, 1]
    assert checkup_steps(5, 2) == [0, 5]


@pytest.mark.parametrize(("total", "count"), [(400, 10), (3000, 9), (10000, 12), (120, 3)])
def test_few_checkups_are_spread_over_the_whole_run(total, count):
    steps = checkup_steps(total, count)
    assert len(steps) == count
    assert steps[0] == 0 and steps[-1] == total
    ratios = [b / a for a, b in itertools.pairwise(steps[2:])]
    assert all(later > 1 for later in ratios)


def test_the_budget_bounds_what_is_spent():
    budget, spent = TimeBudget(0.1), 0.0
    for second in range(1, 1000):
        if budget.allows(second):
            budget.spend(0.7)
            spent += 0.7
        assert spent <= 0.1 * second + 1e-9 or spent == 0.7
    assert spent > 60
