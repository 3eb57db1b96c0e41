"""Batch norm over the global batch, on any device.

``torch.nn.SyncBatchNorm`` refuses CPU tensors; this one gives the same result there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fullrank.models.collectives import all_reduce, world_size


class SyncedBatchNorm(_BatchNorm):
    """Batch norm whose training statistics are those of all processes together.

    ``synchronised`` set to False makes it a plain batch norm, for a copy that one process uses by
    itself.
    """

    synchronised = True

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``input`` with shape ``(n, channels, ...)``."""
        if not self.training or not self.synchronised or world_size() == 1:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        dims = [0, *range(2, x.dim())]
        local = x.new_full((1,), x.numel() / x.shape[1])
        # Two reductions, the second about the global mean: the variance loses no digits.
        first = all_reduce(torch.cat([x.sum(dims), local]))
        count = first[-1].detach()
        shape = [1, -1] + [1] * (x.dim() - 2)
        centred = x - (first[:-1] / count).view(shape)
        variance = all_reduce(centred.square().sum(dims)) / count
        self._update_statistics(first[:-1].detach() / count, variance.detach(), count)
        y = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(input.dtype)

    @torch.no_grad()
    def _update_statistics(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if not self.track_running_stats:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        assert self.running_mean is not None and self.running_var is not None
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance * count / (count - 1), rate)


def synchronise_batch_norm(module: nn.Module) -> nn.Module:
    """Give every batch norm in ``module`` the statistics of the global batch, in place."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            child.__class__ = SyncedBatchNorm  # type: ignore[assignment]
    return module


def has_batch_norm(module: nn.Module) -> bool:
    """Say whether any layer of ``module`` uses batch statistics."""
    return any(isinstance(child, _BatchNorm) for child in module.modules())
