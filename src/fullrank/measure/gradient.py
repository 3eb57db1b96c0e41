"""What a gradient at the embeddings does to collapse: its de-centring and de-correlating parts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.moments import unit_rows

# What cancels to this share of its terms has no direction that can be trusted.
_ROUNDING = 1e-9


class GradientParts(NamedTuple):
    """A batch's step ``g = -gradient``, split into centre and residual, and where each leads.

    Attributes:
        centre: ``o_g``, mean over rows of the step, shape (d,).
        residual: ``r_g = g - o_g``, shape (n, d).
        decentring: share of the step that moves the batch's centre back to 0, signed.
        decorrelation: share of the step that flattens the batch's spectrum, signed.
        centre_coefficient: ``η`` of ``o_g ≈ η o``, by least squares: negative is de-centring; 0
            for a batch without a centre.
    """

    centre: Float[Tensor, " d"]
    residual: Float[Tensor, "n d"]
    decentring: float
    decorrelation: float
    centre_coefficient: float


def gradient_parts(
    gradient: Float[Tensor, "n d"],
    embeddings: Float[Tensor, "n d"],
    alignment: Float[Tensor, "n d"] | None = None,
    sphere: bool = True,
) -> GradientParts:
    r"""Split a loss's gradient at a batch of embeddings into de-centring and de-correlation.

    With ``g_i`` the step that row ``i`` would take (minus the gradient), ``u_i`` the embeddings,
    ``o`` their mean, ``r_i = u_i - o``, ``C = mean r rᵀ``, and Frobenius products over the batch:

    - ``decentring = -<o_g, o> / (||o|| g_rms)``, the cosine of the step with the field ``-o`` that
      shrinks ``||o||`` fastest;
    - ``decorrelation = -<r_g, r C̃> / (||r C̃|| ||g||)``, ``C̃ = C - (tr C² / tr C) I``, the cosine
      with the field that raises the participation ratio ``(tr C)² / tr C²`` fastest. Shrinking all
      residuals alike counts nothing.

    Both fields are orthogonal, so the squares add up to 1 at most; what is left moves rows without
    helping or harming either, to first order. A loss of alignment alone usually has both below 0:
    it pulls to the centre, and shrinks the small directions, where views differ, before the large
    ones. Taking its gradient off leaves Zhang et al.'s extra gradient ``G_e = o_e + r_e``, whose
    ``centre_coefficient`` is their ``η`` (about -0.5 for SimSiam). One batch, one moment: signs may
    change in training, and weights and momentum stand between a step here and the network's. The
    spectrum of fewer than ``d`` rows is the batch's, not the data's.

    Args:
        gradient: of the loss in the embeddings, shape (n, d). Of any scale, but for
            ``centre_coefficient``, which wants a sum over rows: ``n`` times that of a mean loss.
        embeddings: rows at which it was taken, shape (n, d).
        alignment: gradient of the loss's alignment term alone, taken off first; None for none.
        sphere: whether rows count by their direction alone. Then they are divided by their length
            and the step by its chain rule, without its radial part, so that gradients in ``z`` and
            in ``u = z / ||z||`` give the same. Otherwise both are taken as they are.

    Returns:
        The parts, in float64. Shares are between -1 and 1, and 0 where there is no gradient, no
        centre (``decentring``), or nothing to flatten (``decorrelation``).

    Raises:
        UserError: no rows, shapes that differ, or entries that are not finite.

    References:
        Zhang et al. 2022, "How Does SimSiam Avoid Collapse Without Negative Samples?", where parts
        are shown by ablation; the shares are first-order readings of the same decomposition.
    """
    g, u = _checked(gradient, embeddings, alignment)
    if sphere:
        u, norms = unit_rows(u)
        g = g * norms[:, None]
        g = _unless_rounding(g - (g * u).sum(1, keepdim=True) * u, g)
    o, o_g = _unless_rounding(u.mean(0), u), g.mean(0)
    r, r_g = u - o, g - o_g
    second = r.T @ r / len(r)
    trace = second.trace()
    flat = (second.square().sum() / torch.where(trace > 0, trace, 1.0)) * r
    peaked = r @ second
    field = _unless_rounding(peaked - flat, peaked)
    length = g.norm()
    centre = float(o @ o)
    return GradientParts(
        centre=o_g,
        residual=r_g,
        decentring=_cosine(-(o_g @ o) * len(g) ** 0.5, o.norm() * length),
        decorrelation=_cosine(-(r_g * field).sum(), field.norm() * length),
        centre_coefficient=float(o_g @ o) / centre if centre > 0 else 0.0,
    )


def _unless_rounding(difference: Tensor, of: Tensor) -> Tensor:
    """Return ``difference``, or 0 where it is but the rounding of what it is left ``of``."""
    return difference * (difference.norm() > _ROUNDING * of.norm())


def _cosine(product: Tensor, lengths: Tensor) -> float:
    return max(-1.0, min(1.0, float(product / lengths))) if float(lengths) > 0 else 0.0


def _checked(
    gradient: Tensor, embeddings: Tensor, alignment: Tensor | None
) -> tuple[Tensor, Tensor]:
    given = {"gradient": gradient, "embeddings": embeddings}
    if alignment is not None:
        given["alignment"] = alignment
    for name, value in given.items():
        if value.ndim != 2 or value.shape != gradient.shape or value.numel() == 0:
            raise UserError(
                f"{name}: shape {tuple(value.shape)} given; allowed: (n, d) with a row and a "
                f"column at least, like gradient's {tuple(gradient.shape)}."
            )
        if not bool(value.isfinite().all()):
            raise UserError(f"{name}: NaN or infinite entries given; allowed: finite ones.")
    step = -gradient.detach().to(torch.float64)
    if alignment is not None:
        step = step + alignment.detach().to(torch.float64)
    return step, embeddings.detach().to(torch.float64)
