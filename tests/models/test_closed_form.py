"""Predictors made from moments, against the published equations and by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from fullrank.errors import UserError
from fullrank.measure.predictor import commutator_norm
from fullrank.models.settings.closed_form import ClosedFormPredictor, RegressionPredictor


def draw(n=40, d=6, seed=0, views=2):
    gen = torch.Generator().manual_seed(seed)
    scale = torch.logspace(0, -1, d, dtype=torch.float64)
    return [torch.randn(n, d, generator=gen, dtype=torch.float64) * scale for _ in range(views)]


def built(part, d=6):
    torch.manual_seed(0)
    return part.build(d).double().train()


def shown(part, batches, d=6):
    """Return the predictor after one step on each batch of views, which are targets, too."""
    predictor = built(part, d)
    for step, views in enumerate(batches):
        predictor.observe(views, views)
        predictor.after_step(step + 1, len(batches))
    return predictor


def moment(views):
    z = np.concatenate([v.numpy() for v in views])
    return z.T @ z / len(z)


def test_directpred_is_the_papers_equation():
    views = draw()
    predictor = shown(ClosedFormPredictor(epsilon=0.1, normalised=False), [views])
    F = moment(views)
    s, Q = np.linalg.eigh(F)
    W = Q @ np.diag(np.sqrt(s) + 0.1 * s.max()) @ Q.T  # Tian et al. 2021, Eq. 18
    np.testing.assert_allclose(predictor.weight.numpy(), W, atol=1e-12)
    np.testing.assert_allclose(predictor.second_moment.numpy(), F, atol=1e-12)


def test_the_authors_code_and_the_other_labs():
    views = draw()
    F = moment(views)
    s, Q = np.linalg.eigh(F)
    s = s / s.max()
    official = shown(ClosedFormPredictor(epsilon=0.01, floor=0.2), [views]).weight.numpy()
    expected = Q @ np.diag(np.maximum(np.sqrt(s) + 0.01, 0.2)) @ Q.T
    np.testing.assert_allclose(official, expected, atol=1e-12)
    part = ClosedFormPredictor(epsilon=0.3, epsilon_inside=True, shrink=0.5)
    inside = shown(part, [views]).weight.numpy()
    np.testing.assert_allclose(inside, 0.5 * Q @ np.diag(np.sqrt(s + 0.3)) @ Q.T, atol=1e-12)


def test_directcopy_is_f_over_its_norm():
    views = draw()
    F = moment(views)
    copied = shown(ClosedFormPredictor(exponent=1.0, epsilon=0.25), [views]).weight.numpy()
    np.testing.assert_allclose(copied, F / np.linalg.norm(F, 2) + 0.25 * np.eye(6), atol=1e-12)
    as_it_is = ClosedFormPredictor(exponent=1.0, epsilon=0.25, normalised=False, relative=False)
    found = shown(as_it_is, [views]).weight.numpy()
    np.testing.assert_allclose(found, F + 0.25 * np.eye(6), atol=1e-12)


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("relative", [True, False])
def test_copying_is_what_the_eigenvectors_give(normalised, relative):
    views = draw()
    options = {"normalised": normalised, "relative": relative, "epsilon": 0.2}
    copied = shown(ClosedFormPredictor(exponent=1.0, **options), [views])
    powered = shown(ClosedFormPredictor(exponent=1.0, floor=1e-300, **options), [views])
    torch.testing.assert_close(copied.weight, powered.weight, rtol=1e-12, atol=1e-12)


def test_by_hand_in_two_dimensions():
    # F = [[2, 1], [1, 2]]: eigenvalues 1 and 3, eigenvectors (1, -1) and (1, 1).
    z = torch.tensor([[3.0**0.5, 3.0**0.5], [1.0, -1.0]], dtype=torch.float64)
    predictor = shown(ClosedFormPredictor(epsilon=0.0, normalised=False), [[z, z]], d=2)
    torch.testing.assert_close(predictor.second_moment, torch.tensor([[2.0, 1], [1, 2]]).double())
    p, m = (3**0.5 + 1) / 2, (3**0.5 - 1) / 2
    torch.testing.assert_close(predictor.weight, torch.tensor([[p, m], [m, p]]).double())
    part = ClosedFormPredictor(exponent=0.0, epsilon=0.0, cut=0.5)
    onto = shown(part, [[z, z]], d=2).weight
    torch.testing.assert_close(onto, torch.full((2, 2), 0.5, dtype=torch.float64))


@pytest.mark.parametrize("exponent", [0.25, 0.5, 1.0, 2.0])
def test_it_commutes_with_the_moment_it_was_made_from(exponent):
    part = ClosedFormPredictor(exponent=exponent)
    predictor = shown(part, [draw(seed=s) for s in range(4)])
    assert commutator_norm(predictor.weight, predictor.second_moment) < 1e-12
    torch.testing.assert_close(predictor.weight, predictor.weight.T)


def test_the_square_root_is_a_square_root():
    views = draw()
    found = shown(ClosedFormPredictor(epsilon=0.0, normalised=False), [views]).weight
    np.testing.assert_allclose(found.numpy(), sqrtm(moment(views)).real, atol=1e-10)


def test_the_first_moment_is_the_first_batchs_and_then_an_average():
    first, second = draw(seed=1), draw(seed=2)
    predictor = shown(ClosedFormPredictor(rho=0.3), [first, second])
    expected = 0.3 * moment(first) + 0.7 * moment(second)
    np.testing.assert_allclose(predictor.second_moment.numpy(), expected, atol=1e-12)
    from_zero = shown(ClosedFormPredictor(rho=0.3, start="zero"), [first])
    np.testing.assert_allclose(from_zero.second_moment.numpy(), 0.7 * moment(first), atol=1e-12)


def test_centred_is_the_covariance():
    views = [z + 3 for z in draw()]
    part = ClosedFormPredictor(exponent=1.0, epsilon=0.0, normalised=False, centred=True)
    found = shown(part, [views]).weight.numpy()
    np.testing.assert_allclose(found, np.cov(torch.cat(views).numpy().T, bias=True), atol=1e-12)


def test_a_lag_predicts_by_the_last_step():
    first, second = draw(seed=1), draw(seed=2)
    late = shown(ClosedFormPredictor(rho=0.5, lag=1), [first])
    now = shown(ClosedFormPredictor(rho=0.5, lag=0), [first])
    kept = late.weight.clone()
    for predictor in (late, now):
        predictor.observe(second, second)
    torch.testing.assert_close(late(second[0]), second[0] @ kept)
    after = shown(ClosedFormPredictor(rho=0.5), [first, second]).weight
    torch.testing.assert_close(now(second[0]), second[0] @ after)
    torch.testing.assert_close(now.weight, kept)  # not before the step is done
    now.after_step(2, 2)
    torch.testing.assert_close(now.weight, after)


def test_evaluation_records_nothing_and_predicts_by_what_is_kept():
    predictor = shown(ClosedFormPredictor(lag=0), [draw(seed=1)])
    predictor.observe(draw(seed=2), draw(seed=2))
    predictor.eval()
    z = draw(seed=3)[0]
    torch.testing.assert_close(predictor(z), z @ predictor.weight)


def test_no_gradient_flows_through_the_predictor():
    views = [z.requires_grad_() for z in draw()]
    predictor = built(ClosedFormPredictor(lag=0))
    predictor.observe(views, views)
    predictor(views[0]).sum().backward()
    predictor.after_step(1, 1)
    expected = predictor.weight.sum(0).expand_as(views[0])
    torch.testing.assert_close(views[0].grad, expected)


def test_a_hybrid_is_trained_in_between():
    predictor = built(ClosedFormPredictor(frequency=3))
    assert isinstance(predictor.weight, torch.nn.Parameter)
    assert not list(built(ClosedFormPredictor()).parameters())
    set_at = []
    for step in range(1, 8):
        before = predictor.weight.detach().clone()
        predictor.observe(*[draw(seed=step)] * 2)
        predictor.after_step(step, 7)
        if not torch.equal(before, predictor.weight):
            set_at.append(step)
    assert set_at == [1, 4, 7]


def test_a_resumed_predictor_goes_on_alike():
    batches = [draw(seed=s) for s in range(4)]
    whole = shown(ClosedFormPredictor(), batches)
    half = shown(ClosedFormPredictor(), batches[:2])
    resumed = built(ClosedFormPredictor())
    resumed.load_state_dict(copy.deepcopy(half.state_dict()))
    for step, views in enumerate(batches[2:], start=3):
        resumed.observe(views, views)
        resumed.after_step(step, 4)
    assert torch.equal(whole.weight, resumed.weight)


@pytest.mark.parametrize(
    "part",
    [
        ClosedFormPredictor(),
        ClosedFormPredictor(exponent=1.0),
        ClosedFormPredictor(lag=0),
        RegressionPredictor(),
    ],
)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_embeddings_that_are_not_finite_show_in_the_prediction(part, bad):
    views = draw()
    views[0][3, 2] = bad
    predictor = shown(part, [views])
    assert predictor(draw()[0]).isnan().all()


@pytest.mark.parametrize("part", [ClosedFormPredictor(), ClosedFormPredictor(exponent=1.0)])
def test_a_dead_embedding_is_predicted_without_nan(part):
    zeros = [torch.zeros(8, 6, dtype=torch.float64)] * 2
    assert torch.isfinite(shown(part, [zeros])(zeros[0])).all()


def test_rounding_makes_no_direction():
    # 3 rows span 3 of 6 dimensions; the square root of what rounding leaves would be about 1e-8.
    z = draw(n=3)[0]
    weight = shown(ClosedFormPredictor(epsilon=0.0), [[z, z]]).weight
    assert np.linalg.matrix_rank(weight.numpy(), tol=1e-13) == 3


def test_regression_is_the_least_squares_solution():
    views, targets = draw(seed=1, views=3), draw(seed=2, views=3)
    predictor = built(RegressionPredictor(ridge=1e-12, rho=0.0))
    predictor.observe(views, targets)
    predictor.after_step(1, 1)
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    z = np.concatenate([views[i].numpy() for i, _ in pairs])
    t = np.concatenate([targets[j].numpy() for _, j in pairs])
    np.testing.assert_allclose(
        predictor.weight.numpy().T, np.linalg.lstsq(z, t, rcond=None)[0], atol=1e-8
    )


def test_regression_with_a_ridge_and_fewer_targets():
    views, targets = draw(seed=1, views=3), draw(seed=2, views=1)
    predictor = built(RegressionPredictor(ridge=0.5))
    predictor.observe(views, targets)
    predictor.after_step(1, 1)
    z, t = torch.cat(views[1:]).numpy(), np.concatenate([targets[0].numpy()] * 2)
    C = z.T @ z
    expected = t.T @ z @ np.linalg.inv(C + 0.5 * np.trace(C) / 6 * np.eye(6))
    np.testing.assert_allclose(predictor.weight.numpy(), expected, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"rho": 1.0}, "rho"),
        ({"exponent": -1.0}, "exponent"),
        ({"epsilon": -0.1}, "epsilon"),
        ({"floor": -1.0}, "floor"),
        ({"cut": 1.0}, "cut"),
        ({"shrink": 1.0}, "shrink"),
        ({"frequency": 0}, "frequency"),
        ({"frequency": 5, "lag": 0}, "frequency"),
    ],
)
def test_settings_outside_their_range_are_refused(options, named):
    with pytest.raises(UserError, match=rf"recipe\.predictor\.{named}: .* Allowed: "):
        ClosedFormPredictor(**options)


@pytest.mark.parametrize(("options", "named"), [({"ridge": 0.0}, "ridge"), ({"rho": -0.1}, "rho")])
def test_regression_settings_outside_their_range_are_refused(options, named):
    with pytest.raises(UserError, match=rf"recipe\.predictor\.{named}: .* Allowed: "):
        RegressionPredictor(**options)
