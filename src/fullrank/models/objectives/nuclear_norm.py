"""MMCR's objective."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fullrank.models.collectives import gather
from fullrank.models.objectives.objective import Loss, Objective, Outputs


class NuclearNormObjective(Objective):
    """``-||C||_*``, the sum of singular values of the images' centroids (Yerxa et al. 2023).

    The centroid of an image is the mean of its L2-normalised predictions and targets, half of each.
    Long centroids mean that the views agree, and orthogonal ones that the images differ; for n
    images of the global batch in d dimensions the least value is ``-sqrt(n min(n, d))``.

    A singular value decomposition of an n x d matrix at every step is the algorithm's price.
    """

    def forward(self, outputs: Outputs) -> Loss:
        centroids = (_centre(outputs.predictions) + _centre(outputs.targets)) / 2
        return Loss.of(nuclear_norm=-torch.linalg.svdvals(gather(centroids)).sum())


def _centre(views: list[Tensor]) -> Tensor:
    return torch.stack([normalize(z, dim=1) for z in views]).mean(dim=0)
