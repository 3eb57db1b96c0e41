"""The metric on the spectra that Li, Efros and Pathak published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from fullrank.experiments.claims.claim import (
    Arms,
    Claim,
    Figure,
    Finding,
    Number,
    ScaleName,
    Series,
)
from fullrank.measure.spectrum import cev_auc

FOLDER = Path(__file__).parent / "spectra" / "li2022"
PERCENT = (1, 10, 50)
EXACT: Mapping[ScaleName, str] = {
    "cpu": "The singular values that the authors published of three ImageNet checkpoints.",
    "paper": "The same.",
}


def spectrum(percent: int) -> np.ndarray:
    """Return the published singular values of the checkpoint trained on a share of ImageNet."""
    return np.load(FOLDER / f"resnet18_{percent}percent_singular_values.npy").astype(np.float64)


def _metric(none: Arms) -> Finding:
    ours, theirs, tails = [], [], []
    for percent in PERCENT:
        sigma = spectrum(percent)
        explained = np.cumsum(sigma) / sigma.sum()
        ours.append(float(cev_auc(torch.from_numpy(sigma))))
        theirs.append(float(explained.mean()))
        ranks = list(range(1, len(sigma) + 1))
        tails.append(Series(f"{percent} % of ImageNet", ranks, explained.tolist()))
    same = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    held = same < 1e-12 and ours == sorted(ours)
    return Finding(
        "held" if held else "did not hold",
        "AUC of the checkpoints trained on 1, 10 and 50 % of ImageNet is "
        + ", ".join(f"{value:.4f}" for value in ours)
        + f"; it differs from the mean of the cumulative explained variance by at most {same:.0e}.",
        [Number(f"AUC, {p} % of ImageNet", v) for p, v in zip(PERCENT, ours, strict=True)],
        (
            Figure(
                "Trained on more images for as many steps, fewer directions hold the variance.",
                "singular values, from the largest",
                "share of their sum",
                tails,
                log_x=True,
            ),
        ),
    )


METRIC = Claim(
    "li2022/metric",
    "The area under the cumulative explained variance measures partial collapse: it is higher for "
    "the checkpoints of more images.",
    "section 4, and the published singular values",
    EXACT,
    "AUC equals the mean of the cumulative explained variance to 1e-12 and rises from 1 over 10 to "
    "50 % of ImageNet.",
    _metric,
)
