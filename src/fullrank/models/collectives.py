"""The one layer through which losses see the global batch; a no-op in one process.

Whether there are other processes is asked at every call, never remembered. Both functions are
differentiable, with the convention that every process holds the same global loss: gradients of
all processes are summed, and averaged by distributed data parallelism, which gives the gradient
of one process on the whole batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


def world_size() -> int:
    """Return the number of processes that take part, 1 if there is no process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        n = total.shape[0] // dist.get_world_size()
        return total[dist.get_rank() * n : (dist.get_rank() + 1) * n]


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        total = local.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def gather(local: Float[Tensor, n * rest]) -> Float[Tensor, m * rest]:
    """Concatenate the rows of all processes in the order of their ranks; n must be equal."""
    return local if world_size() == 1 else _Gather.apply(local)


def all_reduce(local: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Sum a tensor over all processes."""
    return local if world_size() == 1 else _AllReduce.apply(local)
