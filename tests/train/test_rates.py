"""Learning rates, weight decay and clipping, against their closed forms."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

from fullrank.errors import UserError
from fullrank.models.settings.backbone import Conv4
from fullrank.recipes.registry import recipe
from fullrank.recipes.training import Optimizer
from fullrank.train.optimizer import build_optimizer, clip_gradients, set_rates
from fullrank.train.rates import decay_at, rate_at

NETWORK = recipe("byol").preset("small").build(Conv4(width=2), 1, 16)


@pytest.mark.parametrize("step", [0, 13, 50, 99])
def test_weight_decay_moves_on_a_cosine(step):
    settings = Optimizer(weight_decay=0.04, final_weight_decay=0.4)
    expected = 0.4 + 0.5 * (0.04 - 0.4) * (1 + math.cos(math.pi * step / 100))
    assert decay_at(settings, step, 100) == pytest.approx(expected, rel=1e-12)
    assert decay_at(replace(settings, final_weight_decay=None), step, 100) == 0.04


def test_groups_decay_as_they_should():
    settings = Optimizer(
        name="adamw",
        weight_decay=0.04,
        final_weight_decay=0.4,
        predictor_weight_decay=0.01,
        decay_norm_and_bias=False,
    )
    optimizer = build_optimizer(NETWORK, settings, 256)
    for step in (0, 50):
        set_rates(optimizer, settings, step, 100)
        found = {(g["predictor"], g["weight_decay"]) for g in optimizer.param_groups}
        now = decay_at(settings, step, 100)
        assert found == {(False, now), (False, 0.0), (True, 0.01), (True, 0.0)}


@pytest.mark.parametrize("step", [0, 4, 9, 10, 60, 99])
def test_the_rate_warms_up_and_falls_on_a_cosine(step):
    settings = Optimizer(warmup=0.1, final_lr=0.01)
    if step < 10:
        expected = (step + 1) / 10
    else:
        expected = 0.01 + 0.99 * (1 + math.cos(math.pi * (step - 10) / 90)) / 2
    assert rate_at(settings, step, 100) == pytest.approx(expected, rel=1e-12)


def test_every_gradient_is_clipped_by_itself():
    network = copy.deepcopy(NETWORK)
    gen = torch.Generator().manual_seed(0)
    for i, parameter in enumerate(network.parameters()):
        parameter.grad = torch.randn(parameter.shape, generator=gen) * 10.0 ** (i % 5 - 2)
    before = [p.grad.clone() for p in network.parameters()]
    clip_gradients(network, 3.0)
    for parameter, old in zip(network.parameters(), before, strict=True):
        twin = [torch.nn.Parameter(old.clone())]
        twin[0].grad = old.clone()
        torch.nn.utils.clip_grad_norm_(twin, 3.0)
        torch.testing.assert_close(parameter.grad, twin[0].grad)
    clip_gradients(network, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"final_weight_decay": -1.0}, "optimizer.final_weight_decay: -1.0"),
        ({"predictor_weight_decay": -1.0}, "optimizer.predictor_weight_decay: -1.0"),
        ({"clip_gradient": 0.0}, "optimizer.clip_gradient: 0.0"),
    ],
)
def test_values_out_of_range_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        Optimizer(**change)
