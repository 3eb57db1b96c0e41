"""SimCLR's objective."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from fullrank.models.collectives import gather
from fullrank.models.objectives.objective import Loss, Objective, Outputs


class NTXentObjective(Objective):
    """Normalised-temperature cross-entropy (Chen et al. 2020, Eq. 1).

    For the prediction of image k in view i, the positive is its target in view j, the negatives
    are the targets of all other images of the global batch in both views:
    ``-log exp(cos(p_ik, t_jk)/T) / sum exp(cos/T)`` over 2N - 1 targets; the mean over images and
    ordered pairs of views.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, outputs: Outputs) -> Loss:
        predictions = [gather(normalize(p, dim=1)) for p in outputs.predictions]
        targets = [gather(normalize(t, dim=1)) for t in outputs.targets]
        losses = [
            self._pair(predictions[i], targets[i], targets[j])
            for i in range(len(predictions))
            for j in range(len(targets))
            if i != j
        ]
        return Loss.of(nt_xent=torch.stack(losses).mean())

    def _pair(self, prediction: Tensor, same_view: Tensor, other_view: Tensor) -> Tensor:
        n = prediction.shape[0]
        itself = torch.eye(n, dtype=torch.bool, device=prediction.device)
        within = (prediction @ same_view.T).masked_fill(itself, -torch.inf)
        logits = torch.cat([prediction @ other_view.T, within], dim=1) / self.temperature
        return cross_entropy(logits, torch.arange(n, device=prediction.device))
