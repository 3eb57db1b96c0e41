"""Signs in the tokens of images: (n, t, d), position ``p`` of every image being the same place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Real
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.moments import unit_rows
from fullrank.measure.spectrum import effective_rank, participation_ratio

# Images handled at a time: bounds the float64 copies of their tokens.
_IMAGES = 32


@dataclass(frozen=True)
class PositionSpread:
    """Spread of unit tokens over images, at each position and over all.

    Attributes:
        within: mean over positions of the spread over images at that position, 0 to 1.
        total: spread of all tokens about their common centre, 0 to 1.
    """

    within: float
    total: float

    @property
    def share(self) -> float:
        """``within / total``, between 0 and 1; 0 by convention if nothing varies."""
        return min(1.0, self.within / self.total) if self.total > 0 else 0.0


@dataclass(frozen=True)
class TokenRanks:
    """Ranks of an image's own tokens, about their mean, averaged over images.

    Attributes:
        effective_rank: of the centred tokens' singular values.
        participation_ratio: of their squares.
    """

    effective_rank: float
    participation_ratio: float


def cross_sample_gap(
    predictions: Real[Tensor, "_n _t _d"], targets: Real[Tensor, "_n _t _d"]
) -> float:
    """How much better a prediction matches its own target than other images' at that position.

    ``mean_ip [cos(z_ip, y_ip) - mean_(j≠i) cos(z_ip, y_jp)]``, exact over all other images. A
    predictor that answers with the mean target of a position, whatever the image, has 0 however
    high its cosine is: per-position collapse, which statistics of all tokens together do not see.
    Complete collapse has 0, too. Tokens that are exactly 0 have cosine 0.

    Args:
        predictions: predicted tokens (n, t, d), ``n >= 2``.
        targets: their targets (n, t, d).

    Returns:
        Between -2 and 2; healthy is well above 0.

    Raises:
        UserError: fewer than two images, no token, different shapes, NaN or infinite values.

    References:
        The positional collapse of Darcet et al. 2025, "Cluster and Predict Latent Patches for
        Improved Masked Image Modeling"; the statistic is a difference of mean cosines.
    """
    if predictions.shape != targets.shape:
        raise UserError(
            f"predictions, targets: shapes {tuple(predictions.shape)} and {tuple(targets.shape)} "
            "given; both must be the same."
        )
    n = _check("predictions", predictions, 2)
    _check("targets", targets, 2)
    total = sum(_unit(part).sum(0) for part in targets.split(_IMAGES))
    own = every = 0.0
    for z, y in zip(predictions.split(_IMAGES), targets.split(_IMAGES), strict=True):
        u, v = _unit(z), _unit(y)
        own += float((u * v).sum())
        every += float((u * total).sum())
    return (own - (every - own) / (n - 1)) / (n * predictions.shape[1])


def per_position_spread(tokens: Real[Tensor, "n t d"]) -> PositionSpread:
    """Spread over images at each position, against the spread of all tokens.

    A share near 0 says that a token tells where it is and not what is there: per-position collapse.
    From ``n`` images the spread at a position reads low by a factor ``1 - 1/n``.

    Args:
        tokens: (n, t, d), ``n >= 2``.

    Returns:
        Both spreads of unit tokens, and their share.

    Raises:
        UserError: fewer than two images, no token, NaN or infinite values.

    References:
        The spread of :func:`fullrank.measure.pairs.spread`, split by position as variance is
        between and within groups.
    """
    n = _check("tokens", tokens, 2)
    pivot = _unit(tokens[:1])[0]
    # About the first image, tokens that do not depend on the image have exactly no spread.
    shift = sum((_unit(part) - pivot).sum(0) for part in tokens.split(_IMAGES)) / n
    within = sum(
        float((_unit(part) - pivot - shift).square().sum()) for part in tokens.split(_IMAGES)
    ) / (n * tokens.shape[1])
    centre = pivot + shift
    offsets = centre - centre[0].clone()
    between = float((offsets - offsets.mean(0)).square().sum()) / tokens.shape[1]
    return PositionSpread(min(1.0, within), min(1.0, within + between))


def gram_drift(tokens: Real[Tensor, "_n _t _d"], reference: Real[Tensor, "_n _t _e"]) -> float:
    """Change of the cosines between the tokens of an image: ``||S Sᵀ - G Gᵀ||_F² / t²``, averaged.

    ``S`` and ``G`` hold the unit tokens of one image from the model and from a reference (an
    earlier checkpoint). Blind to rotations of either side. It does not say which of the two is
    better; dense tasks suffer when it grows late in training.

    Args:
        tokens: (n, t, d).
        reference: tokens of the same images at the same places (n, t, e).

    Returns:
        Between 0 (same cosines) and 4: the mean squared difference of cosines.

    Raises:
        UserError: no image or token, different numbers of them, NaN or infinite values.

    References:
        Siméoni et al. 2025, "DINOv3", the Gram anchoring loss; here divided by ``t²``.
    """
    if tokens.shape[:2] != reference.shape[:2]:
        raise UserError(
            f"tokens, reference: shapes {tuple(tokens.shape)} and {tuple(reference.shape)} given; "
            "both need the same images and positions."
        )
    n = _check("tokens", tokens, 1)
    _check("reference", reference, 1)
    total = 0.0
    for part, other in zip(tokens.split(_IMAGES), reference.split(_IMAGES), strict=True):
        s, g = _unit(part), _unit(other)
        total += float((s @ s.mT - g @ g.mT).square().sum())
    return total / (n * tokens.shape[1] ** 2)


def tokens_of_sample(tokens: Real[Tensor, "n t d"]) -> TokenRanks:
    """Rank of the tokens of one image, averaged over images.

    Low ranks say that the tokens of an image say all the same, up to their mean; they cannot exceed
    ``min(t - 1, d)``.

    Args:
        tokens: (n, t, d). One SVD an image: pass some hundred images.

    Returns:
        Means of the effective rank and the participation ratio; an image whose tokens are all equal
        counts 0.

    Raises:
        UserError: no image or token, NaN or infinite values.

    References:
        Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality", for each
        image.
    """
    n = _check("tokens", tokens, 1)
    ranks = torch.zeros(2, dtype=torch.float64)
    for part in tokens.split(_IMAGES):
        x = part.detach().to(torch.float64)
        x = x - x[:, :1]
        for sigma in torch.linalg.svdvals(x - x.mean(1, keepdim=True)).cpu():
            ranks += torch.stack([effective_rank(sigma), participation_ratio(sigma)])
    return TokenRanks(float(ranks[0]) / n, float(ranks[1]) / n)


def _check(name: str, tokens: Tensor, fewest: int) -> int:
    n = len(tokens)
    if n < fewest or tokens.numel() == 0:
        raise UserError(
            f"{name}: shape {tuple(tokens.shape)} given; (n, t, d) with n >= {fewest}, t >= 1 and "
            "d >= 1 is needed."
        )
    if not bool(tokens.isfinite().all()):
        raise UserError(f"{name}: NaN or infinite values given; only finite ones are allowed.")
    return n


def _unit(tokens: Tensor) -> Float[Tensor, "n t d"]:
    """Return tokens in float64 at unit length."""
    x = tokens.detach().to(torch.float64)
    return unit_rows(x.flatten(0, 1))[0].view(x.shape)
