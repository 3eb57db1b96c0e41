from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fullrank.errors import UserError
from fullrank.randomness import generator
from fullrank.theory.centre import (
    OBJECTIVES,
    SphereObjective,
    antipodal,
    augmentation_kernel,
    centre_length,
    collapse_rates,
    escape_rate,
    first_moment_is_not_enough,
    great_circle,
    participation,
    uniform_kernel,
)
from fullrank.theory.flow import integrate

F64 = torch.float64


def sphere(*shape: int, key: str = "z") -> Tensor:
    return normalize(torch.randn(*shape, generator=generator(0, key), dtype=F64), dim=-1)


def ring_kernel(n: int) -> Tensor:
    return augmentation_kernel(great_circle(n, 2), 0.3)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_the_flow_is_the_gradient_along_the_sphere(kind: str) -> None:
    objective = SphereObjective(kind, penalty=0.7, temperature=0.4)
    kernel = ring_kernel(9)
    z = sphere(2, 9, 4).requires_grad_()
    unit = normalize(z, dim=2)  # the gradient of this lies along the sphere
    (-9 * objective.value(unit, kernel).sum()).backward()
    assert torch.allclose(objective.rates(kernel)(0.0, (z.detach(),))[0], z.grad, atol=1e-12)


def test_the_expected_losses_are_means_over_pairs() -> None:
    z, kernel = sphere(1, 7, 3), ring_kernel(7)
    rows = z[0].numpy()
    attraction = -sum(float(kernel[i, j]) * rows[i] @ rows[j] for i in range(7) for j in range(7))
    assert float(SphereObjective("alignment").value(z, kernel)) == pytest.approx(attraction)
    centre = SphereObjective("centre", penalty=0.8).value(z, kernel)
    assert float(centre) == pytest.approx(attraction + 0.8 * (rows.mean(0) ** 2).sum())
    logs = [
        math.log(sum(math.exp(rows[i] @ rows[j] / 0.3) for j in range(7)) / 7) for i in range(7)
    ]
    contrast = SphereObjective("contrast", temperature=0.3).value(z, kernel)
    assert float(contrast) == pytest.approx(attraction / 0.3 + sum(logs) / 7)


def test_kernels_see_every_input_as_often() -> None:
    for kernel in (uniform_kernel(12, 0.3), augmentation_kernel(sphere(12, 3), 0.2)):
        assert torch.allclose(kernel.sum(0), torch.full((12,), 1 / 12, dtype=F64), atol=1e-9)
        assert torch.allclose(kernel, kernel.T, atol=1e-12)
    sharp = augmentation_kernel(sphere(12, 3), 1e-6)
    assert torch.allclose(sharp, torch.eye(12, dtype=F64) / 12, atol=1e-9)


def test_alignment_alone_collapses_and_the_others_do_not() -> None:
    start = sphere(3, 16, 4)
    kernel = uniform_kernel(16, 0.3)
    times = torch.tensor([0.0, 40.0], dtype=F64)
    ends = {
        kind: integrate(SphereObjective(kind).rates(kernel), (start,), times).end[0]
        for kind in OBJECTIVES
    }
    assert (centre_length(ends["alignment"]) > 0.999).all()
    for kind in ("centre", "contrast"):
        assert (centre_length(ends[kind]) < 1e-2).all()
        assert torch.allclose(ends[kind].norm(dim=2), torch.ones(3, 16, dtype=F64), atol=1e-5)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_displacements_from_a_point_grow_at_the_stated_rates(kind: str) -> None:
    objective = SphereObjective(kind, penalty=0.6, temperature=0.5)
    kernel = ring_kernel(10)
    expected = collapse_rates(objective, kernel)
    # Linear part of the flow around a point, in one direction at right angles, by differences.
    point = torch.zeros(10, 3, dtype=F64)
    point[:, 0] = 1
    rates = objective.rates(kernel)
    jacobian = []
    for i in range(10):
        moved = point.clone()
        moved[i, 1] = 1e-6
        jacobian.append(rates(0.0, (moved[None],))[0][0][:, 1] / 1e-6)
    J = torch.stack(jacobian, dim=1)
    P = torch.eye(10, dtype=F64) - 0.1
    found = torch.linalg.eigvalsh(P @ (J + J.T) / 2 @ P + 1e3 * torch.full((10, 10), 0.1))
    assert torch.allclose(found[:-1], expected, atol=1e-5)


def test_the_centre_penalty_lifts_a_point_from_its_threshold_on() -> None:
    # Mean field: k = 1 - q for every displacement, so the threshold is q.
    kernel = uniform_kernel(12, 0.4)
    for penalty, lifts in ((0.3, False), (0.5, True)):
        rates = collapse_rates(SphereObjective("centre", penalty), kernel)
        assert ((rates > 0) == lifts).all()
        start = normalize(torch.eye(3, dtype=F64)[:1] + 0.01 * sphere(1, 12, 3), dim=2)
        end = integrate(
            SphereObjective("centre", penalty).rates(kernel),
            (start,),
            torch.tensor([0.0, 80.0], dtype=F64),
        ).end[0]
        assert (float(centre_length(end)) < 0.5) == lifts


def test_antipodal_points_and_a_great_circle_are_at_rest_under_the_centre_penalty() -> None:
    kernel = uniform_kernel(16, 0.3)
    for configuration in (antipodal(16, 4), great_circle(16, 4)):
        assert float(centre_length(configuration)) < 1e-15
        for kind in OBJECTIVES:
            rate = SphereObjective(kind).rates(kernel)(0.0, (configuration[None],))[0]
            assert rate.abs().max() < 1e-13


@pytest.mark.parametrize("temperature", [0.2, 0.5, 2.0])
def test_antipodal_points_are_left_at_the_stated_rate(temperature: float) -> None:
    z = antipodal(8, 3)
    push = torch.tensor([1.0, 1.0, -1.0, -1.0, 0.0, 0.0, 0.0, 0.0], dtype=F64)
    push = 1e-6 * push  # mean 0 in each half: even and odd particles
    z = z.clone()
    z[:, 1] = push
    for kind in ("contrast", "centre"):
        objective = SphereObjective(kind, temperature=temperature)
        rate = objective.rates(uniform_kernel(8, 0.25))(0.0, (z[None],))[0][0][:, 1]
        expected = escape_rate(objective, 0.25) * push
        assert torch.allclose(rate, expected, atol=1e-12)


def test_the_first_moment_alone_leaves_dimensional_collapse_possible() -> None:
    shown = first_moment_is_not_enough(n=24, d=5)
    assert shown.names == ("point", "antipodal points", "great circle")
    # Complete collapse is left under both objectives …
    assert shown.centre["before"][0] > 0.99
    assert (shown.centre["centre"] < 1e-3).all()
    assert (shown.centre["contrast"] < 1e-2).all()
    # … but the penalty leaves both low-dimensional configurations as they are,
    assert torch.allclose(shown.rank["centre"][1:], shown.rank["before"][1:], rtol=0.01)
    assert (shown.outside["centre"][1:] < 2 * shown.outside["before"][1:]).all()
    # while InfoNCE fills the sphere.
    assert (shown.rank["contrast"] > 4.5).all()


def test_participation_is_1_2_and_d() -> None:
    assert float(participation(antipodal(10, 4))) == pytest.approx(1)
    assert float(participation(great_circle(10, 4))) == pytest.approx(2)
    axes = torch.eye(4, dtype=F64)
    assert float(participation(torch.cat([axes, -axes]))) == pytest.approx(4)


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match=r"kind: 'center' is not known. Did you mean 'centre'"):
        SphereObjective("center")
    with pytest.raises(UserError, match=r"^temperature: 0 given; allowed: above 0"):
        SphereObjective("contrast", temperature=0.0)
    with pytest.raises(UserError, match=r"^penalty: -1 given"):
        SphereObjective("centre", penalty=-1.0)
    with pytest.raises(UserError, match=r"^overlap: 1.5 given; allowed: from 0, to 1"):
        uniform_kernel(4, 1.5)
    with pytest.raises(UserError, match=r"^n: 5 given; allowed: even"):
        antipodal(5, 3)
    with pytest.raises(UserError, match=r"^noise: 0 given"):
        augmentation_kernel(sphere(4, 3), 0.0)
