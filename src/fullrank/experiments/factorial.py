"""The factorial of the asymmetric family: which mechanisms there are, and which cells differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Literal, cast, get_args

from fullrank.experiments.scale import Scale
from fullrank.models.settings.closed_form import ClosedFormPredictor
from fullrank.models.settings.predictor import (
    LinearPredictor,
    MLPPredictor,
    NoPredictor,
    PredictorPart,
)
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Momentum, Online, StopGradient, TargetPart
from fullrank.recipes.recipe import Recipe
from fullrank.recipes.registry import recipe as find_recipe
from fullrank.recipes.training import Optimizer

Predictor = Literal["none", "linear", "mlp", "closed form"]
Decay = Literal["none", "encoder", "predictor", "both"]

PREDICTORS: tuple[Predictor, ...] = get_args(Predictor)
DECAYS: tuple[Decay, ...] = get_args(Decay)
TRAINED: tuple[Predictor, ...] = ("linear", "mlp")
# Two directions compared, and nothing that spreads them: there the factors decide alone.
PLAIN = ("cosine", "normalised-mse")


@dataclass(frozen=True)
class Factors:
    """One combination of the mechanisms of the asymmetric family.

    Attributes:
        predictor: what maps z to its prediction.
        stop_gradient: whether the other side is a constant.
        momentum: whether it is an average of the online network's weights.
        weight_decay: which weights decay.
        output_norm: whether a batch norm without affine parameters ends the projector.
    """

    predictor: Predictor
    stop_gradient: bool
    momentum: bool
    weight_decay: Decay
    output_norm: bool

    def canonical(self) -> Factors:
        """Return the combination that stands for all that cannot be told from this one.

        No gradient ever reaches a momentum target, so that a stop-gradient changes nothing there;
        and a predictor that is not trained has no weights that could decay.
        """
        decay = self.weight_decay
        if self.predictor not in TRAINED:
            decay = {"predictor": "none", "both": "encoder"}.get(decay, decay)  # type: ignore[assignment]
        return replace(self, stop_gradient=self.stop_gradient or self.momentum, weight_decay=decay)

    @property
    def constant_target(self) -> bool:
        """Whether no gradient flows through the target."""
        return self.stop_gradient or self.momentum

    @property
    def label(self) -> str:
        """The combination in words."""
        predictor = {"none": "no", "mlp": "MLP"}.get(self.predictor, self.predictor)
        decay = {"none": "no weight decay", "both": "weight decay"}.get(
            self.weight_decay, f"weight decay on the {self.weight_decay}"
        )
        parts = [
            f"{predictor} predictor",
            f"{'' if self.stop_gradient else 'no '}stop-gradient",
            f"{'' if self.momentum else 'no '}momentum",
            decay,
            f"{'' if self.output_norm else 'no '}output batch norm",
        ]
        return ", ".join(parts)

    @property
    def id(self) -> str:
        """A short name for files and links."""
        target = "online"
        if self.constant_target:
            target = "momentum" if self.momentum else "stop-gradient"
        norm = "norm" if self.output_norm else "no-norm"
        return f"{self.predictor.replace(' ', '-')}.{target}.decay-{self.weight_decay}.{norm}"

    def to_dict(self) -> dict[str, str]:
        """Return the factors in words, by name."""
        return {
            name.replace("_", " "): value if isinstance(value, str) else ("off", "on")[value]
            for name, value in asdict(self).items()
        }


def combinations() -> Iterator[Factors]:
    """Yield every combination of the factors."""
    for levels in product(PREDICTORS, (True, False), (False, True), DECAYS, (True, False)):
        yield Factors(*levels)


def merged() -> dict[Factors, list[Factors]]:
    """Return the cells of the factorial, each with all combinations that are this cell."""
    cells: dict[Factors, list[Factors]] = {}
    for combination in combinations():
        cells.setdefault(combination.canonical(), []).append(combination)
    return cells


def factors_of(recipe: Recipe, optimizer: Optimizer) -> Factors | None:
    """Return the combination that a recipe is; None if it is not one of the factorial."""
    kinds: dict[type, Predictor] = {
        NoPredictor: "none",
        LinearPredictor: "linear",
        MLPPredictor: "mlp",
        ClosedFormPredictor: "closed form",
    }
    predictor, target, projector = recipe.predictor, recipe.target, recipe.projector
    if (
        type(predictor) not in kinds
        or getattr(predictor, "frequency", 1) != 1
        or type(target) not in (Online, StopGradient, Momentum)
        or not isinstance(projector, MLPProjector)
        or projector.last_norm == "batch-affine"
        or recipe.objective.kind not in PLAIN
    ):
        return None
    own = optimizer.predictor_weight_decay
    on_encoder = optimizer.weight_decay > 0
    on_predictor = on_encoder if own is None else own > 0
    decay = ("none", "predictor", "encoder", "both")[2 * on_encoder + on_predictor]
    return Factors(
        kinds[type(predictor)],
        isinstance(target, StopGradient),
        isinstance(target, Momentum),
        cast(Decay, decay),
        projector.last_norm == "batch",
    ).canonical()


def is_asymmetric(recipe: Recipe) -> bool:
    """Say whether a predictor against a constant target is all that holds a recipe up."""
    factors = factors_of(recipe, recipe.training.optimizer)
    return factors is not None and factors.constant_target and factors.predictor != "none"


def with_factors(recipe: Recipe, factors: Factors, scale: Scale) -> tuple[Recipe, Optimizer]:
    """Return a recipe of the asymmetric family, and its optimiser, with other mechanisms.

    Everything that the factors do not name stays the recipe's own.
    """
    at_scale, optimizer = scale.applied_to(recipe)
    decay = optimizer.weight_decay
    encoder = decay if factors.weight_decay in ("encoder", "both") else 0.0
    own = decay if factors.weight_decay in ("predictor", "both") else 0.0
    if factors.predictor not in TRAINED:
        own = encoder  # nothing of the predictor decays either way
    optimizer = replace(
        optimizer,
        weight_decay=encoder,
        predictor_weight_decay=None if own == encoder else own,
    )
    assert isinstance(recipe.projector, MLPProjector)
    norm: Literal["batch", "none"] = "batch" if factors.output_norm else "none"
    changed = replace(
        recipe,
        predictor=_predictor(recipe, factors.predictor, scale.preset),
        target=_target(at_scale, factors, scale),
        projector=replace(recipe.projector, last_norm=norm),
    )
    return changed, optimizer


def _target(recipe: Recipe, factors: Factors, scale: Scale) -> TargetPart:
    if factors.momentum:
        own = isinstance(recipe.target, Momentum)
        return recipe.target if own else Momentum(tau=scale.tau or Momentum().tau)
    return StopGradient() if factors.stop_gradient else Online()


def _predictor(recipe: Recipe, level: Predictor, preset: str) -> PredictorPart:
    """Return the recipe's own predictor where it is of this kind, else that of its first paper."""
    own: dict[Predictor, tuple[type[PredictorPart], ...]] = {
        "none": (NoPredictor,),
        "linear": (LinearPredictor,),
        "mlp": (MLPPredictor,),
        "closed form": (ClosedFormPredictor,),
    }
    if isinstance(recipe.predictor, own[level]):
        return recipe.predictor
    first = {"mlp": "simsiam", "closed form": "directpred"}
    if level in first:
        return find_recipe(first[level]).preset(preset).predictor
    return NoPredictor() if level == "none" else LinearPredictor()
