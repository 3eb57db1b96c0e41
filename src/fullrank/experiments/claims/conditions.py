"""The conditions that claims compare: a recipe and what is changed in it, at either scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from fullrank.data.settings import DataSettings
from fullrank.experiments.cells import Cell, cells, scale_of
from fullrank.experiments.claims.claim import ScaleName
from fullrank.experiments.scale import FACTORIAL, PAPER, Scale
from fullrank.models.settings.backbone import ResNet
from fullrank.recipes.recipe import Variant
from fullrank.recipes.registry import recipe as find_recipe
from fullrank.train.config import CheckupSettings, Config, ProbeSettings

ArmsOf = Callable[[ScaleName, Sequence[int]], Mapping[str, Sequence[Config]]]

FASHION = DataSettings("fashion-mnist")
IMAGENET = DataSettings("folder:imagenet")
IMAGENET_100 = DataSettings("folder:imagenet100")
CIFAR_10 = DataSettings("cifar10")
STL_10 = DataSettings("stl10")

# Collapse shows early: the scale of the factorial, with check-ups along the way.
FOLLOWED = replace(FACTORIAL, checkup=CheckupSettings(size=1000, budget=1.0, count=16))
# What probes tell apart needs more steps, and more images to probe on. Weight decay and momentum
# are those of the recipes' small presets.
PROBED = replace(
    FACTORIAL,
    steps=240,
    decay=None,
    tau=None,
    checkup=CheckupSettings(size=1000, budget=0.0, count=2),
    followed=None,
    probe=ProbeSettings(train=5000, test=5000),
)
# As published but for the network, which for images this small is ResNet-18.
PAPER_RESNET18 = replace(PAPER, backbone=ResNet("resnet18"))


@dataclass(frozen=True)
class Setting:
    """Where a condition is run.

    Attributes:
        scale: steps, batch, network, check-ups and probe.
        data: what is learned from.
    """

    scale: Scale
    data: DataSettings


@dataclass(frozen=True)
class Condition:
    """A recipe, and what is changed in it.

    Attributes:
        recipe: as ``fullrank train`` takes it, with its variant or ablation.
        changes: by field, as :class:`fullrank.recipes.recipe.Variant` has them.
        cpu: what is changed beyond that at ``--scale cpu``.
        paper: likewise at ``--scale paper``.
        published: the recipe at ``--scale paper`` where that is another form.
    """

    recipe: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    cpu: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, Any] = field(default_factory=dict)
    published: str | None = None

    def config(self, name: ScaleName, at: Setting, seed: int) -> Config:
        """Return the configuration of one run."""
        small = name == "cpu"
        recipe = find_recipe(self.recipe if small else self.published or self.recipe)
        recipe = recipe.preset(at.scale.preset)
        for changes in (self.changes, self.cpu if small else self.paper):
            recipe = Variant("", "", changes).applied_to(recipe, "paper")
        changed, optimizer = at.scale.applied_to(recipe)
        return at.scale.config(changed, optimizer, at.data, seed)


def arms(conditions: Mapping[str, Condition], cpu: Setting, paper: Setting) -> ArmsOf:
    """Return what gives the runs of conditions at a scale, one a seed."""

    def configs(scale: ScaleName, seeds: Sequence[int]) -> Mapping[str, Sequence[Config]]:
        at = {"cpu": cpu, "paper": paper}[scale]
        return {
            name: [condition.config(scale, at, seed) for seed in seeds]
            for name, condition in conditions.items()
        }

    return configs


def joined(*parts: ArmsOf) -> ArmsOf:
    """Return the arms of several; a condition that two of them have counts by its first name."""

    def configs(scale: ScaleName, seeds: Sequence[int]) -> Mapping[str, Sequence[Config]]:
        found: dict[tuple[str, ...], tuple[str, Sequence[Config]]] = {}
        for part in parts:
            for name, runs in part(scale, seeds).items():
                found.setdefault(tuple(run.identity() for run in runs), (name, runs))
        return dict(found.values())

    return configs


@lru_cache
def cells_of(recipe: str, scale: ScaleName) -> tuple[Cell, ...]:
    """Return the forms of a recipe that ``fullrank explain --quick`` takes apart, itself first."""
    return tuple(cells(recipe, quick=True, scale=scale_of(find_recipe(recipe), scale)))


def cell_configs(
    recipe: str, cell: Cell, scale: ScaleName, data: DataSettings, seeds: Sequence[int]
) -> list[Config]:
    """Return the runs of one of these forms: those of ``fullrank explain``, shared with it."""
    at = scale_of(find_recipe(recipe), scale)
    return [cell.config(at, data, seed) for seed in seeds]
