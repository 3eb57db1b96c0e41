"""Laws that every measurement obeys, whatever the representation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fullrank.measure.moments import moments_of
from fullrank.measure.spectrum import cev_auc, effective_rank, hill_number, participation_ratio
from fullrank.measure.vitals import vital_signs
from fullrank.randomness import generator

# What depends on the centred spectrum alone, and what on unit rows alone.
CENTRED = ("effective_rank", "rank_share", "cev_auc", "hard_rank", "participation_ratio")
UNIT = ("spread", "alignment")
ORDERS = (0, 0.3, 0.95, 1, 1.05, 1.5, 2, 5, math.inf)


def normal(*shape: int, key: str) -> Tensor:
    return torch.randn(*shape, generator=generator(0, "laws", key), dtype=torch.float64)


def rotation(d: int) -> Tensor:
    return torch.linalg.qr(normal(d, d, key="rotation")).Q


REPRESENTATIONS: dict[str, Callable[[], Tensor]] = {
    "isotropic": lambda: normal(300, 16, key="isotropic"),
    "power law": lambda: normal(300, 16, key="power") * torch.arange(1, 17) ** -1.5,
    "low rank": lambda: normal(300, 3, key="low") @ normal(3, 16, key="rank"),
    "large mean": lambda: normal(300, 16, key="mean") + 50,
    "fewer rows than coordinates": lambda: normal(10, 16, key="few"),
    "clusters": lambda: (
        normal(4, 16, key="centres").repeat(75, 1) + 0.01 * normal(300, 16, key="noise")
    ),
}


@pytest.fixture(params=REPRESENTATIONS)
def pair(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    x = REPRESENTATIONS[request.param]()
    return x, x + 0.1 * x.std() * normal(*x.shape, key="view")


def assert_alike(
    a: tuple[Tensor, ...], b: tuple[Tensor, ...], names: tuple[str, ...], scale: float = 1.0
) -> None:
    first, second = vital_signs(moments_of(*a)), vital_signs(moments_of(*b))
    for name in names:
        assert first[name] == pytest.approx(second[name], rel=1e-6), name  # type: ignore[literal-required]
    top = first["spectrum"][0] * scale
    expected = [s * scale for s in first["spectrum"]]
    assert second["spectrum"] == pytest.approx(expected, abs=1e-7 * top)


def test_rotation_changes_nothing(pair: tuple[Tensor, Tensor]) -> None:
    turned = tuple(x @ rotation(16) for x in pair)
    assert_alike(pair, turned, CENTRED + UNIT)


def test_scale_changes_the_spectrum_alone(pair: tuple[Tensor, Tensor]) -> None:
    scaled = tuple(1e-3 * x for x in pair)
    assert_alike(pair, scaled, (*CENTRED, *UNIT, "std", "dead_units"), scale=1e-3)


def test_translation_does_not_reach_the_centred(pair: tuple[Tensor, Tensor]) -> None:
    offset = 10 * normal(16, key="offset")
    assert_alike(pair, tuple(x + offset for x in pair), (*CENTRED, "dead_units"))
    # Nor does one for each view, such as a bias that only one of two branches has.
    assert_alike(pair, (pair[0], pair[1] + offset), (*CENTRED, "dead_units"))


def test_order_of_rows_and_of_views_changes_nothing(pair: tuple[Tensor, Tensor]) -> None:
    order = torch.randperm(len(pair[0]), generator=generator(0, "laws", "order"))
    assert_alike(pair, (pair[1][order], pair[0][order]), (*CENTRED, *UNIT, "std"))


def test_each_row_twice_changes_the_length_of_the_spectrum_alone() -> None:
    x, y = REPRESENTATIONS["power law"](), REPRESENTATIONS["isotropic"]()
    twice = (torch.cat([x, x]), torch.cat([y, y]))
    assert_alike((x, y), twice, (*CENTRED, *UNIT, "std"), scale=math.sqrt(2))


def test_coordinates_may_change_places(pair: tuple[Tensor, Tensor]) -> None:
    order = torch.randperm(16, generator=generator(0, "laws", "coordinates"))
    assert_alike(pair, tuple(x[:, order] for x in pair), (*CENTRED, *UNIT, "std", "dead_units"))


@pytest.mark.parametrize("k", [1, 5, 100])
def test_equal_weights_count_themselves_at_every_order(k: int) -> None:
    weights = torch.cat([torch.full((k,), 0.3), torch.zeros(7)])
    for order in ORDERS:
        assert float(hill_number(weights, order)) == pytest.approx(k)
    assert float(effective_rank(weights)) == pytest.approx(k)
    assert float(participation_ratio(weights)) == pytest.approx(k)


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_hill_numbers_fall_with_the_order_and_lie_between_one_and_the_count(name: str) -> None:
    sigma = moments_of(REPRESENTATIONS[name]()).singular_values
    found = [float(hill_number(sigma, order)) for order in ORDERS]
    assert found[0] == float((sigma > 0).sum())
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(found))
    assert found[-1] >= 1


def test_hill_numbers_multiply_over_independent_parts() -> None:
    """Replication: ``m`` equal copies of a spectrum have ``m`` times its effective number."""
    sigma = normal(9, key="replication").abs()
    for order in ORDERS:
        once, thrice = hill_number(sigma, order), hill_number(sigma.repeat(3), order)
        assert float(thrice) == pytest.approx(3 * float(once))


@pytest.mark.parametrize("k", [1, 2, 64])
def test_tail_of_flat_and_of_one_direction(k: int) -> None:
    flat, one = torch.full((k,), 2.0), torch.zeros(k)
    one[0] = 2.0
    assert float(cev_auc(flat)) == pytest.approx((k + 1) / (2 * k))
    assert float(cev_auc(one)) == 1


def test_tail_rises_as_weight_moves_to_the_top() -> None:
    index = torch.arange(1, 65, dtype=torch.float64)
    aucs = [float(cev_auc(index**-alpha)) for alpha in (0.0, 0.5, 1.0, 2.0, 4.0)]
    ranks = [float(effective_rank(index**-alpha)) for alpha in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert aucs == sorted(aucs)
    assert ranks == sorted(ranks, reverse=True)
