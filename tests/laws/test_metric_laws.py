"""Laws that every measurement obeys, whatever the representation."""

from __future__ import annotations

import importlib
import itertools
import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fullrank.measure._about_pairs import ABOUT as OF_PAIRS
from fullrank.measure._about_spectral import ABOUT
from fullrank.measure.lidar import lidar
from fullrank.measure.listing import metrics
from fullrank.measure.moments import Moments, MomentState, moments_of
from fullrank.measure.pairs import spread
from fullrank.measure.spectrum import (
    RESOLUTION,
    alpha_req,
    anisotropy,
    cev_auc,
    condition_number,
    effective_rank,
    hill_number,
    participation_ratio,
    rankme,
    spectral_entropy,
    stable_rank,
)
from fullrank.measure.table import read_table
from fullrank.measure.views import (
    canonical_correlation,
    centre_residual,
    expected_over_augmentations,
    expected_over_data,
)
from fullrank.measure.vitals import vital_signs
from fullrank.randomness import generator

# What depends on the centred spectrum alone, and what on unit rows alone.
CENTRED = ("effective_rank", "rank_share", "cev_auc", "hard_rank", "participation_ratio")
UNIT = ("spread", "alignment")
# The same of what is no vital sign. LiDAR here with a delta relative to scale.
Metric = Callable[[MomentState], object]
OF_CENTRED: dict[str, Metric] = {
    "stable_rank": lambda s: stable_rank(s.singular_values),
    "anisotropy": lambda s: anisotropy(s.singular_values),
    "spectral_entropy": lambda s: spectral_entropy(s.singular_values),
    "alpha_req": lambda s: alpha_req(s.singular_values),
    "condition_number": lambda s: condition_number(s.singular_values, rtol=RESOLUTION),
}
OF_VIEWS: dict[str, Metric] = {
    "lidar": lambda s: lidar(s, relative=True),
    "canonical_correlation": canonical_correlation,
}
OF_UNIT: dict[str, Metric] = {
    "centre": lambda s: centre_residual(s).centre,
    "residual": lambda s: centre_residual(s).residual,
    "expected_over_data": lambda s: expected_over_data(s, unbiased=True),
    "expected_over_augmentations": expected_over_augmentations,
}
OF_UNCENTRED: dict[str, Metric] = {"rankme": lambda s: rankme(s.uncentred_singular_values)}
EVERY = OF_CENTRED | OF_VIEWS | OF_UNIT | OF_UNCENTRED
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


def assert_same(
    a: tuple[Tensor, ...], b: tuple[Tensor, ...], metrics: dict[str, Metric], rel: float = 1e-6
) -> None:
    first, second = moments_of(*a), moments_of(*b)
    for name, metric in metrics.items():
        x, y = metric(first), metric(second)
        if x is None or y is None:
            assert x is y, name
        else:
            assert float(x) == pytest.approx(float(y), rel=rel), name  # type: ignore[arg-type]


def test_rotation_changes_nothing(pair: tuple[Tensor, Tensor]) -> None:
    turned = tuple(x @ rotation(16) for x in pair)
    assert_alike(pair, turned, CENTRED + UNIT)
    assert_same(pair, turned, EVERY)


def test_scale_changes_the_spectrum_alone(pair: tuple[Tensor, Tensor]) -> None:
    scaled = tuple(1e-3 * x for x in pair)
    assert_alike(pair, scaled, (*CENTRED, *UNIT, "std", "dead_units"), scale=1e-3)
    assert_same(pair, scaled, EVERY)


def test_translation_does_not_reach_the_centred(pair: tuple[Tensor, Tensor]) -> None:
    offset = 10 * normal(16, key="offset")
    moved = tuple(x + offset for x in pair)
    assert_alike(pair, moved, (*CENTRED, "dead_units"))
    assert_same(pair, moved, OF_CENTRED | OF_VIEWS)
    # Nor does one for each view, such as a bias that only one of two branches has.
    apart = (pair[0], pair[1] + offset)
    assert_alike(pair, apart, (*CENTRED, "dead_units"))
    assert_same(pair, apart, OF_CENTRED | {"canonical_correlation": canonical_correlation})


def test_order_of_rows_and_of_views_changes_nothing(pair: tuple[Tensor, Tensor]) -> None:
    order = torch.randperm(len(pair[0]), generator=generator(0, "laws", "order"))
    shuffled = (pair[1][order], pair[0][order])
    assert_alike(pair, shuffled, (*CENTRED, *UNIT, "std"))
    assert_same(pair, shuffled, EVERY)


def test_each_row_twice_changes_the_length_of_the_spectrum_alone() -> None:
    x, y = REPRESENTATIONS["power law"](), REPRESENTATIONS["isotropic"]()
    twice = (torch.cat([x, x]), torch.cat([y, y]))
    assert_alike((x, y), twice, (*CENTRED, *UNIT, "std"), scale=math.sqrt(2))


def test_coordinates_may_change_places(pair: tuple[Tensor, Tensor]) -> None:
    order = torch.randperm(16, generator=generator(0, "laws", "coordinates"))
    elsewhere = tuple(x[:, order] for x in pair)
    assert_alike(pair, elsewhere, (*CENTRED, *UNIT, "std", "dead_units"))
    assert_same(pair, elsewhere, EVERY)


def test_splitting_the_rows_changes_nothing(pair: tuple[Tensor, Tensor]) -> None:
    whole = moments_of(*pair)
    merged = moments_of(*(x[:3] for x in pair)).merge(moments_of(*(x[3:] for x in pair)))
    for name, metric in EVERY.items():
        a, b = metric(whole), metric(merged)
        if a is None or b is None:
            assert a is b, name
        else:
            assert float(a) == pytest.approx(float(b), rel=1e-6), name  # type: ignore[arg-type]


@pytest.mark.parametrize("constant", [0.0, 1.0, 1e3])
@pytest.mark.parametrize("n", [1, 2, 50])
def test_nothing_is_nan_when_nothing_varies(constant: float, n: int) -> None:
    rows = torch.full((n, 5), constant)
    for name, metric in EVERY.items():
        if name == "expected_over_data" and n == 1:
            continue  # needs a second image
        for state in (moments_of(rows), moments_of(rows, rows), moments_of(rows, rows, rows)):
            value = metric(state)
            assert value is None or not math.isnan(float(value)), name  # type: ignore[arg-type]


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_isoscore_is_the_participation_ratio_in_other_units(name: str) -> None:
    """Rudman et al. 2022, algorithm 1, against ``(PR - 1) / (d - 1)``."""
    x = REPRESENTATIONS[name]().numpy()
    d = x.shape[1]
    variances = np.linalg.eigvalsh(np.cov(x.T)).clip(min=0)
    unit = math.sqrt(d) * variances / np.linalg.norm(variances)
    defect = np.linalg.norm(unit - 1) / math.sqrt(2 * (d - math.sqrt(d)))
    used = (d - defect**2 * (d - math.sqrt(d))) ** 2 / d
    sigma = moments_of(torch.from_numpy(x)).singular_values
    expected = (float(participation_ratio(sigma)) - 1) / (d - 1)
    assert (used - 1) / (d - 1) == pytest.approx(expected)


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_one_spectral_core(name: str) -> None:
    """Published metrics that are one statistic: Hill numbers of σ or of λ = σ²."""
    sigma = moments_of(REPRESENTATIONS[name]()).singular_values
    lambda_ = sigma.square()
    assert float(stable_rank(sigma)) == pytest.approx(float(hill_number(lambda_, math.inf)))
    assert float(stable_rank(sigma)) == pytest.approx(float(1 / anisotropy(sigma)))
    assert float(participation_ratio(sigma)) == pytest.approx(float(hill_number(lambda_, 2)))
    entropy = spectral_entropy(sigma, normalised=False)
    assert float(entropy.exp()) == pytest.approx(float(hill_number(lambda_, 1)))
    assert float(rankme(sigma, epsilon=0.0)) == pytest.approx(float(effective_rank(sigma)))
    ranks = [effective_rank(sigma), entropy.exp(), participation_ratio(sigma), stable_rank(sigma)]
    assert [float(r) for r in ranks] == sorted((float(r) for r in ranks), reverse=True)


def test_centre_and_spread_are_one_statistic(pair: tuple[Tensor, Tensor]) -> None:
    state = moments_of(*pair)
    centre, residual = centre_residual(state)
    assert residual**2 == pytest.approx(spread(state))
    assert centre**2 == pytest.approx(1 - spread(state))
    assert expected_over_data(state) == centre


def test_the_listing_names_functions_that_exist_and_needs_no_torch() -> None:
    assert len({about.name for about in ABOUT}) == len(ABOUT)
    for about in ABOUT:
        module, function = about.function.split(".")
        assert callable(getattr(importlib.import_module(f"fullrank.measure.{module}"), function))
    code = "import sys, fullrank.measure._about_spectral; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_whole_listing_names_functions_that_exist_and_everything_in_a_table() -> None:
    every = metrics()
    assert len(every) == len(ABOUT) + len(OF_PAIRS)
    for about in every.values():
        module, function = about.function.split(".")
        assert callable(getattr(importlib.import_module(f"fullrank.measure.{module}"), function))
    moments = Moments(shards=8)
    x = normal(100, 16, key="listed")
    moments.update(x, x + normal(100, 16, key="listed, too"))
    assert set(read_table(moments.compute_shards(), x)) <= set(every)


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
