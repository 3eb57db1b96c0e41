"""Verdicts on features that come without a reference: known data, known kinds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fullrank.measure.moments import moments_of
from fullrank.measure.pair_table import pair_table
from fullrank.measure.verdict_alone import judge_alone
from fullrank.measure.vitals import vital_signs


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kind_of(rows: Tensor) -> str:
    nearest = pair_table(rows)["nearest_ratio"].value
    return judge_alone(vital_signs(moments_of(rows)), nearest).kind


def powers(exponent: float, d: int = 64) -> Tensor:
    """Rows whose singular values fall as a power law."""
    return normal(2000, d) * torch.arange(1, d + 1) ** -exponent


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (normal(2000, 64), "healthy"),
        (normal(2000, 64).relu(), "healthy"),
        (powers(0.5), "healthy"),
        (normal(2000, 2), "healthy"),
        (torch.ones(500, 16), "complete collapse"),
        (torch.zeros(500, 16), "complete collapse"),
        (5 + 1e-3 * normal(2000, 64), "complete collapse"),
        (normal(2000, 4) @ normal(4, 64), "dimensional collapse"),
        (normal(2000, 4) @ normal(4, 64) + 1e-3 * normal(2000, 64), "dimensional collapse"),
        (powers(1.2), "partial dimensional collapse"),
        (normal(40, 64)[torch.arange(2000) % 40] + 1e-4 * normal(2000, 64), "cluster collapse"),
    ],
    ids=lambda p: p if isinstance(p, str) else "",
)
def test_kinds_of_known_data(rows: Tensor, kind: str) -> None:
    assert kind_of(rows) == kind


def test_scale_and_rotation_change_no_verdict() -> None:
    rotation = torch.linalg.qr(normal(64, 64, seed=1)).Q
    for rows in (normal(2000, 64), powers(1.2), normal(2000, 4) @ normal(4, 64)):
        assert kind_of(rows) == kind_of(1e-4 * rows @ rotation)


@pytest.mark.parametrize("shape", [(1, 8), (2, 8), (5, 1), (3, 100)])
def test_tiny_data_gets_a_verdict_too(shape: tuple[int, int]) -> None:
    verdict = judge_alone(vital_signs(moments_of(normal(*shape))))
    assert verdict.kind and all(verdict.evidence)


def test_evidence_quotes_the_numbers() -> None:
    vitals = vital_signs(moments_of(powers(1.2)))
    verdict = judge_alone(vitals)
    assert f"{vitals['cev_auc']:.3f}" in " ".join(verdict.evidence)
    assert f"{vitals['effective_rank']:.1f} of 64" in " ".join(verdict.evidence) or (
        f"effective rank is {vitals['effective_rank']:.1f}" in " ".join(verdict.evidence)
    )
