"""Probes of an audited layer, where labels are known."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from fullrank.audit.measured import Layer
from fullrank.measure.probe import knn_probe, linear_probe
from fullrank.randomness import generator

# Share of the sampled rows that the probes are scored on; they are fitted on the others.
HELD_OUT = 0.25
NEIGHBOURS = 20


def probe_layer(layer: Layer, labels: Tensor, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Fit kNN and ridge probes on three quarters of the images, score them on the rest.

    Sampled rows are used. Tokens have the label of their image, all of them on one side.

    Args:
        layer: what was read of a layer, with sampled rows.
        labels: the class of every image, -1 where it has none.
        seed: of the split.

    Returns:
        ``accuracy``, its 95 % interval ``low`` and ``high``, ``n_train``, ``n_test`` and
        ``classes``, for ``knn`` and ``linear``; empty where the labels allow no probe.
    """
    if layer.rows is None or layer.image is None:
        return {}
    image = layer.image.cpu()
    y = labels.cpu()[image]
    known = image[y >= 0].unique()
    order = known[torch.randperm(len(known), generator=generator(seed, "audit probe"))]
    cut = int(len(order) * HELD_OUT)
    test, train = (torch.isin(image, part).nonzero()[:, 0] for part in (order[:cut], order[cut:]))
    if cut < 1 or len(y[train].unique()) < 2:
        return {}
    x = layer.rows
    data = (x[train], y[train], x[test], y[test])
    return {
        "knn": asdict(knn_probe(*data, k=min(NEIGHBOURS, len(train)))),
        "linear": asdict(linear_probe(*data, kind="ridge")),
    }


def no_probe(layer: Layer, labels: Tensor) -> str:
    """Say why :func:`probe_layer` fitted no probe.

    Args:
        layer: what was read of a layer.
        labels: the class of every image, -1 where it has none.
    """
    if layer.rows is None or layer.image is None:
        return "no rows were sampled to fit and score them on"
    known = labels.cpu()[layer.image.cpu().unique()]
    known = known[known >= 0]
    if len(known.unique()) < 2:
        return f"the labels of the {len(known)} sampled images with one are all of the same class"
    return f"{len(known)} sampled images with labels are too few to fit and score them on"
