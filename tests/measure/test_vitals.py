from __future__ import annotations

import json
import math

import pytest
import torch

from fullrank.errors import UserError
from fullrank.measure.moments import moments_of
from fullrank.measure.vitals import VitalSigns, vital_signs
from fullrank.randomness import generator


def gaussian(n: int, d: int) -> torch.Tensor:
    return torch.randn(n, d, generator=generator(0, "gaussian"))


def test_vitals_of_isotropic_data() -> None:
    x = gaussian(4000, 32)
    vitals = vital_signs(moments_of(x, x))
    assert vitals["d"] == vitals["hard_rank"] == len(vitals["spectrum"]) == 32
    assert vitals["n"] == 4000
    assert vitals["n_over_d"] == 125
    assert vitals["spread"] == pytest.approx(1, abs=1e-3)
    assert vitals["std"] == pytest.approx(1, abs=1e-2)
    assert vitals["rank_share"] == pytest.approx(1, abs=1e-2)
    assert vitals["effective_rank"] == pytest.approx(32, rel=1e-2)
    assert vitals["participation_ratio"] == pytest.approx(32, rel=2e-2)
    assert vitals["cev_auc"] == pytest.approx(33 / 64, abs=2e-2)
    assert vitals["alignment"] == 0
    assert vitals["dead_units"] == 0


def test_dead_units_and_low_rank_are_seen_in_float32_features() -> None:
    x = gaussian(1000, 4) @ gaussian(4, 32) + 3
    x[:, :5] = 0.7
    vitals = vital_signs(moments_of(x))
    assert vitals["dead_units"] == 5
    assert vitals["hard_rank"] == 4


def test_rank_share_is_of_what_so_few_rows_can_have() -> None:
    x = gaussian(9, 32)
    vitals = vital_signs(moments_of(x))
    assert vitals["hard_rank"] == 8
    assert vitals["rank_share"] == pytest.approx(vitals["effective_rank"] / 8)
    paired = vital_signs(moments_of(x, gaussian(18, 32)[9:]))
    assert paired["hard_rank"] == 16  # each of the two views gives up its mean


@pytest.mark.parametrize("shape", [(50, 6), (1, 6), (50, 1), (1, 1)])
def test_constant_rows_give_finite_numbers(shape: tuple[int, int]) -> None:
    vitals = vital_signs(moments_of(torch.full(shape, 0.3)))
    assert vitals["spread"] == vitals["std"] == vitals["effective_rank"] == 0
    assert vitals["rank_share"] == vitals["hard_rank"] == vitals["participation_ratio"] == 0
    assert vitals["cev_auc"] == 1
    assert vitals["dead_units"] == shape[1]


@pytest.mark.parametrize("shape", [(50, 6), (3, 6), (2, 6), (1, 6), (50, 1)])
def test_vitals_are_json_and_finite(shape: tuple[int, int]) -> None:
    vitals = vital_signs(moments_of(gaussian(*shape)))
    assert json.loads(json.dumps(vitals, allow_nan=False)) == vitals
    assert set(vitals) == set(VitalSigns.__annotations__)
    assert all(math.isfinite(sigma) for sigma in vitals["spectrum"])
    assert vitals["spectrum"] == sorted(vitals["spectrum"], reverse=True)


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(UserError, match="at least one row"):
        vital_signs(moments_of(torch.zeros(0, 3)))
