"""The cells of an explanation: a recipe, and what it is without each of its mechanisms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from fullrank.data.settings import DataSettings
from fullrank.errors import unknown_name
from fullrank.experiments.factorial import (
    PREDICTORS,
    Factors,
    combinations,
    factors_of,
    is_asymmetric,
    merged,
    with_factors,
)
from fullrank.experiments.predicted import (
    Prediction,
    of_ablation,
    of_factors,
    of_recipe,
    of_symmetric,
)
from fullrank.experiments.scale import ABLATIONS, FACTORIAL, PAPER, Scale
from fullrank.models.settings import FIELDS
from fullrank.models.settings.predictor import SymmetricLinearPredictor
from fullrank.recipes.recipe import Ablation, Recipe
from fullrank.recipes.registry import recipe as find_recipe
from fullrank.recipes.training import Optimizer
from fullrank.train.config import Config


@dataclass(frozen=True)
class Cell:
    """One form of a method, and what is predicted of it.

    Attributes:
        id: short name, for files and links.
        label: in words.
        recipe: the form, under its preset and named as the recipe itself.
        optimizer: with which it is trained.
        predicted: fixed before any run.
        factors: the combination of mechanisms; None outside the factorial.
        ablation: name of the recipe's ablation that this is; None if it is none.
        merged: labels of the forms that cannot be told apart from this one.
        published: whether this is the recipe as published.
    """

    id: str
    label: str
    recipe: Recipe
    optimizer: Optimizer
    predicted: Prediction
    factors: Factors | None = None
    ablation: str | None = None
    merged: tuple[str, ...] = ()
    published: bool = False

    def config(self, scale: Scale, data: DataSettings, seed: int) -> Config:
        """Return the configuration of one run of this cell."""
        config = scale.config(self.recipe, self.optimizer, data, seed)
        if self.published and scale.followed is not None:
            return replace(config, checkup=scale.followed)
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        fields = {name: getattr(self.recipe, name).describe() for name in FIELDS}
        return {
            "id": self.id,
            "label": self.label,
            "factors": self.factors.to_dict() if self.factors else {},
            "ablation": self.ablation,
            "published": self.published,
            "merged": list(self.merged),
            "recipe_fields": fields | {"weight decay": _decay(self.optimizer)},
            "predicted": self.predicted.to_dict(),
        }


def _decay(optimizer: Optimizer) -> str:
    own = optimizer.predictor_weight_decay
    return f"{optimizer.weight_decay:g}" + ("" if own is None else f", predictor {own:g}")


def scale_for(recipe: Recipe) -> Scale:
    """Return ``--scale cpu`` of a recipe: a factorial has many runs and needs them short."""
    return FACTORIAL if is_asymmetric(recipe.preset("small")) else ABLATIONS


def scale_of(recipe: Recipe, name: str) -> Scale:
    """Return the scale of a recipe's runs by its name, ``cpu`` or ``paper``.

    Raises:
        UserError: there is no scale of this name.
    """
    scales = {"cpu": scale_for(recipe), "paper": PAPER}
    if name not in scales:
        raise unknown_name("scale", name, scales)
    return scales[name]


def cells(name: str, quick: bool = False, scale: Scale | None = None) -> list[Cell]:
    """Return the cells that explain a recipe.

    Any recipe has itself and its named ablations. Where a predictor against a constant target is
    all that holds a recipe up, there is the whole factorial of the mechanisms, and the symmetric
    predictor with and without an average, and rescued.

    Args:
        name: of a recipe, as ``fullrank train`` takes it.
        quick: the recipe, each mechanism changed alone, and the named ablations.
        scale: of the runs; by default the one for this recipe.

    Returns:
        The cells, the recipe itself first; no two of them have the same configuration.

    Raises:
        UserError: there is no such recipe; the nearest are given.
    """
    published = find_recipe(name)
    scale = scale or scale_for(published)
    base = published.preset(scale.preset)
    found = [_published(base, scale)]
    if is_asymmetric(base):
        found += _factorial(base, scale, quick)
    for ablation in published.ablations:
        ablated = published.variant(ablation.name).preset(scale.preset)
        found.append(_ablated(base, replace(ablated, name=base.name), ablation, scale))
    if is_asymmetric(base) and not quick:
        found += _symmetric(base, scale)
    return list(_told_apart(found))


def _at_scale(recipe: Recipe, base: Recipe, scale: Scale) -> tuple[Recipe, Optimizer]:
    """Return a form of ``base`` at a scale: as a combination of factors if it is one."""
    factors = factors_of(recipe, recipe.training.optimizer)
    if factors is None or not is_asymmetric(base):
        return scale.applied_to(recipe)
    return with_factors(recipe, factors, scale)


def _published(base: Recipe, scale: Scale) -> Cell:
    recipe, optimizer = _at_scale(base, base, scale)
    predicted = of_recipe(base)
    return Cell("recipe", base.title, recipe, optimizer, predicted, published=True)


def _ablated(base: Recipe, ablated: Recipe, ablation: Ablation, scale: Scale) -> Cell:
    recipe, optimizer = _at_scale(ablated, base, scale)
    norm = getattr(recipe.projector, "last_norm", "none") == "batch"
    predicted = of_ablation(base, ablation, norm)
    label = ablation.name.replace("-", " ")
    return Cell(ablation.name, label, recipe, optimizer, predicted, ablation=ablation.name)


def _factorial(base: Recipe, scale: Scale, quick: bool) -> Iterator[Cell]:
    wanted = None
    if quick:
        own = factors_of(base, base.training.optimizer)
        assert own is not None
        wanted = main_effects(own)
    for factors, same in merged().items():
        if wanted is not None and factors not in wanted:
            continue
        recipe, optimizer = with_factors(base, factors, scale)
        decay = max(optimizer.weight_decay, optimizer.predictor_weight_decay or 0.0)
        predicted = of_factors(factors, decay)
        others = tuple(f.label for f in same if f != factors)
        yield Cell(factors.id, factors.label, recipe, optimizer, predicted, factors, None, others)


def main_effects(own: Factors) -> set[Factors]:
    """Return a combination, and those that differ from it in one mechanism alone.

    Of weight decay only its absence is asked for; where a momentum target makes a stop-gradient
    idle, the target without either counts as one mechanism less.
    """
    changed = [replace(own, predictor=predictor) for predictor in PREDICTORS]
    changed.append(replace(own, stop_gradient=False, momentum=False))
    changed.append(replace(own, stop_gradient=True, momentum=not own.momentum))
    changed.append(replace(own, weight_decay="none"))
    changed.append(replace(own, output_norm=not own.output_norm))
    return {factors.canonical() for factors in (own, *changed)} & set(combinations())


def _symmetric(base: Recipe, scale: Scale) -> Iterator[Cell]:
    """Yield a symmetric linear predictor: with an average, without, and without but rescued."""
    own = factors_of(base, base.training.optimizer)
    assert own is not None
    for momentum, rescued in ((False, False), (True, False), (False, True)):
        plain = Factors("linear", True, momentum, "predictor" if rescued else "both", False)
        recipe, optimizer = with_factors(base, plain, scale)
        if rescued:
            # At ten times the rate a tenth of the coefficient shrinks the predictor as much.
            decay = (optimizer.predictor_weight_decay or 0.0) / 10
            rate = 10 * optimizer.predictor_lr
            optimizer = replace(optimizer, predictor_lr=rate, predictor_weight_decay=decay)
        average = "momentum" if momentum else "no momentum"
        yield Cell(
            f"symmetric.{'momentum' if momentum else 'stop-gradient'}{'.rescued' * rescued}",
            f"symmetric linear predictor, {average}, no output batch norm"
            + ", weight decay on the predictor alone, at 10 times the learning rate" * rescued,
            replace(recipe, predictor=SymmetricLinearPredictor()),
            optimizer,
            of_symmetric(momentum, rescued),
        )


def _told_apart(found: list[Cell]) -> Iterator[Cell]:
    """Yield each cell once, those of one configuration as one that knows all their names."""
    by_form: dict[tuple[str, Optimizer], list[Cell]] = {}
    for cell in found:
        by_form.setdefault((repr(cell.recipe.to_dict()), cell.optimizer), []).append(cell)
    for same in by_form.values():
        yield _joined(same)


def _joined(same: list[Cell]) -> Cell:
    """Join cells of one configuration: a theory of its factors speaks before a paper's word."""
    named = next((cell for cell in same if cell.factors), same[0])
    spoken = [cell.predicted for cell in (named, *same) if cell.predicted.kind is not None]
    labels = [label for cell in same for label in (cell.label, *cell.merged)]
    published = any(cell.published for cell in same)
    ablation = next((cell.ablation for cell in same if cell.ablation), None)
    return replace(
        named,
        predicted=spoken[0] if spoken else named.predicted,
        # What an ablation takes away may not be there at this scale, as are SwAV's small crops.
        ablation=None if published else ablation,
        merged=tuple(dict.fromkeys(label for label in labels if label != named.label)),
        published=published,
    )
