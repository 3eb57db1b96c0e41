"""Spectral filters against singular value decompositions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fullrank.errors import UserError
from fullrank.measure.spectrum import effective_rank
from fullrank.models.settings.spectral_filter import FilteredStopGradient, SpectralFilter

GAINS = {
    "power": lambda s: s**1.5,
    "log": np.log,
    "log-plus-one": lambda s: np.log(s + 1),
    "log-square-plus-one": lambda s: np.log(s**2 + 1),
}


def draw(n=30, d=6, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("function", GAINS)
@pytest.mark.parametrize(("n", "d"), [(30, 6), (5, 9), (7, 7)])
def test_the_online_filter_is_the_papers(function, n, d):
    z = draw(n, d)
    _, s, Vt = np.linalg.svd(z.numpy(), full_matrices=False)
    expected = z.numpy() @ Vt.T @ np.diag(GAINS[function](s)) @ Vt
    found = SpectralFilter(function, sigma=1.5).build(d)(z)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


@pytest.mark.parametrize(("n", "d"), [(30, 6), (5, 9)])
@pytest.mark.parametrize("sigma", [-1.0, -0.5, -0.3])
def test_the_target_filter_is_the_papers(n, d, sigma):
    z = draw(n, d)
    U, s, Vt = np.linalg.svd(z.numpy(), full_matrices=False)
    target = FilteredStopGradient(sigma).build(torch.nn.Identity(), torch.nn.Identity(), d)
    (found,) = target([z], [z.clone().requires_grad_()])
    assert not found.requires_grad
    np.testing.assert_allclose(found.numpy(), U @ np.diag(s ** (1 + sigma)) @ Vt, atol=1e-9)


def test_a_whitened_target_has_equal_singular_values():
    target = FilteredStopGradient(-1.0).build(torch.nn.Identity(), torch.nn.Identity(), 6)
    (white,) = target([draw()], [draw()])
    np.testing.assert_allclose(np.linalg.svd(white.numpy())[1], np.ones(6), atol=1e-9)


def test_filters_make_the_ranks_of_the_sides_differ():
    z = draw() * torch.logspace(0, -1, 6, dtype=torch.float64)
    low = SpectralFilter().build(6)(z)
    (high,) = FilteredStopGradient(-0.5).build(torch.nn.Identity(), torch.nn.Identity(), 6)(
        [z], [z]
    )
    ranks = [float(effective_rank(torch.linalg.svdvals(x))) for x in (low, z, high)]
    assert ranks == sorted(ranks) and ranks[0] < ranks[1] < ranks[2]


def test_the_filter_is_a_constant_for_gradients():
    z = draw().requires_grad_()
    SpectralFilter().build(6)(z).sum().backward()
    _, s, Vt = np.linalg.svd(z.detach().numpy(), full_matrices=False)
    W = Vt.T @ np.diag(s) @ Vt
    np.testing.assert_allclose(z.grad.numpy(), np.broadcast_to(W.sum(0), z.shape), atol=1e-9)


@pytest.mark.parametrize("function", GAINS)
def test_directions_that_are_not_there_stay_away(function):
    z = draw(8, 6)
    z[:, 3:] = 0
    found = SpectralFilter(function).build(6)(z)
    assert torch.isfinite(found).all()
    assert float(found[:, 3:].abs().max()) < 1e-12


def test_constant_and_dead_embeddings_are_filtered_without_nan():
    for z in (torch.ones(8, 6), torch.zeros(8, 6)):
        assert torch.isfinite(SpectralFilter().build(6)(z)).all()
        target = FilteredStopGradient().build(torch.nn.Identity(), torch.nn.Identity(), 6)
        assert torch.isfinite(target([z], [z])[0]).all()


def test_embeddings_that_are_not_finite_show_in_the_prediction():
    z = draw()
    z[0, 0] = float("nan")
    assert SpectralFilter().build(6)(z).isnan().all()


@pytest.mark.parametrize(
    ("part", "options", "named"),
    [
        (SpectralFilter, {"sigma": 0.0}, "predictor.sigma"),
        (FilteredStopGradient, {"sigma": 0.0}, "target.sigma"),
        (FilteredStopGradient, {"sigma": -1.5}, "target.sigma"),
    ],
)
def test_a_filter_the_wrong_way_is_refused(part, options, named):
    with pytest.raises(UserError, match=rf"recipe\.{named}: .* Allowed: "):
        part(**options)
