"""A fitted forecaster as plain values: how one that was fitted elsewhere is evaluated.

Two kinds: ``ridge``, a weighted sum of the inputs (and of their squares), and ``trees``, a sum of
regression trees. Both are what JSON can hold; nothing here needs the library that fitted them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fullrank.errors import UserError

Array = np.ndarray


def evaluate(model: Mapping[str, Any], inputs: Array) -> Array:
    """Return a fitted model's value for every row of inputs.

    Args:
        model: ``{"kind": "ridge", "weights": [p], "square_weights": [p] or [], "intercept": b}``,
            or ``{"kind": "trees", "start": b, "rate": r, "trees": [...]}`` with a tree
            ``{"feature": [m], "threshold": [m], "left": [m], "right": [m], "value": [m]}`` of
            ``m`` nodes, whose leaves have ``left`` -1.
        inputs: shape (n, p).

    Returns:
        Shape (n,).

    Raises:
        UserError: a model of another kind.
    """
    if model["kind"] == "ridge":
        found = inputs @ np.asarray(model["weights"], float) + float(model["intercept"])
        if model["square_weights"]:
            found = found + inputs**2 @ np.asarray(model["square_weights"], float)
        return found
    if model["kind"] == "trees":
        # Thresholds were found on float32 inputs, as scikit-learn's trees take them.
        single = inputs.astype(np.float32)
        total = np.full(len(inputs), float(model["start"]))
        for tree in model["trees"]:
            total += float(model["rate"]) * _leaf_values(tree, single)
        return total
    raise UserError(f"model: kind {model['kind']!r} given. Allowed: ridge, trees.")


def _leaf_values(tree: Mapping[str, Any], inputs: Array) -> Array:
    """Return the value of the leaf that each row falls into."""
    feature, left, right = (np.asarray(tree[name], int) for name in ("feature", "left", "right"))
    threshold, value = (np.asarray(tree[name], float) for name in ("threshold", "value"))
    node = np.zeros(len(inputs), int)
    rows = np.arange(len(inputs))
    while (inside := left[node] >= 0).any():
        goes_left = inputs[rows, np.maximum(feature[node], 0)] <= threshold[node]
        following = np.where(goes_left, left[node], right[node])
        node = np.where(inside, following, node)
    return value[node]


def nearest_distances(rows: Array, to: Array, neighbours: int) -> Array:
    """Return each row's distance to its ``neighbours``-th nearest of other rows.

    Args:
        rows: shape (n, p).
        to: shape (m, p), ``m >= neighbours``.
        neighbours: which one counts, 1 for the nearest.
    """
    squares = ((rows[:, None, :] - to[None, :, :]) ** 2).sum(2)
    return np.sqrt(np.partition(squares, neighbours - 1, axis=1)[:, neighbours - 1])


def logit(accuracy: Array) -> Array:
    """Return the log-odds of accuracies; those beyond 1 % and 99.9 % count as these."""
    clipped = np.clip(accuracy, 0.01, 0.999)
    return np.log(clipped / (1 - clipped))


def expit(log_odds: Array) -> Array:
    """Return the accuracies of log-odds."""
    return 1 / (1 + np.exp(-log_odds))
