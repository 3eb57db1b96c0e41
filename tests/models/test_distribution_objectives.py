"""LeJEPA's and VISReg's objectives: SciPy, closed forms, and how they act at a collapse."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad

from fullrank.errors import UserError
from fullrank.models.objectives.objective import Outputs
from fullrank.models.settings.objective import ObjectivePart
from fullrank.models.settings.objectives.distribution import SIGReg, VISReg

PARTS: list[ObjectivePart] = [
    SIGReg(directions=16),
    SIGReg(directions=16, t_max=3.0, half=True),
    SIGReg(directions=16, knots=8),
    VISReg(directions=16),
]
every_part = pytest.mark.parametrize("part", PARTS, ids=str)


def rows(n, d, seed=0):
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=gen, dtype=torch.float64)


def outputs(n=32, d=5, views=2, targets=None):
    z = [rows(n, d, i) for i in range(views)]
    return Outputs(z, z, z, [rows(n, d, 50 + i) for i in range(targets or views)])


def online(*z):
    views = list(z)
    return Outputs(views, views, views, views)


def terms(part, out):
    found = part.build(out.embeddings[0].shape[1])(out).terms
    return {name: float(value) for name, value in found.items()}


def directions(part, out):
    z = out.embeddings[0]
    return part.build(z.shape[1]).random_directions(part.directions, z).numpy()


@every_part
@pytest.mark.parametrize(("views", "targets"), [(2, 2), (3, 3), (4, 2)])
def test_the_distance_is_that_from_the_centre_of_the_large_crops(part, views, targets):
    out = outputs(views=views, targets=targets)
    centre = np.mean([t.numpy() for t in out.targets], axis=0)
    expected = np.mean([(p.numpy() - centre) ** 2 for p in out.predictions])
    assert terms(part, out)["distance"] == pytest.approx((1 - part.weight) * expected, abs=1e-12)


@pytest.mark.parametrize("part", PARTS[:3], ids=str)
@pytest.mark.parametrize(("views", "targets"), [(2, 2), (4, 2)])
def test_sigreg_is_lejepas_equation(part, views, targets):
    out = outputs(views=views, targets=targets)
    t = np.linspace(0 if part.half else -part.t_max, part.t_max, part.knots)
    statistics = []
    for z in out.embeddings:
        x = z.numpy() @ directions(part, out)
        phi = np.exp(1j * x[:, :, None] * t).mean(0)
        integrand = np.abs(phi - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2)
        integral = np.trapezoid(integrand, t, axis=1) * (2 if part.half else 1)
        statistics.append(len(x) * integral.mean())
    expected = part.weight * np.mean(statistics)
    assert terms(part, out)["sigreg"] == pytest.approx(expected, rel=1e-6)


def test_the_statistic_is_the_closed_form_of_epps_and_pulley():
    """With the window exp(-t²/2) the integral has a closed form (Epps and Pulley 1983)."""
    x = rows(20, 1).numpy()[:, 0]
    n = len(x)
    pairs = np.exp(-((x[:, None] - x) ** 2) / 2).sum() / n
    closed = math.sqrt(2 * math.pi) * (
        pairs - math.sqrt(2) * np.exp(-(x**2) / 4).sum() + n / math.sqrt(3)
    )
    part = SIGReg(weight=1.0, directions=1, knots=4001, t_max=12.0)
    z = torch.tensor(x)[:, None]
    assert terms(part, online(z, z))["sigreg"] == pytest.approx(closed, rel=1e-6)


@pytest.mark.parametrize(("half", "t_max"), [(False, 5.0), (True, 3.0)])
def test_seventeen_knots_integrate_as_well_as_is_claimed(half, t_max):
    z = torch.tensor([[0.3], [-1.2], [2.0]], dtype=torch.float64)
    x = z[:, 0].numpy()

    def integrand(t):
        return abs(np.exp(1j * t * x).mean() - np.exp(-t * t / 2)) ** 2 * np.exp(-t * t / 2)

    exact = 3 * quad(integrand, -t_max, t_max)[0]
    part = SIGReg(weight=1.0, directions=1, t_max=t_max, half=half)
    assert terms(part, online(z, z))["sigreg"] == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize(("views", "targets"), [(2, 2), (4, 2)])
def test_visreg_is_the_papers_equations(views, targets):
    part = VISReg(weight=0.7, scale=2.0, shape=3.0, centre=5.0, directions=16)
    out = outputs(views=views, targets=targets)
    found = {"scale": [], "shape": [], "centre": []}
    for z in (z.numpy() for z in out.embeddings):
        n = len(z)
        found["centre"].append(np.mean(z.mean(0) ** 2))
        found["scale"].append(np.mean((1 - z.std(0)) ** 2))
        x = np.sort((z - z.mean(0)) / z.std(0) @ directions(part, out), axis=0)
        quantiles = stats.norm.ppf(np.arange(1, n + 1) / (n + 1))
        found["shape"].append(np.mean((x - quantiles[:, None]) ** 2))
    ours = terms(part, out)
    for name, weight in (("scale", 2), ("shape", 3), ("centre", 5)):
        assert ours[name] == pytest.approx(0.7 * weight * np.mean(found[name]), abs=1e-12)


def test_both_are_near_their_least_for_a_gaussian_and_tell_every_departure_from_it():
    gen = np.random.default_rng(0)
    n, d = 2000, 8
    gaussian = gen.standard_normal((n, d))
    others = {
        "shifted": gaussian + 0.5,
        "small": 0.5 * gaussian,
        "of rank one": gaussian[:, :1] @ np.ones((1, d)),
        "heavy-tailed": gen.standard_t(3, (n, d)) / math.sqrt(3),
    }
    for part, names in (
        (SIGReg(weight=1.0, directions=64), ("sigreg",)),
        (VISReg(weight=1.0, directions=64), ("scale", "shape", "centre")),
    ):

        def loss(z, part=part, names=names):
            z = torch.tensor(z)
            return sum(terms(part, online(z, z))[name] for name in names)

        healthy = loss(gaussian)
        for name, z in others.items():
            assert loss(z) > 3 * healthy, name


@every_part
def test_the_collapsed_loss_is_that_of_zero_and_the_least_of_all_constants(part):
    n, d = 16, 6
    expected = part.collapsed_loss(d, n)
    assert part.collapsed_at == "zero"

    def constant(value):
        z = torch.full((n, d), value, dtype=torch.float64)
        return sum(terms(part, online(z, z)).values())

    assert constant(0.0) == pytest.approx(expected, rel=1e-6)
    assert min(constant(v) for v in (-2.0, -0.1, 0.1, 0.7, 3.0)) > expected


def gradient_norm(part, z):
    """Return the norm of the gradient of the terms that spread the embedding."""
    leaf = z.clone().requires_grad_()
    found = part.build(z.shape[1])(Outputs([], [leaf], [leaf, leaf], [leaf, leaf])).terms
    sum(value for name, value in found.items() if name != "distance").backward()
    return float(leaf.grad.norm())


def test_sigregs_gradient_vanishes_at_a_collapse_and_visregs_does_not():
    """The claim of Wu et al. 2026, abstract: robust gradients even under collapse."""
    z = rows(64, 8)
    z = (z - z.mean(0)) / z.std(0)
    sigreg, visreg = (part(weight=1.0, directions=64) for part in (SIGReg, VISReg))
    scales = (1e-1, 1e-2, 1e-3, 1e-4)
    vanishing = [gradient_norm(sigreg, s * z) for s in scales]
    # Linear in the scale: by symmetry there is no force at the point itself.
    for before, after in itertools.pairwise(vanishing):
        assert after == pytest.approx(before / 10, rel=0.05)
    assert vanishing[-1] < 1e-3 * gradient_norm(sigreg, 0.5 * z)
    steady = [gradient_norm(VISReg(weight=1.0, shape=0.0, directions=1), s * z) for s in scales]
    # d (1 - std)² → 2 for every dimension: a constant.
    assert steady[-1] == pytest.approx(steady[0] / 0.9, rel=0.01)
    assert gradient_norm(visreg, 1e-4 * z) > 1.0 * steady[-1]


@every_part
@pytest.mark.parametrize(("views", "targets"), [(2, 2), (4, 2)])
def test_gradients_are_those_of_finite_differences(part, views, targets):
    z = [rows(6, 3, i).requires_grad_() for i in range(views)]
    fixed = [rows(6, 3, 9 + i) for i in range(targets)]
    objective = part.build(3)
    if isinstance(part, VISReg):  # whose shape takes the standard deviation as a constant
        objective = VISReg(shape=0.0, directions=4).build(3)

    def loss(*views):
        return objective(Outputs(list(views), list(views), list(views), fixed)).total

    assert torch.autograd.gradcheck(loss, z, fast_mode=True)


@every_part
def test_permuting_the_batch_changes_nothing(part):
    out = outputs(views=3, targets=2)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(2))
    lists = (out.features, out.embeddings, out.predictions, out.targets)
    shuffled = Outputs(*([t[order] for t in ts] for ts in lists))
    assert terms(part, shuffled) == pytest.approx(terms(part, out), abs=1e-10)


@every_part
def test_directions_depend_on_the_step_alone_and_come_back_with_the_state(part):
    out, objective = outputs(), part.build(5)
    first = objective(out).total
    torch.testing.assert_close(objective(out).total, first, rtol=0, atol=0)
    objective.after_step(1, 10)
    second = objective(out).total
    assert float(second) != float(first)
    other = part.build(5)
    other.load_state_dict(objective.state_dict())
    torch.testing.assert_close(other(out).total, second, rtol=0, atol=0)
    other.after_step(0, 10)
    torch.testing.assert_close(other(out).total, first, rtol=0, atol=0)
    drawn = objective.random_directions(7, out.embeddings[0])
    torch.testing.assert_close(drawn.norm(dim=0), torch.ones(7).double())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SIGReg(weight=1.5), "recipe.objective.weight: 1.5"),
        (lambda: SIGReg(directions=0), "recipe.objective.directions: 0"),
        (lambda: SIGReg(knots=1), "recipe.objective.knots: 1"),
        (lambda: SIGReg(t_max=0.0), "recipe.objective.t_max: 0.0"),
        (lambda: VISReg(weight=-0.1), "recipe.objective.weight: -0.1"),
        (lambda: VISReg(scale=-1), "recipe.objective.scale: -1"),
        (lambda: VISReg(shape=-1), "recipe.objective.shape: -1"),
        (lambda: VISReg(centre=-1), "recipe.objective.centre: -1"),
        (lambda: VISReg(directions=0), "recipe.objective.directions: 0"),
    ],
)
def test_bad_settings_are_refused_with_what_is_allowed(make, message):
    with pytest.raises(UserError, match=message + r".*Allowed"):
        make()
