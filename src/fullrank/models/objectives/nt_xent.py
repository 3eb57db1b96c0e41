"""SimCLR's objective, and the one without the positive among the negatives."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from fullrank.models.objectives.global_batch import unit_batch, without_diagonal
from fullrank.models.objectives.objective import Loss, Objective, Outputs


class NTXentObjective(Objective):
    """Normalised-temperature cross-entropy (Chen et al. 2020, Eq. 1).

    For the prediction of image k in view i, the positive is its target in view j, the negatives
    are the targets of all other images of the global batch in both views:
    ``-log exp(cos(p_ik, t_jk)/T) / sum exp(cos/T)`` over 2N - 1 targets; the mean over images and
    ordered pairs of views. A view that is no target (a small crop) has the N - 1 negatives of
    view j only.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, outputs: Outputs) -> Loss:
        predictions, targets = unit_batch(outputs)
        losses = []
        for i, prediction in enumerate(predictions):
            within = [prediction @ targets[i].T / self.temperature] if i < len(targets) else []
            losses += [
                self._pair(prediction @ target.T / self.temperature, within)
                for j, target in enumerate(targets)
                if i != j
            ]
        return Loss.of(nt_xent=torch.stack(losses).mean())

    def _pair(self, across: Float[Tensor, "n n"], within: list[Tensor]) -> Tensor:
        """Return the loss of a pair of views.

        Args:
            across: logits with the targets of the other view; positives on the diagonal.
            within: logits with those of the same view, if it has any.
        """
        logits = torch.cat([across, *(without_diagonal(w, -torch.inf) for w in within)], dim=1)
        return cross_entropy(logits, torch.arange(len(across), device=across.device))


class DecoupledNTXentObjective(NTXentObjective):
    """The same without the positive in the denominator (Yeh et al. 2022, L_DC).

    ``-w cos(p_ik, t_jk)/T + log sum exp(cos/T)`` over the 2(N - 1) targets of other images; the
    mean over images and ordered pairs of views. The weight w is 1, or with ``sigma`` the
    negative von Mises-Fisher weight ``2 - exp(cos_k/sigma) / mean_l exp(cos_l/sigma)`` over the
    positives of the batch, which favours the distant ones (L_DCW); no gradient flows through it.
    """

    def __init__(self, temperature: float, sigma: float | None) -> None:
        super().__init__(temperature)
        self.sigma = sigma

    def _pair(self, across: Float[Tensor, "n n"], within: list[Tensor]) -> Tensor:
        positive = across.diagonal()
        negatives = [without_diagonal(m, -torch.inf) for m in (across, *within)]
        repulsion = torch.cat(negatives, dim=1).logsumexp(dim=1)
        return (repulsion - self._weight(positive) * positive).mean()

    def _weight(self, positive: Float[Tensor, " n"]) -> Float[Tensor, " n"] | float:
        if self.sigma is None:
            return 1.0
        cosines = positive.detach() * self.temperature
        return 2 - len(cosines) * torch.softmax(cosines / self.sigma, dim=0)
