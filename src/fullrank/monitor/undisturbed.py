"""Looking at a network in training and leaving no trace: modes, statistics and chance come back."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from fullrank.models.collectives import world_size


def device_of(module: nn.Module) -> torch.device:
    """Return the device of the first parameter or buffer; the CPU if there is none."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextlib.contextmanager
def chance_kept(device: torch.device) -> Iterator[Callable[[int], None]]:
    """Restore all random streams after; yields a function that seeds them for now."""
    python, numpy = random.getstate(), np.random.get_state()
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(cuda):

        def seed(value: int) -> None:
            random.seed(value)
            np.random.seed(value % 2**32)
            torch.default_generator.manual_seed(value)
            if cuda:
                index = torch.cuda.current_device() if device.index is None else device.index
                torch.cuda.default_generators[index].manual_seed(value)

        try:
            yield seed
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put ``module`` in eval mode, without gradients or autocast; modes are restored after.

    Not in inference mode: a module that keeps a mask or positions for its next forward pass would
    keep a tensor that training cannot use.
    """
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        with torch.no_grad(), torch.autocast(device_of(module).type, enabled=False):
            yield
    finally:
        for child, mode in modes.items():
            child.training = mode


@contextlib.contextmanager
def first_process_buffers(module: nn.Module) -> Iterator[None]:
    """Give all processes the buffers of the first, as a checkpoint has them; restored after.

    Batch-norm statistics of processes differ between two steps, weights do not.
    """
    if world_size() == 1:
        yield
        return
    kept = [(child, dict(child._buffers)) for child in module.modules()]
    reachable = ("cuda",) if dist.get_backend() == "nccl" else ("cpu", "cuda")
    try:
        for child, buffers in kept:
            for name, buffer in buffers.items():
                if buffer is not None and buffer.device.type in reachable:
                    child._buffers[name] = copy = buffer.detach().clone()
                    dist.broadcast(copy, 0)
        yield
    finally:
        for child, buffers in kept:
            child._buffers.update(buffers)
