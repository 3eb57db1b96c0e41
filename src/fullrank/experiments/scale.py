"""The settings at which mechanisms are taken apart: in minutes on a processor, or as published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_type_hints

from fullrank.data.settings import DataSettings, data_family
from fullrank.data.stream_settings import IID, stream_of
from fullrank.errors import UserError
from fullrank.models.settings import FIELDS
from fullrank.models.settings.backbone import BackboneSettings, Conv4, backbone_type
from fullrank.models.settings.target import Momentum
from fullrank.recipes.recipe import Recipe
from fullrank.recipes.training import Optimizer
from fullrank.train.config import CheckupSettings, Config, ProbeSettings, RunSettings
from fullrank.train.rates import rate_at, scaled_lr


@dataclass(frozen=True)
class Scale:
    """How large and how long the runs are.

    Complete collapse shows within a hundred steps of a small network; everything here is as small
    as it can be for that.

    Args:
        name: what ``--scale`` takes.
        preset: of the recipe, ``small`` or ``paper``.
        backbone: of every run; None is the one that the recipe was published with.
        steps: of every run; None is the recipe's own epochs.
        batch_size: images a step; None is the recipe's own.
        decay: how far weight decay shrinks a weight that has no gradient, in e-folds over the run;
            None leaves the recipe its own, of which short runs feel little.
        tau: start of a momentum target's cosine; None is the recipe's own. The slow targets of
            long training hardly move in runs this short.
        checkup: held-out images are few, and measured at the start and at the end only.
        followed: check-ups of the recipe itself, whose modes are followed; None: those of all.
        probe: fitted and scored on few images.
        device: of every run.
        precision: of every run.
        threads: of every run.
        seeds: runs a cell.
        quick_seeds: the same where only the main effects are asked for.
    """

    name: str = "cpu"
    preset: Literal["small", "paper"] = "small"
    backbone: BackboneSettings | None = field(default_factory=lambda: Conv4(width=8))
    steps: int | None = 120
    batch_size: int | None = 128
    decay: float | None = 1.0
    tau: float | None = 0.95
    checkup: CheckupSettings = field(
        default_factory=lambda: CheckupSettings(size=1000, budget=0.0, count=2)
    )
    followed: CheckupSettings | None = field(
        default_factory=lambda: CheckupSettings(size=1000, budget=1.0, count=16)
    )
    probe: ProbeSettings = field(default_factory=lambda: ProbeSettings(train=2000, test=2000))
    device: str = "cpu"
    precision: Literal["auto", "32", "bf16"] = "32"
    threads: int | None = 1
    seeds: int = 3
    quick_seeds: int = 1

    def applied_to(self, recipe: Recipe) -> tuple[Recipe, Optimizer]:
        """Return a recipe, and its optimiser, at this scale.

        The optimiser's peak rate is the one that it has at the recipe's own batch size.
        """
        training, target = recipe.training, recipe.target
        batch = self.batch_size or training.batch_size
        rate = training.optimizer.lr * training.batch_size / batch
        optimizer = replace(training.optimizer, lr=rate)
        if self.tau is not None and isinstance(target, Momentum):
            recipe = replace(recipe, target=replace(target, tau=self.tau))
        if self.decay is not None and optimizer.weight_decay > 0:
            decay = self.decay / self.travelled(optimizer, batch)
            optimizer = replace(optimizer, weight_decay=float(f"{decay:.2g}"))
        return recipe, optimizer

    def travelled(self, optimizer: Optimizer, batch_size: int) -> float:
        """Return by how many e-folds a weight decay of 1 would shrink a weight over the run.

        A step of SGD at rate r and momentum m takes r wd / (1 - m) of a weight, in the long run.
        """
        assert self.steps is not None
        shares = sum(rate_at(optimizer, step, self.steps) for step in range(self.steps))
        momentum = optimizer.momentum if optimizer.name in ("sgd", "lars") else 0.0
        return scaled_lr(optimizer, batch_size) * shares / (1 - momentum)

    def config(
        self, recipe: Recipe, optimizer: Optimizer, data: DataSettings, seed: int = 0
    ) -> Config:
        """Return the configuration of one run.

        Args:
            recipe: under its preset.
            optimizer: of the run.
            data: what to learn from.
            seed: of the run.

        Raises:
            UserError: the recipe cannot work at this scale.
        """
        batch = self.batch_size or recipe.training.batch_size
        recipe.check(batch)
        parts = {name: with_floats(getattr(recipe, name)) for name in FIELDS}
        return Config(
            recipe=replace(recipe, **parts),
            data=data,
            backbone=self.backbone_of(recipe),
            optimizer=with_floats(optimizer),
            checkup=self.checkup,
            probe=self.probe,
            run=RunSettings(
                batch_size=batch,
                steps=self.steps,
                epochs=float(recipe.training.epochs) if self.steps is None else None,
                seed=seed,
                device=self.device,
                precision=self.precision,
                threads=self.threads,
                logger="none",
            ),
        )

    def backbone_of(self, recipe: Recipe) -> BackboneSettings:
        """Return the backbone of a recipe's runs."""
        if self.backbone is not None:
            return self.backbone
        name, settings = backbone_type(recipe.training.backbone)
        return settings(name=name)

    def describe_backbone(self, recipe: Recipe) -> str:
        """Say in a few words what backbone a recipe's runs have."""
        return self.backbone_of(recipe).describe()

    def feature_dim(self, recipe: Recipe) -> int:
        """Return the dimension of the representation in a recipe's runs."""
        channels, side = (1, 28) if self.preset == "small" else (3, 224)
        return self.backbone_of(recipe).build(channels, side)[1]


def with_floats(settings: Any) -> Any:
    """Return settings as they come back from YAML: 25 as 25.0 where a number may have decimals.

    A run's identity is made of what its file says.
    """
    hints: dict[str, Any] = get_type_hints(type(settings))
    changed: dict[str, Any] = {}
    for each in fields(settings):
        value, hint = getattr(settings, each.name), hints[each.name]
        if type(value) is int and float in (hint, *get_args(hint)):
            changed[each.name] = float(value)
    return replace(settings, **changed)


FACTORIAL = Scale()
# A single method's ablations are few: its own batch and decay, and a few more steps.
ABLATIONS = Scale(steps=150, batch_size=None, decay=None, tau=None)


PAPER = Scale(
    name="paper",
    preset="paper",
    backbone=None,
    steps=None,
    batch_size=None,
    decay=None,
    tau=None,
    checkup=CheckupSettings(),
    followed=None,
    probe=ProbeSettings(),
    device="auto",
    precision="auto",
    threads=None,
)


def data_settings(data: str | Mapping[str, Any]) -> DataSettings:
    """Return the settings of a data set, given its name or a mapping.

    Raises:
        UserError: the name or a setting is not known.
    """
    given: dict[str, Any] = {"name": data} if isinstance(data, str) else dict(data)
    known = set(DataSettings.__dataclass_fields__)
    for name in given:
        if name not in known:
            raise UserError(
                f"data: {name!r} is not a setting. Allowed: {', '.join(sorted(known))}."
            )
    stream = stream_of(given.pop("stream", IID.kind))
    settings = DataSettings(**given, stream=stream)
    data_family(settings.name)
    return settings
