"""SwAV's objective."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, log_softmax, normalize

from fullrank.models.collectives import gather
from fullrank.models.objectives.objective import Loss, Objective, Outputs
from fullrank.models.settings.objectives.clustering import SwappedAssignment
from fullrank.models.sinkhorn import sinkhorn


class SwappedAssignmentObjective(Objective):
    """``-sum_k q_jk log softmax_k(c_k . p_i / T)`` for i ≠ j (Caron et al. 2020, Eqs. 1 to 6).

    ``p_i`` is the normalised prediction of view i, ``c_k`` are prototypes of norm 1, and ``q_j``
    is the assignment of view j's target to them, equal shares over the global batch and the queue
    (see :func:`fullrank.models.sinkhorn.sinkhorn`). The mean over images and pairs of views.
    Prototypes learn from predictions, never from assignments; after every step their norm is made
    1 again.
    """

    prototypes: Tensor
    queue: Tensor
    queued: Tensor
    step: Tensor
    progress: Tensor

    def __init__(self, settings: SwappedAssignment, dim: int) -> None:
        super().__init__()
        self.settings = settings
        prototypes = normalize(torch.randn(settings.prototypes, dim), dim=1)
        if settings.trained:
            self.prototypes = nn.Parameter(prototypes)
        else:
            self.register_buffer("prototypes", prototypes)
        if settings.queue:
            self.register_buffer("queue", torch.zeros(settings.queue, dim))
            self.register_buffer("queued", torch.zeros((), dtype=torch.long))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.register_buffer("progress", torch.zeros(()))
        self._newest: Tensor | None = None

    def forward(self, outputs: Outputs) -> Loss:
        targets = [normalize(t, dim=1) for t in outputs.targets]
        if self.training and self.settings.queue:
            self._newest = gather(targets[0].detach())
        assignments = [self._assign(t) for t in targets]
        prototypes = self._learning()
        losses = []
        for i, prediction in enumerate(outputs.predictions):
            scores = linear(normalize(prediction, dim=1), prototypes)
            logarithms = log_softmax(scores / self.settings.temperature, dim=1)
            losses += [-(q * logarithms).sum(1).mean() for j, q in enumerate(assignments) if i != j]
        return Loss.of(swapped_assignment=torch.stack(losses).mean())

    def _assign(self, target: Tensor) -> Tensor:
        part, prototypes = self.settings, self.prototypes.detach()
        others = count_others = None
        if part.queue:
            others = linear(self.queue, prototypes)
            count_others = (self.queued >= part.queue) & (self.progress >= part.queue_start)
        scores = linear(target, prototypes)
        return sinkhorn(scores, part.epsilon, part.iterations, others, count_others)

    def _learning(self) -> Tensor:
        """Return the prototypes; while they are frozen, their gradient is zero."""
        if not (self.settings.frozen_steps and self.settings.trained):
            return self.prototypes
        learns = (self.step >= self.settings.frozen_steps).to(self.prototypes.dtype)
        fixed = self.prototypes.detach()
        return fixed + learns * (self.prototypes - fixed)

    @torch.no_grad()
    def after_step(self, step: int, total_steps: int) -> None:
        """Make the prototypes' norm 1, put the newest targets first in the queue."""
        self.step.fill_(step)
        self.progress.fill_(step / total_steps)
        if self.settings.trained:
            self.prototypes.copy_(normalize(self.prototypes, dim=1))
        if self._newest is not None:
            length = self.settings.queue
            self.queue.copy_(torch.cat([self._newest.to(self.queue.dtype), self.queue])[:length])
            self.queued.add_(len(self._newest)).clamp_(max=length)
            self._newest = None
