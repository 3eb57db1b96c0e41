"""Wide rows: exact where no scatter is needed, bounded where it is sketched."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.moments import Moments, moments_of
from fullrank.measure.table import CENTRAL, SKETCHED, read_table, read_wide_table
from fullrank.measure.vitals import vital_signs
from fullrank.measure.wide import WideRows, left_out_of_wide, wide_rankme, wide_vital_signs

D = 96


def rows(n: int = 700, alpha: float = 1.0, mean: float = 0.5, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, D, generator=g) * torch.arange(1, D + 1) ** -alpha + mean


def wide(*views: Tensor, size: int = 48, block: int = 64) -> WideRows:
    found = WideRows(D, len(views), size=size, sample=200)
    for part in zip(*(view.split(block) for view in views), strict=True):
        found.add(part)
    return found


def test_what_needs_no_scatter_is_exact_and_has_the_same_error_bars() -> None:
    views = rows(), rows() + 0.1 * rows(seed=1)
    moments = Moments(shards=8)
    moments.update(*views)
    exact, found = read_table(moments.compute_shards()), read_wide_table(wide(*views))
    for name in CENTRAL:
        assert found[name].value == pytest.approx(exact[name].value, rel=1e-9), name
        assert found[name].low == pytest.approx(exact[name].low, rel=1e-6), name
    assert found["dead_units"].value == exact["dead_units"].value


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.0])
def test_bounds_hold_the_exact_spectrum(alpha: float) -> None:
    x = rows(alpha=alpha)
    moments = Moments(shards=8)
    moments.update(x)
    exact, found = read_table(moments.compute_shards()), read_wide_table(wide(x))
    for name in SKETCHED:
        low, high, value = found[name].low, found[name].high, exact[name].value
        assert low is not None and high is not None and value is not None
        assert low * (1 - 1e-9) <= value <= high * (1 + 1e-9), name
        assert any("sketch" in flag for flag in found[name].flags)


def test_blocks_change_nothing() -> None:
    one, other = (wide_vital_signs(wide(rows(), block=block)) for block in (700, 33))
    for name, value in one.items():
        if isinstance(value, float):
            assert other[name] == pytest.approx(value, rel=1e-7), name  # type: ignore[literal-required]


def test_vital_signs_are_those_of_exact_moments_where_the_sketch_holds_all() -> None:
    x = rows(alpha=2.0) * (torch.arange(D) < 20)
    sketched, exact = wide_vital_signs(wide(x)), vital_signs(moments_of(x))
    for name in ("spread", "std", "effective_rank", "participation_ratio", "dead_units"):
        assert sketched[name] == pytest.approx(exact[name], rel=1e-3), name  # type: ignore[literal-required]


@pytest.mark.parametrize("x", [torch.ones(20, D), torch.zeros(20, D), rows(1), rows(2)])
def test_extreme_rows_give_json(x: Tensor) -> None:
    found = read_wide_table(wide(x))
    json.dumps({name: r.to_dict() for name, r in found.items()}, allow_nan=False)
    assert wide_vital_signs(wide(x))["spread"] >= 0


def test_another_width_is_refused() -> None:
    with pytest.raises(UserError, match="width 5"):
        wide(rows()).add([torch.ones(3, 5)])


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("mean", [0.0, 0.5, 20.0])
def test_bounds_of_rankme_hold_its_value(alpha: float, mean: float) -> None:
    x = rows(alpha=alpha, mean=mean)
    found = wide_rankme(wide(x))
    sigma = torch.linalg.svdvals(x.double())
    p = sigma / sigma.sum() + 1e-7
    exact = float((-(p * p.log()).sum()).exp())
    assert found.low is not None and found.high is not None
    assert found.low * (1 - 1e-6) <= exact <= found.high * (1 + 1e-6)
    assert "not an interval" in found.flags[0]


def test_what_wide_rows_do_not_give_is_said_with_the_reason() -> None:
    two = rows(), rows(seed=1)
    moments = Moments(shards=8)
    moments.update(*two)
    given = {**read_wide_table(wide(*two)), "rankme": wide_rankme(wide(*two))}
    missing = read_table(moments.compute_shards()).keys() - given.keys()
    assert missing == left_out_of_wide(views=2).keys()
    for reading in left_out_of_wide(views=2).values():
        assert reading.value is None and reading.flags[0].startswith("not for rows this wide")
