"""DeepCluster-v2's objective."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, normalize

from fullrank.errors import UserError
from fullrank.models.collectives import gather
from fullrank.models.objectives.objective import Loss, Objective, Outputs
from fullrank.models.settings.objectives.clustering import ClusterAssignment
from fullrank.models.spherical_kmeans import nearest, spherical_kmeans
from fullrank.randomness import generator

if TYPE_CHECKING:
    from fullrank.models.joint_embedding import Embed


class ClusterAssignmentObjective(Objective):
    """``-log softmax_k(c_k . p_i / T)`` at the cluster k of the image (Caron et al. 2020).

    Before every epoch spherical k-means clusters the embeddings that each image had when it was
    last seen: those of the first view, normalised, kept as the epoch goes, so that only the first
    epoch needs a pass over the data of its own. The centroids ``c`` stay until the next epoch.
    The mean over images, views and heads.

    An image that was not seen yet, or of which nobody says which it is, belongs to the centroid
    nearest to its first target. Before the first clustering there are no centroids: they are
    zero, and so is the gradient.

    What is remembered takes ``images (4 dim + 8 heads)`` bytes in every process, which all cluster
    the same images from the same start, so that no centroid has to be exchanged.
    """

    memory: Tensor
    known: Tensor
    assignments: Tensor
    centroids: Tensor

    def __init__(self, settings: ClusterAssignment, dim: int, images: int) -> None:
        super().__init__()
        self.settings, self.images = settings, images
        heads = settings.heads
        self.register_buffer("memory", torch.zeros(images, dim))
        self.register_buffer("known", torch.zeros(images, dtype=torch.bool))
        self.register_buffer("assignments", torch.full((heads, images), -1))
        self.register_buffer("centroids", torch.zeros(heads, settings.prototypes, dim))
        self._newest: tuple[Tensor, Tensor] | None = None

    def forward(self, outputs: Outputs) -> Loss:
        target = normalize(outputs.targets[0].detach(), dim=1)
        indices = outputs.indices if self.images else None
        if self.training and indices is not None:
            self._newest = _gather_integers(indices), gather(target)
        views = len(outputs.predictions)
        predictions = normalize(torch.cat(outputs.predictions), dim=1)
        losses = []
        for centroids, remembered in zip(self.centroids, self.assignments, strict=True):
            clusters = nearest(target, centroids)
            if indices is not None:
                known = remembered[indices]
                clusters = torch.where(known >= 0, known, clusters)
            scores = linear(predictions, centroids) / self.settings.temperature
            losses.append(cross_entropy(scores, clusters.repeat(views)))
        return Loss.of(cluster_assignment=torch.stack(losses).mean())

    @torch.no_grad()
    def before_epoch(self, epoch: int, embed: Embed) -> None:
        """Cluster what is remembered; at first, look at every image once.

        Raises:
            UserError: the objective was built for no images, or for fewer than clusters.
        """
        if not self.images:
            raise UserError(
                "images: 0 given to an objective that remembers each training image. Allowed: the "
                "number of training images."
            )
        if not bool(self.known.any()):
            for indices, embeddings in embed():
                rows = normalize(embeddings[0].to(self.memory.dtype), dim=1)
                self._remember(_gather_integers(indices), gather(rows))
        rows, k = self.known.nonzero().squeeze(1), self.settings.prototypes
        if not len(rows):
            return  # of no image anything is known, neither by now nor by a look
        if len(rows) < k:
            raise UserError(
                f"recipe.objective.prototypes: {k} clusters cannot be made of {len(rows)} images. "
                f"Allowed: at most {len(rows)}."
            )
        self.assignments.fill_(-1)
        for head in range(self.settings.heads):
            source = generator(0, "k-means", epoch, head)
            start = torch.randperm(len(rows), generator=source)[:k].to(rows.device)
            self.centroids[head], self.assignments[head, rows] = spherical_kmeans(
                self.memory[rows], self.memory[rows[start]], self.settings.iterations
            )

    @torch.no_grad()
    def after_step(self, step: int, total_steps: int) -> None:
        """Remember the embeddings of the last batch."""
        if self._newest is not None:
            self._remember(*self._newest)
            self._newest = None

    def _remember(self, indices: Tensor, rows: Tensor) -> None:
        indices = indices.to(self.memory.device)
        self.memory[indices] = rows.to(self.memory.dtype)
        self.known[indices] = True


def _gather_integers(local: Tensor) -> Tensor:
    return gather(local.double()).long()  # exact below 2^53
