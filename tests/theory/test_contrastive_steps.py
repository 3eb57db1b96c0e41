from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fullrank.errors import UserError
from fullrank.randomness import generator
from fullrank.theory.contrastive_steps import (
    contrastive_gradient,
    contrastive_steps,
    noisy_views,
)

F64 = torch.float64


def normal(*shape: int, key: str) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(0, key), dtype=F64)


def test_the_gradient_is_that_of_cross_entropy() -> None:
    W = normal(2, 3, 4, key="W").requires_grad_()
    first, second = normal(2, 7, 4, key="x"), normal(2, 7, 4, key="y")
    for cell in range(2):
        logits = (first[cell] @ W[cell].T) @ (second[cell] @ W[cell].T).T / 0.5
        cross_entropy(logits, torch.arange(7)).backward()
    found = contrastive_gradient(W.detach(), first, second, 0.5)
    assert torch.allclose(found, W.grad, atol=1e-14)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_steps_are_those_of_a_torch_network(depth: int) -> None:
    views = noisy_views(torch.full((1, 4), 0.3, dtype=F64), n=8, seeds=[5])
    layers = [0.4 * normal(1, 4, 4, key=str(k)) for k in range(depth)]
    modules = nn.Sequential(*(nn.Linear(4, 4, bias=False, dtype=F64) for _ in layers))
    for module, layer in zip(modules, layers, strict=True):
        module.weight.data = layer[0].clone()
    for step in range(6):
        first, second = views(step)
        logits = modules(first[0]) @ modules(second[0]).T / 0.2
        modules.zero_grad()
        cross_entropy(logits, torch.arange(8)).backward()
        for module in modules:
            module.weight.data -= 0.05 * module.weight.grad
    whole = torch.eye(4, dtype=F64)
    for module in modules:
        whole = module.weight.detach() @ whole
    found = contrastive_steps(layers, views, steps=6, rate=0.05, temperature=0.2)
    assert torch.allclose(found[0], whole, atol=1e-13)


def test_cells_of_one_seed_see_the_same_inputs_with_scaled_noise() -> None:
    noise = torch.tensor([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]], dtype=F64)
    first, second = noisy_views(noise, n=2000, seeds=[1, 1, 2])(3)
    assert torch.equal(first[0], second[0])
    assert not torch.allclose(first[0], first[2])
    moved = first[1] - first[0]
    assert moved.std(0).tolist() == pytest.approx([1.0, 2.0], rel=0.1)
    # Both views' noise is drawn on its own.
    other = second[1] - second[0]
    assert abs(float((moved * other).mean())) < 0.15


def test_bad_input_is_refused() -> None:
    noise = torch.zeros(2, 3, dtype=F64)
    with pytest.raises(UserError, match=r"^n: 1 given; allowed: 2 and more"):
        noisy_views(noise, n=1, seeds=[0, 1])
    with pytest.raises(UserError, match=r"^seeds: 1 given; allowed: 2, one a cell"):
        noisy_views(noise, n=4, seeds=[0])
    with pytest.raises(UserError, match=r"^noise: -1 given"):
        noisy_views(noise - 1, n=4, seeds=[0, 1])
    views = noisy_views(noise, n=4, seeds=[0, 1])
    layer = (torch.ones(2, 3, 3, dtype=F64),)
    with pytest.raises(UserError, match=r"^steps: 0 given"):
        contrastive_steps(layer, views, steps=0, rate=0.1)
    with pytest.raises(UserError, match=r"^temperature: 0 given; allowed: above 0"):
        contrastive_steps(layer, views, steps=1, rate=0.1, temperature=0.0)
    with pytest.raises(UserError, match=r"^rate: 1e\+300 given; allowed: a smaller one"):
        contrastive_steps(layer, views, steps=9, rate=1e300)
