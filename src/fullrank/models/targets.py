"""Targets: what predictions are compared with, and where gradients flow."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Target(nn.Module, ABC):
    """Gives one target for each view."""

    @abstractmethod
    def forward(
        self, views: list[Tensor], embeddings: list[Float[Tensor, "n d"]]
    ) -> list[Float[Tensor, "n d"]]:
        """Return the targets of ``views``, given the online network's ``embeddings`` of them."""


class OnlineTarget(Target):
    """The embeddings themselves; gradients flow."""

    def forward(
        self, views: list[Tensor], embeddings: list[Float[Tensor, "n d"]]
    ) -> list[Float[Tensor, "n d"]]:
        return embeddings


class StopGradientTarget(Target):
    """The embeddings as constants."""

    def forward(
        self, views: list[Tensor], embeddings: list[Float[Tensor, "n d"]]
    ) -> list[Float[Tensor, "n d"]]:
        return [z.detach() for z in embeddings]


class MomentumTarget(Target):
    """The embeddings by an exponential moving average of the online network's weights.

    ``w_target <- tau w_target + (1 - tau) w_online`` after every step; with the cosine schedule
    ``tau_k = 1 - (1 - tau) (cos(pi k / K) + 1) / 2`` at step k of K (Grill et al. 2020, sec. 3.2).
    Batch norm uses batch statistics here as in the online network, and keeps its own averages.
    """

    def __init__(
        self, backbone: nn.Module, projector: nn.Module, tau: float, schedule: str
    ) -> None:
        super().__init__()
        self.tau, self.schedule = tau, schedule
        self.backbone = copy.deepcopy(backbone).requires_grad_(False)
        self.projector = copy.deepcopy(projector).requires_grad_(False)
        # In a tuple, so that the online network is not registered as a part of its own target.
        self._online = (backbone, projector)

    @torch.no_grad()
    def forward(
        self, views: list[Tensor], embeddings: list[Float[Tensor, "n d"]]
    ) -> list[Float[Tensor, "n d"]]:
        return [self.projector(self.backbone(view)) for view in views]

    def tau_at(self, step: int, total_steps: int) -> float:
        """Return the share of the old average that step ``step`` of ``total_steps`` keeps."""
        if self.schedule == "constant":
            return self.tau
        return 1 - (1 - self.tau) * (math.cos(math.pi * step / total_steps) + 1) / 2

    @torch.no_grad()
    def after_step(self, step: int, total_steps: int) -> None:
        """Move the average towards the online weights."""
        tau = self.tau_at(step, total_steps)
        for ours, online in zip((self.backbone, self.projector), self._online, strict=True):
            parameters: list[Tensor] = list(ours.parameters())
            if parameters:
                moving: list[Tensor] = list(online.parameters())
                torch._foreach_lerp_(parameters, moving, 1 - tau)
