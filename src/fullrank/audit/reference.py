"""The untrained twin of a network, which says what its architecture alone would show."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fullrank.monitor.settling import batch_norms, settle

# As many as settle the mean and variance of every channel to a per cent or two.
CALIBRATION_SAMPLES = 2048


def calibrate(
    modules: Iterable[nn.Module],
    encode: Callable[[Tensor], Any],
    batches: Iterable[tuple[Tensor, ...]],
    samples: int = CALIBRATION_SAMPLES,
) -> int:
    """Set the batch-norm statistics of a network to those of data, in place.

    See :mod:`fullrank.monitor.settling`.

    Args:
        modules: the network's.
        encode: passes one view through it.
        batches: of views; each view passes by itself.
        samples: how many settle the statistics.

    Returns:
        The samples used; 0 if there is no batch norm with running statistics.
    """
    norms = batch_norms(modules)
    seen = 0

    def passes() -> None:
        nonlocal seen
        for views in batches:
            if len(views[0]) < 2:
                continue  # one sample has no variance
            for view in views:
                encode(view)
            seen += len(views[0])
            if seen >= samples:
                break

    settle(norms, passes)
    return seen


def untrained(module: nn.Module) -> nn.Module:
    """Return a copy with random weights, for a module that only its author can build.

    Every submodule that can reset its parameters does; the values of other parameters (tokens,
    position embeddings) are shuffled, which keeps their scale and nothing that was learned.
    """
    twin = copy.deepcopy(module)
    done: set[int] = set()
    with torch.no_grad():
        for part in twin.modules():
            reset = getattr(part, "reset_parameters", None) or getattr(
                part, "_reset_parameters", None
            )
            if callable(reset):
                reset()
                done |= {id(p) for p in part.parameters(recurse=False)}
        for parameter in twin.parameters():
            if id(parameter) not in done:
                flat = parameter.flatten()
                parameter.copy_(flat[torch.randperm(len(flat))].view_as(parameter))
    return twin
