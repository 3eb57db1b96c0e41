"""Multi-layer perceptrons for projectors, predictors and backbones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn


def mlp(
    widths: Sequence[int], last_norm: str, last_bias: bool = True, hidden_norm: bool = True
) -> nn.Sequential:
    """Build linear layers with batch norm and ReLU between them.

    Args:
        widths: dimension of the input, of every hidden layer, and of the output.
        last_norm: what follows the last layer: ``none``, ``batch`` (no affine parameters) or
            ``batch-affine``.
        last_bias: whether the last linear layer has a bias. A bias before a batch norm has no
            effect, so that hidden layers have none, nor has a last layer with a norm.
        hidden_norm: whether batch norm follows the hidden layers; without it they have a bias.
    """
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths[:-1]):
        layers.append(nn.Linear(before, after, bias=not hidden_norm))
        if hidden_norm:
            layers.append(nn.BatchNorm1d(after))
        layers.append(nn.ReLU(inplace=True))
    layers.append(nn.Linear(widths[-2], widths[-1], bias=last_bias and last_norm == "none"))
    if last_norm != "none":
        layers.append(nn.BatchNorm1d(widths[-1], affine=last_norm == "batch-affine"))
    return nn.Sequential(*layers)
