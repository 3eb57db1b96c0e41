"""Probes: how well labels can be read from frozen features. The only measurements with labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Integer, Real
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import r2_score
from torch import Tensor

from fullrank.errors import UserError, unknown_name
from fullrank.measure.neighbors import knn_classify
from fullrank.measure.spectrum import RESOLUTION

# Standard normal quantile of a two-sided 95 % interval.
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found.

    Attributes:
        kind: ``"knn"``, ``"ridge"`` or ``"logistic"``.
        accuracy: share of the test rows classified correctly, 0 to 1.
        low: lower end of the 95 % Wilson interval of the accuracy, for the sampling of test rows
            only.
        high: its upper end.
        n_train: training rows used.
        n_test: test rows used.
        dropped: rows of both sets left out because their label is -1 (unlabelled).
        classes: number of classes among the training rows.
    """

    kind: str
    accuracy: float
    low: float
    high: float
    n_train: int
    n_test: int
    dropped: int
    classes: int


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share of ``hits`` among ``n`` (Wilson 1927); stays within [0, 1]."""
    share, z2 = hits / n, _Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At 0 and at n the ends are 0 and 1 exactly; rounding may step outside.
    return max(0.0, centre - half) if hits else 0.0, min(1.0, centre + half) if hits < n else 1.0


def linear_probe(
    train_x: Real[Tensor, "_n _d"],
    train_y: Integer[Tensor, " _n"] | None,
    test_x: Real[Tensor, "_m _d"],
    test_y: Integer[Tensor, " _m"] | None,
    *,
    kind: str = "ridge",
    regularisation: float = 1e-3,
) -> ProbeResult:
    """Fit a linear classifier on frozen training features and test it.

    Features are standardised with the training rows' mean and standard deviation; coordinates that
    do not vary there are left out. Both kinds minimise ``Σ_i loss_i + regularisation * n * ||W||²``
    (logistic: half of that penalty), without a penalty on the intercept.

    Args:
        train_x: training features (n, d).
        train_y: their classes, integers >= 0; -1 means unlabelled and is dropped.
        test_x: test features (m, d).
        test_y: their classes; one that training never saw counts as an error.
        kind: ``"ridge"``: least squares on targets of ±1, one column a class (scikit-learn's
            ``RidgeClassifier``, closed form, fast); ``"logistic"``: multinomial logistic
            regression by L-BFGS, slower and usually a little better.
        regularisation: penalty per training row.

    Returns:
        Accuracy on the test rows, with its interval.

    Raises:
        UserError: labels are missing or do not fit the features, one class only, an unknown kind,
            rows that are not finite, or nothing to test.
    """
    if kind not in ("ridge", "logistic"):
        raise unknown_name("kind", kind, ["ridge", "logistic"])
    if not regularisation > 0:
        raise UserError(f"regularisation: {regularisation} given; allowed: above 0.")
    x, y, dropped = _labelled("train", train_x, train_y)
    x_test, y_test, dropped_test = _labelled("test", test_x, test_y)
    classes = _classes(x, y, x_test)
    a, b = _standardised(x, x_test)
    model = (
        RidgeClassifier(alpha=regularisation * len(a), solver="cholesky")
        if kind == "ridge"
        else LogisticRegression(C=1 / (regularisation * len(a)), max_iter=2000)
    )
    predicted = model.fit(a, y.numpy()).predict(b)
    hits = int(np.sum(predicted == y_test.numpy()))
    return _result(kind, hits, len(x), len(x_test), dropped + dropped_test, classes)


def knn_probe(
    train_x: Real[Tensor, "_n _d"],
    train_y: Integer[Tensor, " _n"] | None,
    test_x: Real[Tensor, "_m _d"],
    test_y: Integer[Tensor, " _m"] | None,
    *,
    k: int = 20,
    weights: str = "uniform",
    temperature: float = 0.07,
) -> ProbeResult:
    """Classify test features by their nearest training features (cosine) and score it.

    Args:
        train_x: training features (n, d).
        train_y: their classes, integers >= 0; -1 means unlabelled and is dropped.
        test_x: test features (m, d).
        test_y: their classes; one that training never saw counts as an error.
        k: how many neighbours vote.
        weights: ``"uniform"`` or ``"similarity"``; see ``knn_classify``.
        temperature: of ``"similarity"``.

    Returns:
        Accuracy on the test rows, with its interval.

    Raises:
        UserError: as :func:`linear_probe`, or ``k`` above the number of labelled training rows.
    """
    x, y, dropped = _labelled("train", train_x, train_y)
    x_test, y_test, dropped_test = _labelled("test", test_x, test_y)
    classes = _classes(x, y, x_test)
    predicted = knn_classify(x, y, x_test, k=k, weights=weights, temperature=temperature)
    hits = int((predicted == y_test).sum())
    return _result("knn", hits, len(x), len(x_test), dropped + dropped_test, classes)


def factor_probe(
    train_x: Real[Tensor, "n d"],
    train_factors: Mapping[str, Real[Tensor, " n"]],
    test_x: Real[Tensor, "m d"],
    test_factors: Mapping[str, Real[Tensor, " m"]],
    *,
    regularisation: float = 1e-3,
) -> dict[str, float]:
    """Read continuous factors linearly from frozen training features and test it.

    Ridge regression on standardised features, with the penalty of :func:`linear_probe`.

    Args:
        train_x: training features (n, d).
        train_factors: what each image was made from, by name.
        test_x: test features (m, d).
        test_factors: the same of the test images.
        regularisation: penalty per training row.

    Returns:
        R² on the test rows by factor: 1 is perfect, 0 no better than the factor's mean.

    Raises:
        UserError: the two sets have different factors, or different widths.
    """
    if train_factors.keys() != test_factors.keys():
        raise UserError(
            f"test_factors: {', '.join(test_factors)} given. Allowed: those of the training "
            f"images, {', '.join(train_factors)}."
        )
    if train_x.shape[1] != test_x.shape[1]:
        raise UserError(
            f"test_x: width {test_x.shape[1]} given; the training features have {train_x.shape[1]}."
        )
    if not train_factors:
        return {}
    a, b = _standardised(train_x.float().cpu(), test_x.float().cpu())
    known, asked = (
        torch.stack([factors[name].double().cpu() for name in train_factors], 1).numpy()
        for factors in (train_factors, test_factors)
    )
    model = Ridge(alpha=regularisation * len(a), solver="cholesky").fit(a, known)
    found = r2_score(asked, model.predict(b), multioutput="raw_values")
    return {name: float(value) for name, value in zip(train_factors, found, strict=True)}


def _standardised(x: Tensor, x_test: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Scale both sets by the training rows, without the coordinates that do not vary there."""
    deviation, mean = torch.std_mean(x, 0, correction=0)
    alive = deviation > RESOLUTION * deviation.max()
    if not bool(alive.any()):
        # Constant features: the best guess is the largest class, as all models would find.
        alive[0] = True
    scale = torch.where(deviation > 0, deviation, 1.0)
    a, b = (((part - mean) / scale)[:, alive].numpy() for part in (x, x_test))
    return a, b


def _labelled(name: str, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor, int]:
    """Return the labelled rows on the CPU in floating point, their labels, and how many fell."""
    if y is None:
        raise UserError(f"{name}_y: no labels given; probes need the class of every image.")
    if x.ndim != 2 or len(x) != len(y):
        raise UserError(
            f"{name}_x, {name}_y: shape {tuple(x.shape)} and {len(y)} labels given; "
            "features must be (n, d) with one label a row."
        )
    if bool((y < -1).any()):
        raise UserError(f"{name}_y: label {int(y.min())} given; allowed: 0 and above, -1 for none.")
    keep = (y >= 0).cpu()
    dtype = torch.promote_types(x.dtype, torch.float32)
    rows, labels = x.detach().cpu()[keep].to(dtype), y.cpu()[keep].to(torch.int64)
    if len(rows) == 0:
        raise UserError(f"{name}_y: none of {len(y)} rows has a label (all are -1).")
    bad = ~rows.isfinite().all(1)
    if bool(bad.any()):
        raise UserError(f"{name}_x: {int(bad.sum())} of {len(rows)} rows hold NaN or infinity.")
    return rows, labels, len(y) - len(rows)


def _classes(x: Tensor, y: Tensor, x_test: Tensor) -> int:
    if x.shape[1] != x_test.shape[1]:
        raise UserError(
            f"test_x: width {x_test.shape[1]} given; the training features have {x.shape[1]}."
        )
    classes = len(y.unique())
    if classes < 2:
        raise UserError(f"train_y: only class {int(y[0])} given; a probe needs at least two.")
    return classes


def _result(
    kind: str, hits: int, n_train: int, n_test: int, dropped: int, classes: int
) -> ProbeResult:
    low, high = wilson_interval(hits, n_test)
    return ProbeResult(kind, hits / n_test, low, high, n_train, n_test, dropped, classes)
