"""W-MSE's objective."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity, mse_loss

from fullrank.models.collectives import gather
from fullrank.models.objectives.objective import CollapsedBatchError, Loss, Outputs
from fullrank.models.objectives.stepped import Stepped
from fullrank.models.settings.objectives.whitening import Whitening
from fullrank.randomness import generator

_PRIME = 2**31 - 1


class WhiteningObjective(Stepped):
    """Squared distance of whitened views, L2-normalised: ``2 - 2 cos`` (Ermolov et al. 2021).

    Or, without the normalisation, its mean over dimensions.

    The global batch is dealt into sub-batches, and each view of each is whitened by itself: centred
    and multiplied by the inverse of the Cholesky factor of its covariance. The mean is over images,
    ordered pairs of views, and rounds of dealing. Which images share a sub-batch depends on the
    images and on the step, not on their order or on the number of processes.
    """

    def __init__(self, settings: Whitening) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, outputs: Outputs) -> Loss:
        gathered: dict[int, Tensor] = {}
        for z in (*outputs.predictions, *outputs.targets):
            if id(z) not in gathered:
                gathered[id(z)] = gather(z)
        n = next(iter(gathered.values())).shape[0]
        device = outputs.predictions[0].device
        images = outputs.indices
        images = torch.arange(n, device=device) if images is None else gather(images.to(device))
        rounds = [self._round(outputs, gathered, images, r) for r in range(self.settings.rounds)]
        return Loss.of(distance=torch.stack(rounds).mean())

    def _round(
        self, outputs: Outputs, gathered: dict[int, Tensor], images: Tensor, place: int
    ) -> Tensor:
        """Return the loss with the batch dealt once."""
        parts = self.deal(images, place)
        white = {
            key: torch.cat([whiten(z[part], self.settings.epsilon) for part in parts])
            for key, z in gathered.items()
        }
        pairs = [(white[id(p)], white[id(t)]) for p, t in outputs.ordered_pairs()]
        if self.settings.normalise:
            distances = [2 - 2 * cosine_similarity(p, t, dim=1).mean() for p, t in pairs]
        else:
            distances = [mse_loss(p, t) for p, t in pairs]
        return torch.stack(distances).mean()

    def deal(self, images: Int[Tensor, " n"], place: int = 0) -> list[Int[Tensor, " m"]]:
        """Return the rows of each sub-batch.

        Args:
            images: which images the rows of the global batch show.
            place: number of the round.
        """
        gen = generator(0, "sub-batches", self.steps_done(), place)
        factor, offset = torch.randint(1, _PRIME, (2,), generator=gen).tolist()
        order = ((images % _PRIME) * factor + offset).remainder(_PRIME).argsort(stable=True)
        count = max(1, len(images) // self.settings.sub_batch)
        return list(torch.tensor_split(order, count))


def whiten(z: Float[Tensor, "n d"], epsilon: float = 0.0) -> Float[Tensor, "n d"]:
    """Centre rows and make their covariance the identity, by a Cholesky factor.

    Args:
        z: rows, at least d + 1 of them unless ``epsilon`` is above 0.
        epsilon: share of the identity in the covariance.

    Raises:
        CollapsedBatchError: they do not span their dimensions.
    """
    n, d = z.shape
    exact = z if z.device.type == "mps" else z.double()  # mps has no float64
    centred = exact - exact.mean(dim=0)
    covariance = centred.T @ centred / max(1, n - 1)
    if epsilon > 0:
        identity = torch.eye(d, dtype=exact.dtype, device=z.device)
        covariance = (1 - epsilon) * covariance + epsilon * identity
    factor, failed = torch.linalg.cholesky_ex(covariance)
    # A pivot is the variance that a dimension has beyond those before it. Below the rounding of the
    # embeddings it holds nothing but noise, and whitening would blow that up.
    rounding = max((16 * torch.finfo(z.dtype).eps) ** 2, d * torch.finfo(exact.dtype).eps)
    size = exact.detach().square().mean(dim=0) + (epsilon > 0)
    spans = factor.detach().diagonal().square() > rounding * size
    if not bool((spans.all()) & (failed == 0)):
        raise _collapsed(centred.detach(), rounding**0.5 * float(size.max().sqrt()))
    white = torch.linalg.solve_triangular(factor, centred.T, upper=False).T
    return white.to(z.dtype)


def _collapsed(centred: Tensor, noise: float) -> CollapsedBatchError:
    """Return the error that says what rank was found."""
    n, d = centred.shape
    if not bool(centred.isfinite().all()):
        return CollapsedBatchError(
            "recipe.objective: the embeddings are not finite and cannot be whitened. Allowed: "
            "finite numbers; the learning rate may be too high."
        )
    rank = int((torch.linalg.svdvals(centred) > noise * n**0.5).sum())
    if n <= d:
        cause = f"{n} images are too few (recipe.objective.sub_batch, batch_size)"
    elif rank == 0:
        cause = "the embedding has collapsed to a point"
    else:
        cause = "the embedding has collapsed to fewer dimensions than it has"
    return CollapsedBatchError(
        f"recipe.objective: a sub-batch of {n} embeddings of {d} dimensions has rank {rank} about "
        f"its mean and cannot be whitened: {cause}. Allowed: rank {d}, which more images, a "
        "smaller recipe.projector.out, a lower learning rate or recipe.objective.epsilon above 0 "
        "give."
    )
