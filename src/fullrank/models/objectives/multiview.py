"""How far the views of an image lie from their common centre."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.models.objectives.objective import Outputs


def distance_from_centre(outputs: Outputs) -> Float[Tensor, ""]:
    """Return the mean of ``(p - mean of the image's targets)²`` over views, images, dimensions.

    Small crops are pulled to the centre of the large ones, which alone are targets (Balestriero
    and LeCun 2025; Wu et al. 2026, Eq. 8).
    """
    centre = torch.stack(outputs.targets).mean(dim=0)
    return (torch.stack(outputs.predictions) - centre).square().mean()
