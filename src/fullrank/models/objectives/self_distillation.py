"""DINO's objective."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softmax

from fullrank.models.collectives import all_reduce, world_size
from fullrank.models.objectives.objective import Loss, Objective, Outputs
from fullrank.models.settings.objectives.distillation import SelfDistillation


class SelfDistillationObjective(Objective):
    """``-sum_k softmax_k((t_j - c)/T_t) log softmax_k(p_i/T_s)``, i ≠ j (Caron et al. 2021).

    ``c`` is the running mean of the targets of all views over the global batches of the steps
    before (Eq. 4), and ``T_t`` rises linearly at first. The mean over images and pairs of views
    (Eqs. 1 to 3).
    """

    centre: Tensor
    progress: Tensor

    def __init__(self, settings: SelfDistillation, dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("progress", torch.zeros(()))
        self._batch_mean: Tensor | None = None

    def forward(self, outputs: Outputs) -> Loss:
        if self.training and self.settings.centring:
            means = torch.stack([t.detach().mean(0) for t in outputs.targets])
            self._batch_mean = all_reduce(means.mean(0)) / world_size()
        temperature = self.teacher_temperature()
        targets = [softmax((t - self.centre) / temperature, dim=1) for t in outputs.targets]
        losses = []
        for i, prediction in enumerate(outputs.predictions):
            logarithms = log_softmax(prediction / self.settings.student_temperature, dim=1)
            losses += [-(t * logarithms).sum(1).mean() for j, t in enumerate(targets) if i != j]
        return Loss.of(self_distillation=torch.stack(losses).mean())

    def teacher_temperature(self) -> Tensor:
        """Return what divides targets at this step."""
        part = self.settings
        if not part.teacher_warmup:
            return torch.full_like(self.progress, part.teacher_temperature)
        share = (self.progress / part.teacher_warmup).clamp(max=1)
        first = part.first_teacher_temperature
        return first + share * (part.teacher_temperature - first)

    @torch.no_grad()
    def after_step(self, step: int, total_steps: int) -> None:
        """Move the centre towards the mean of the last batch."""
        self.progress.fill_(step / total_steps)
        if self._batch_mean is not None:
            mean = self._batch_mean.to(self.centre.dtype)
            self.centre.lerp_(mean, 1 - self.settings.centre_momentum)
            self._batch_mean = None
