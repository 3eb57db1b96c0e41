"""What is predicted of a cell before it is run, and by whom."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from fullrank.experiments.factorial import Factors
from fullrank.recipes.recipe import Ablation, Recipe

TIAN = "Tian et al. 2021"
CHEN_HE = "Chen and He 2021"
WANG = "Wang et al. 2021"
ZHUO = "Zhuo et al. 2023"
HOEPPE = "Hoeppe et al. 2022"

BEHIND_NORM = (
    "The batch norm at the output holds the mean of every dimension at 0 and its variance at 1, so "
    "that complete collapse is impossible; what is left over is the direction that dies last."
)


@dataclass(frozen=True)
class Prediction:
    """What is predicted of one cell.

    Attributes:
        kind: ``healthy`` or a kind of collapse; None where nothing is known to speak about it.
        by: the theorem, or the observation, with its source.
        text: why, in a few sentences.
    """

    kind: str | None
    by: str | None
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


SILENT = Prediction(None, None, "No theory speaks about this cell.")


def largest_noise(weight_decay: float, tau: float = 1.0) -> float:
    """Return the augmentation-to-data variance ratio beyond which weight decay kills a mode.

    The non-zero fixed point of an eigenmode exists where ``tau² > 4 eta (1 + sigma²)`` (Tian et
    al. 2021, Eq. 15; for DirectCopy Wang et al. 2021): ``sigma² < tau² / (4 eta) - 1``.

    Args:
        weight_decay: eta, above 0.
        tau: how far the average target is behind, in (0, 1].
    """
    return tau**2 / (4 * weight_decay) - 1


def of_factors(factors: Factors, weight_decay: float) -> Prediction:
    """Predict one cell of the asymmetric family.

    Args:
        factors: of the cell.
        weight_decay: the coefficient in force where the factors have one.

    Returns:
        The prediction, whose kind is None where no theory speaks.
    """
    factors = factors.canonical()
    if factors.predictor == "none" or not factors.constant_target:
        return behind_norm(_collapsing(factors), factors.output_norm)
    if factors.predictor == "mlp":
        return _mlp(factors)
    if factors.predictor == "closed form":
        return _closed_form(factors, weight_decay)
    return _linear(factors, weight_decay)


def _collapsing(factors: Factors) -> Prediction:
    """Predict a cell that lacks the predictor or the constant target."""
    if factors.predictor == "mlp":
        return Prediction(
            "complete collapse",
            f"{CHEN_HE}, sec. 4.1 (observed)",
            "With gradients on both sides a constant is what the loss asks for, and is found: the "
            "loss goes to -1. The theorem is about linear predictors; this is an observation.",
        )
    if factors.predictor == "none":
        lag = " A target that lags behind only lowers what pulls against it." * factors.momentum
        return Prediction(
            "complete collapse",
            f"{TIAN}, Theorem 2",
            "Without a predictor every direction of W that augmentation moves decays: dW/dt = "
            f"-W X' - eta W.{lag}",
        )
    return Prediction(
        "complete collapse",
        f"{TIAN}, Theorem 2",
        "With gradients on both sides every direction of W that augmentation moves decays, "
        "whatever the linear predictor: d vec(W)/dt = -H vec(W) with H at least X' ⊗ I.",
    )


def _mlp(factors: Factors) -> Prediction:
    """Predict an MLP predictor against a constant target: known by observation alone."""
    as_published = factors.weight_decay == "both"
    if as_published and factors.output_norm and not factors.momentum:
        by = f"{CHEN_HE} (observed)"
        text = "This is SimSiam. That it does not collapse is an observation; no theory of it."
        return Prediction("healthy", by, text)
    if as_published and factors.momentum and not factors.output_norm:
        by = "Grill et al. 2020 (observed)"
        text = "This is BYOL. That it does not collapse is an observation; no theory of it."
        return Prediction("healthy", by, text)
    return SILENT


def _closed_form(factors: Factors, weight_decay: float) -> Prediction:
    by, text = (
        f"{TIAN}, Eqs. 18-19",
        "Where the predictor's eigenvalues are set from those of F, every mode moves to its "
        "non-zero fixed point without a predictor that has to learn it.",
    )
    if factors.weight_decay == "encoder":
        by = f"{by}; {WANG}"
        text += _threshold(weight_decay)
    return Prediction("healthy", by, text)


def _linear(factors: Factors, weight_decay: float) -> Prediction:
    """Predict a linear predictor against a constant target: the eigenmode flow."""
    equations = f"{TIAN}, Eqs. 11-15"
    if factors.weight_decay == "encoder":
        return Prediction(
            None,
            None,
            "Between the eigenmode flow and a loss of cosines no kind is predicted: with decay on "
            "the encoder alone the gain of every mode settles at p = tau/(1 + sigma²), and then "
            "all s fall alike, as exp(-2 eta t), which a loss of cosines does not see.",
        )
    if factors.weight_decay == "none":
        return Prediction(
            "healthy",
            equations,
            "Without weight decay no mode is pulled to zero: p moves to tau/(1 + sigma²) along "
            "s - p²/alpha_p = constant.",
        )
    if factors.weight_decay == "predictor":
        return Prediction(
            "healthy",
            equations,
            "With decay on the predictor alone p stays below tau/(1 + sigma²), where ds/dt = "
            "2 p s (tau - (1 + sigma²) p) is above zero: every mode grows.",
        )
    return Prediction(
        "healthy",
        equations,
        "Modes that start above the lower fixed point grow to the upper one."
        + _threshold(weight_decay),
    )


def _threshold(weight_decay: float) -> str:
    return (
        f" The weight decay in force, {weight_decay:g}, is below the critical tau²/(4 (1 + "
        f"sigma²)) of every mode with sigma² below {largest_noise(weight_decay):.3g} (at tau = 1, "
        "for the loss before its normalisation)."
    )


def of_symmetric(momentum: bool, rescued: bool) -> Prediction:
    """Predict a symmetric linear predictor, with weight decay on both and no output batch norm.

    Args:
        momentum: whether the target is an average.
        rescued: whether the predictor learns ten times faster and alone decays.
    """
    if rescued:
        return Prediction(
            "healthy",
            f"{HOEPPE} (observed)",
            "Without an average a symmetric predictor is rescued by a learning rate ten times as "
            "large, with weight decay on the predictor alone.",
        )
    if momentum:
        by = f"{TIAN}; {HOEPPE} (observed)"
        return Prediction("healthy", by, "The average keeps a symmetric predictor from collapse.")
    return Prediction(
        "complete collapse",
        f"{TIAN}; {HOEPPE} (observed)",
        "Without an average a symmetric predictor at the encoder's learning rate collapses.",
    )


_PLACE = r"(?:sec|app)\. [\w. ]*\w|abstract|[Tt]heorem \d+|Eqs?\. [\d-]+"
_SOURCE = re.compile(
    rf"[A-Z][\w-]+(?:(?:, | and | et )[\w-]+\.?)*,? (?:19|20)\d\d(?:, (?:{_PLACE}))?"
)
_NO_COLLAPSE = re.compile(r"\b(?:no|not) collapse\b")


def of_ablation(recipe: Recipe, ablation: Ablation, output_norm: bool) -> Prediction:
    """Predict an ablation as its recipe states it.

    Args:
        recipe: whose ablation it is.
        ablation: what is taken away, and what follows.
        output_norm: whether the ablated projector ends in a batch norm without affine parameters.
    """
    named = _SOURCE.search(ablation.predicts)
    section = re.search(rf"\(({_PLACE})", ablation.predicts)
    by = named.group() if named else f"{recipe.paper.authors} {recipe.paper.year}"
    if not named and section:
        by += f", {section.group(1)}"
    text = ablation.predicts[0].upper() + ablation.predicts[1:] + "."
    if ablation.collapse is not None:
        return behind_norm(Prediction(f"{ablation.collapse} collapse", by, text), output_norm)
    if _NO_COLLAPSE.search(ablation.predicts):
        return Prediction("healthy", by, text)
    return Prediction(None, None, f"No kind is predicted. {text} ({by})")


def of_recipe(recipe: Recipe) -> Prediction:
    """Predict a recipe as it was published."""
    by = f"{recipe.paper.authors} {recipe.paper.year}"
    held = "; ".join(f"{p.mechanism} against {p.collapse} collapse" for p in recipe.standing())
    return Prediction("healthy", by, f"As published, it does not collapse. Held up by: {held}.")


def behind_norm(prediction: Prediction, output_norm: bool) -> Prediction:
    """Return what a prediction of complete collapse becomes behind an output batch norm."""
    if prediction.kind != "complete collapse" or not output_norm:
        return prediction
    by = f"{prediction.by}; {ZHUO} (centred outputs)"
    return Prediction("dimensional collapse", by, f"{prediction.text} {BEHIND_NORM}")
