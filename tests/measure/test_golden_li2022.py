"""Published spectra of ImageNet checkpoints give back their known numbers, to the printed digit."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import fullrank
from fullrank.measure.moments import moments_of
from fullrank.measure.spectrum import (
    RESOLUTION,
    alpha_req,
    anisotropy,
    cev_auc,
    dead_units,
    effective_rank,
    hard_rank,
    hill_number,
    participation_ratio,
    rankme,
    spectral_entropy,
    stable_rank,
)
from fullrank.measure.vitals import vital_signs
from fullrank.randomness import generator

FOLDER = Path(fullrank.__file__).parent / "experiments" / "claims" / "spectra" / "li2022"

# Computed from the files in NumPy, independently of this library. Share of ImageNet: AUC, AUC
# without dead directions, dead directions, effective rank of σ, the same with RankMe's 1e-7 added
# to each share and the shares normalised again, effective rank of λ = σ², participation ratio,
# NESum = Σλ/λ_1.
KNOWN = {
    1: (".6098", ".6075", 3, "465.2", "465.2", "309.7", "160.5", "31.4"),
    10: (".8449", ".8266", 54, "186.5", "186.5", "30.1", "12.8", "4.79"),
    50: (".8714", ".8544", 60, "161.3", "161.4", "32.1", "14.9", "5.29"),
}
# σ_1, and α-ReQ's exponent with the authors' fit range [3, 100) and with reptrix's [10, 100).
EXPONENTS = {
    1: ("24.0", ".699", ".725"),
    10: ("301.4", "1.559", "1.835"),
    50: ("184.5", "1.580", "1.882"),
}


def spectrum(percent: int) -> torch.Tensor:
    return torch.from_numpy(np.load(FOLDER / f"resnet18_{percent}percent_singular_values.npy"))


def printed(value: torch.Tensor | None, like: str) -> str:
    assert value is not None
    digits = len(like.split(".")[1])
    return f"{float(value):.{digits}f}".removeprefix("0")


@pytest.mark.parametrize("percent", KNOWN)
def test_known_numbers(percent: int) -> None:
    sigma = spectrum(percent)
    auc, alive_auc, dead, rank, smooth, lambda_rank, ratio, nesum = KNOWN[percent]
    lambda_ = sigma.double().square()
    assert dead_units(lambda_) == dead
    assert hard_rank(sigma, (512, 512), rtol=RESOLUTION) == 512 - dead
    assert printed(cev_auc(sigma), auc) == auc
    assert printed(cev_auc(sigma[: 512 - dead]), alive_auc) == alive_auc
    assert printed(effective_rank(sigma), rank) == rank
    assert printed(rankme(sigma, renormalised=True), smooth) == smooth
    assert float(rankme(sigma)) == pytest.approx(float(smooth), rel=1e-3)
    assert printed(effective_rank(lambda_), lambda_rank) == lambda_rank
    assert printed(participation_ratio(sigma), ratio) == ratio
    assert printed(spectral_entropy(sigma, normalised=False).exp(), lambda_rank) == lambda_rank
    assert printed(hill_number(lambda_, math.inf), nesum) == nesum
    assert printed(stable_rank(sigma), nesum) == nesum
    assert printed(1 / anisotropy(sigma), nesum) == nesum


@pytest.mark.parametrize("percent", EXPONENTS)
def test_known_exponents(percent: int) -> None:
    sigma = spectrum(percent)
    top, authors, reptrix = EXPONENTS[percent]
    assert printed(sigma.max(), top) == top
    assert printed(alpha_req(sigma), authors) == authors
    assert printed(alpha_req(sigma, fit_range=(10, 100)), reptrix) == reptrix


@pytest.mark.parametrize("percent", KNOWN)
def test_features_rebuilt_from_a_spectrum_give_its_numbers_back(percent: int) -> None:
    sigma = spectrum(percent).double()
    g = generator(0, "rebuilt")
    # Orthonormal columns that sum to 0, so that the features are centred before the mean is added.
    left = torch.randn(1200, 512, generator=g, dtype=torch.float64)
    left = torch.linalg.qr(left - left.mean(0)).Q
    right = torch.linalg.qr(torch.randn(512, 512, generator=g, dtype=torch.float64)).Q
    features = (left * sigma) @ right.T + torch.randn(512, generator=g, dtype=torch.float64)
    vitals = vital_signs(moments_of(features))
    assert vitals["effective_rank"] == pytest.approx(float(effective_rank(sigma)), rel=1e-5)
    assert vitals["cev_auc"] == pytest.approx(float(cev_auc(sigma)), rel=1e-5)
    assert vitals["participation_ratio"] == pytest.approx(float(participation_ratio(sigma)))
    assert vitals["hard_rank"] == 512 - KNOWN[percent][2]
    found = moments_of(features).singular_values
    for function in (stable_rank, anisotropy, spectral_entropy, alpha_req):
        assert float(function(found)) == pytest.approx(float(function(sigma)), rel=1e-6)
