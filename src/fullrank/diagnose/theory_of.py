"""What theory says of a recipe: statements with their numbers and sources, no training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fullrank.diagnose.portraits import default_phases, mode_portraits, phase_pictures
from fullrank.recipes.recipe import Recipe
from fullrank.theory import closed_loop
from fullrank.theory.eigenmodes import (
    ModeParameters,
    critical_weight_decay,
    fixed_points,
)

TIAN = "Tian, Chen and Ganguli 2021, arXiv:2102.06810"
WANG = "Wang, Chen, Du and Tian 2021, arXiv:2110.04947"
HALVAGAL = "Halvagal, Laborieux and Zenke 2023, arXiv:2212.04858"
JING = "Jing, Vincent, LeCun and Tian 2022, arXiv:2110.09348"
JHA = "Jha, Blaschko, Asano and Tuytelaars 2024, arXiv:2402.14957"
GARRIDO = "Garrido et al. 2022, arXiv:2206.02574"

# Augmentation variance over data variance that numbers are told for.
NOISE = 0.3


@dataclass(frozen=True)
class Statement:
    """One thing that theory says.

    Attributes:
        title: the thing in a few words.
        text: what it says, with this recipe's numbers.
        source: the theorem or equation, and its paper.
    """

    title: str
    text: str
    source: str = ""


def theory_of(
    recipe: Recipe,
    features: int,
    batch_size: int,
    phases: Sequence[tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """Return what theory says of a recipe, with pictures as arrays.

    Args:
        recipe: under the preset that is asked about.
        features: dimension of the representation.
        batch_size: images of a batch.
        phases: pairs of parameters (``fullrank.theory.phase.AXES``) to draw phase diagrams of; by
            default those that matter to the recipe.

    Returns:
        ``statements`` and ``ablations`` (title, text, source), ``portraits`` and ``phases``; plain
        values.

    Raises:
        UserError: a parameter is not known.
    """
    asymmetric = _has_modes(recipe)
    if phases is None:
        phases = default_phases(recipe) if asymmetric else []
    pictures = phase_pictures(phases)
    said = [*_collapsed(recipe, features, batch_size)]
    if asymmetric:
        said += _of_predictors(recipe)
    if recipe.family == "contrastive":
        said += _of_contrast()
    if recipe.family == "redundancy reduction":
        said += _of_redundancy()
    said += _of_centre()
    return {
        "statements": [asdict(statement) for statement in said],
        "ablations": [asdict(statement) for statement in _of_ablations(recipe)],
        "portraits": mode_portraits(recipe) if asymmetric else [],
        "phases": pictures,
    }


def _has_modes(recipe: Recipe) -> bool:
    """Say whether theory follows a recipe's eigenmodes: no gradient through the other side."""
    return recipe.family == "asymmetric" and recipe.target.kind in ("stop-gradient", "momentum")


def _collapsed(recipe: Recipe, features: int, batch_size: int) -> list[Statement]:
    value = recipe.collapsed_loss(features, batch_size)
    if value is None:
        text = "The objective cannot be computed of a constant embedding: the run would end there."
    else:
        text = (
            f"A constant embedding has the loss {value:.4g}. A loss that sits there says that the "
            "network has collapsed, however good it looks."
        )
    return [Statement("The loss of a collapsed network", text)]


def _of_predictors(recipe: Recipe) -> list[Statement]:
    decay = recipe.training.optimizer.weight_decay
    critical = float(critical_weight_decay(NOISE))
    points = fixed_points(ModeParameters(noise=NOISE, weight_decay=decay))
    bound = float(closed_loop.critical_noise(decay)) if decay else math.inf
    survive = (
        "every feature can survive"
        if math.isinf(bound)
        else f"a feature survives up to an augmentation variance of {bound:,.3g} times its data "
        "variance"
    )
    statements = [
        Statement(
            "Three fixed points",
            f"In linear networks with squared error each mode has a collapsed state, a threshold "
            f"and a healthy state. At σ² = {NOISE} and this recipe's weight decay {decay:g} the "
            f"threshold is p₋ = {float(points.lower):.3g} and the healthy state "
            f"p₊ = {float(points.upper):.3g}: a mode that starts below the threshold dies.",
            f"{TIAN}, equations 11 to 15",
        ),
        Statement(
            "Too much weight decay",
            f"Above η = τ²/(4(1+σ²)), {critical:.3g} for σ² = {NOISE} and τ = 1, every mode "
            "collapses. The losses in use are normalised, which divides gradients by the "
            "embedding's length: their η is larger than the optimiser's by that factor.",
            f"{TIAN}, equation 15",
        ),
        Statement(
            "Without stop-gradient",
            "Every direction in which views differ decays, at least as fast as the smallest "
            "augmentation variance: complete collapse, whatever the predictor. An output batch "
            "norm keeps the scale and leaves one direction.",
            f"{TIAN}, Theorem 2",
        ),
        Statement(
            "Without predictor",
            "dW/dt = −W X' − ηW: complete collapse as well, at the rates of the augmentation "
            "variances.",
            f"{TIAN}, Theorem 2",
        ),
    ]
    if recipe.predictor.kind == "closed-form":
        statements.append(
            Statement(
                "Weight decay is a threshold on augmentation",
                f"With a closed-form predictor {survive} (σ² < τ²/(4η) − 1).",
                WANG,
            )
        )
    if recipe.target.kind == "momentum":
        statements.append(
            Statement(
                "The momentum target",
                "While modes grow the target lags behind: τ(t) falls and recovers, an automatic "
                "curriculum that is slower and leaves more modes trapped.",
                f"{TIAN}, equation 13 and section on EMA",
            )
        )
    statements.append(
        Statement(
            "Variance is regularised implicitly",
            "With the squared error every mode is driven to predictor × (1+σ²) = 1, large modes "
            "first; with the cosine, modes are driven towards each other.",
            HALVAGAL,
        )
    )
    return statements


def _of_contrast() -> list[Statement]:
    return [
        Statement(
            "Strong augmentation collapses dimensions",
            "In a one-layer linear network a direction decays exponentially if views differ more "
            "along it than images do: where X = Σ̂₀ − Σ̂₁ has a negative eigenvalue.",
            f"{JING}, cause 1",
        ),
        Statement(
            "Depth collapses dimensions",
            "In two layers and more the largest singular values grow first, and the spectrum "
            "becomes steep without any augmentation: the deeper, the steeper.",
            f"{JING}, cause 2",
        ),
    ]


def _of_redundancy() -> list[Statement]:
    return [
        Statement(
            "Dimensions and samples are dual",
            "Penalising correlations between dimensions is penalising similarities between "
            "samples, up to the lengths of rows and columns.",
            f"{GARRIDO}, an identity",
        )
    ]


def _of_centre() -> list[Statement]:
    return [
        Statement(
            "A small centre is necessary, not sufficient",
            "Complete collapse is a centre ‖E z‖ of 1, and each method holds it down in its own "
            "way. But it constrains the first moment only: two antipodal points have a centre of "
            "0. Read a rank beside it.",
            JHA,
        )
    ]


def _of_ablations(recipe: Recipe) -> list[Statement]:
    return [
        Statement(f"{recipe.name}/{ablation.name}", _sentence(ablation.predicts))
        for ablation in recipe.ablations
        if ablation.predicts and not recipe.chosen
    ]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."
