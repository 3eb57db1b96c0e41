"""Batch-norm statistics of data, for networks that have not trained long enough to have their own.

A fresh batch norm (mean 0, variance 1) in eval mode makes a healthy random network look collapsed
and probe too well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(modules: Iterable[nn.Module]) -> list[_BatchNorm]:
    """Return the batch norms with running statistics in some modules, each once."""
    found = (child for module in modules for child in module.modules())
    norms = {id(m): m for m in found if isinstance(m, _BatchNorm) and m.track_running_stats}
    return list(norms.values())


def settle(norms: Iterable[_BatchNorm], forward_passes: Callable[[], None]) -> None:
    """Give batch norms the plain average of the statistics of some forward passes, in place.

    Only they are in training mode during the passes, so that dropout and its like stay off; and
    each process uses the batches that it sees itself.

    Args:
        norms: of a network in eval mode.
        forward_passes: passes batches of two or more through it.
    """
    kept = [(norm, norm.momentum, norm.training, dict(norm.__dict__)) for norm in norms]
    for norm, *_ in kept:
        norm.reset_running_stats()
        norm.momentum = None
        norm.training = True
        norm.synchronised = False  # type: ignore[assignment]
    try:
        with torch.no_grad():
            if kept:
                forward_passes()
    finally:
        for norm, momentum, training, attributes in kept:
            norm.momentum, norm.training = momentum, training
            if "synchronised" not in attributes:
                del norm.synchronised


@contextlib.contextmanager
def settled_batch_norm(module: nn.Module, forward_passes: Callable[[], None]) -> Iterator[bool]:
    """Give batch norms the statistics of some forward passes; restored after.

    Args:
        module: in eval mode.
        forward_passes: passes batches of two or more through it.

    Yields:
        Whether there is any batch norm to settle.
    """
    norms = batch_norms([module])
    kept = [(norm, dict(norm._buffers)) for norm in norms]
    try:
        for norm, buffers in kept:
            # Copies, so that the tensors that training knows are not written to at all.
            norm._buffers.update({k: b.clone() for k, b in buffers.items() if b is not None})
        settle(norms, forward_passes)
        yield bool(norms)
    finally:
        for norm, buffers in kept:
            norm._buffers.update(buffers)
