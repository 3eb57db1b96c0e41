"""Contrast with the other view of the batch, and with a queue."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from fullrank.models.collectives import gather
from fullrank.models.objectives.global_batch import unit_batch
from fullrank.models.objectives.objective import Loss, Objective, Outputs
from fullrank.models.queue import Queue
from fullrank.models.settings.objectives.contrastive import InfoNCE, QueueInfoNCE


class InfoNCEObjective(Objective):
    """Tells an image from the others of the batch, in another view.

    ``-log exp(cos(p_ik, t_jk)/T) / sum_l exp(cos(p_ik, t_jl)/T)``, the mean over images and
    ordered pairs of views. With the target as anchor the sum runs over the predictions instead:
    ``sum_l exp(cos(p_il, t_jk)/T)`` (Dwibedi et al. 2021, Eq. 3). ``rescaled`` multiplies by 4T:
    with two views 2T times the sum over both orders (Chen, Xie and He 2021, Alg. 1).
    """

    def __init__(self, settings: InfoNCE) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, outputs: Outputs) -> Loss:
        predictions, targets = unit_batch(outputs)
        own = torch.arange(len(predictions[0]), device=predictions[0].device)
        losses = []
        for i, prediction in enumerate(predictions):
            for j, target in enumerate(targets):
                if i != j:
                    logits = prediction @ target.T / self.settings.temperature
                    anchored = logits.T if self.settings.anchor == "target" else logits
                    losses.append(cross_entropy(anchored, own))
        scale = 4 * self.settings.temperature if self.settings.rescaled else 1.0
        return Loss.of(info_nce=scale * torch.stack(losses).mean())


class QueueInfoNCEObjective(Objective):
    """Tells the key of an image from the keys of a queue (He et al. 2020, Eq. 1).

    ``-log exp(cos(q, k+)/T) / (exp(cos(q, k+)/T) + sum over the queue of exp(cos(q, k)/T))``: the
    query q is a prediction, the key k+ the target of another view of the image, the negatives
    are keys of the last batches, not of this one. Only the first view asks, unless
    ``symmetric``; the keys that were compared then enter the queue.

    Args:
        settings: temperature, size of the queue, symmetry.
        dim: of the embedding.
    """

    def __init__(self, settings: QueueInfoNCE, dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.queue = Queue(settings.queue, dim)

    def forward(self, outputs: Outputs) -> Loss:
        keys = [normalize(t, dim=1) for t in outputs.targets]
        asking = outputs.predictions if self.settings.symmetric else outputs.predictions[:1]
        losses = []
        for i, prediction in enumerate(asking):
            query = normalize(prediction, dim=1)
            negatives = query @ self.queue.rows.T
            losses += [self._pair(query, k, negatives) for j, k in enumerate(keys) if i != j]
        if self.training:
            compared = keys if self.settings.symmetric else keys[1:]
            self.queue.will_remember(torch.cat([gather(k.detach()) for k in compared]))
        return Loss.of(info_nce=torch.stack(losses).mean())

    def _pair(self, query: Tensor, key: Tensor, negatives: Tensor) -> Tensor:
        positive = (query * key).sum(dim=1, keepdim=True)
        logits = torch.cat([positive, negatives], dim=1) / self.settings.temperature
        return cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))

    def after_step(self, step: int, total_steps: int) -> None:
        """Let the keys of the batch into the queue."""
        self.queue.commit()
