"""DINO's projection head."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, normalize


class PrototypeHead(nn.Module):
    """A perceptron to a bottleneck of norm 1, then cosines with prototypes.

    The last layer is linear without bias and weight-normalised: row k of its matrix is
    ``scale_k direction_k / ||direction_k||``, with ``scale`` 1 unless it is trained (Caron et al.
    2021, appendix C).

    Args:
        widths: dimension of the input, of the hidden layers, and of the bottleneck.
        prototypes: dimension of the output.
        batch_norm: whether hidden layers have batch norm.
        trained_scale: whether ``scale`` is trained.
        frozen: share of the run's steps, from its start, in which the last layer does not learn.
    """

    direction: nn.Parameter
    scale: Tensor
    progress: Tensor

    def __init__(
        self,
        widths: list[int],
        prototypes: int,
        batch_norm: bool,
        trained_scale: bool,
        frozen: float,
    ) -> None:
        super().__init__()
        self.frozen = frozen
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            if layers:
                layers += [nn.BatchNorm1d(before)] if batch_norm else []
                layers.append(nn.GELU())
            layer = nn.Linear(before, after)
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
            layers.append(layer)
        self.perceptron = nn.Sequential(*layers)
        self.direction = nn.Parameter(torch.randn(prototypes, widths[-1]))
        scale = torch.ones(prototypes, 1)
        if trained_scale:
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale)
        self.register_buffer("progress", torch.zeros(()))

    def forward(self, input: Float[Tensor, "n h"]) -> Float[Tensor, "n k"]:
        """Return one number a prototype for each row of ``input``."""
        weight = normalize(self.direction, dim=1) * self.scale
        if self.frozen:
            # Its gradient becomes zero, but is there: processes that train together wait for it.
            learns = (self.progress >= self.frozen).to(weight.dtype)
            weight = weight.detach() + learns * (weight - weight.detach())
        return linear(normalize(self.perceptron(input), dim=1), weight)

    @torch.no_grad()
    def after_step(self, step: int, total_steps: int) -> None:
        """Remember which share of the run is done."""
        self.progress.fill_(step / total_steps)
