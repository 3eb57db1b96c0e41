"""The resolved configuration of a run: plain values, YAML and back, and an identity."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from fullrank.data.settings import Augmentation, DataSettings, resolve_augmentation
from fullrank.data.stream_settings import IID
from fullrank.errors import UserError
from fullrank.models.settings.backbone import BackboneSettings
from fullrank.models.settings.part import require
from fullrank.models.settings.views import MultiCrop
from fullrank.recipes.recipe import Recipe
from fullrank.recipes.training import Optimizer
from fullrank.recipes.user_file import is_user_file


@dataclass(frozen=True)
class CheckupSettings:
    """When and on how much vital signs are taken.

    Args:
        size: held-out images that every check-up measures.
        budget: share of the training time that check-ups may take; a due one that would exceed it
            is left out. The first and the last are always taken.
        count: check-ups that are due in a run, at geometric, then even steps.
        probe: whether check-ups run the kNN probe too (needs labels).
    """

    size: int = 2000
    budget: float = 0.02
    count: int = 24
    probe: bool = False

    def __post_init__(self) -> None:
        require(self.size >= 2, "checkup.size", self.size, "2 or more")
        require(self.budget >= 0, "checkup.budget", self.budget, "a share of 0 or more")
        require(self.count >= 2, "checkup.count", self.count, "2 or more")


@dataclass(frozen=True)
class ProbeSettings:
    """How the representation is probed when labels exist.

    Args:
        train: labelled training images that probes are fitted on, at most.
        test: labelled test images that probes are scored on, at most.
        k: neighbours of the kNN probe.
        linear: ``ridge`` in closed form, ``logistic`` regression, or ``none``.
    """

    train: int = 10_000
    test: int = 10_000
    k: int = 20
    linear: Literal["ridge", "logistic", "none"] = "ridge"

    def __post_init__(self) -> None:
        for name in ("train", "test", "k"):
            require(getattr(self, name) >= 1, f"probe.{name}", getattr(self, name), "1 or more")


@dataclass(frozen=True)
class RunSettings:
    """Length, seed and machine of a run.

    Args:
        batch_size: images in the global batch, over all devices.
        epochs: passes over the training set; give this or ``steps``.
        steps: optimiser steps; give this or ``epochs``.
        seed: from which initialisation, data order and views are derived, each by itself.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        devices: processes (on a processor) or accelerators that share the batch.
        precision: ``32``, ``bf16`` (autocast), or ``auto``: bf16 where the device has it fast.
        threads: of every process on a processor; None leaves PyTorch's choice.
        out: run folder; None is ``runs/RECIPE-DATA-BACKBONE-HASH``.
        log_every: steps between the lines of loss and spread in the record; None is 200 lines.
        checkpoint_minutes: minutes of training between checkpoints.
        logger: experiment tracker beside the record.
    """

    batch_size: int = 256
    epochs: float | None = None
    steps: int | None = None
    seed: int = 0
    device: str = "auto"
    devices: int = 1
    precision: Literal["auto", "32", "bf16"] = "auto"
    threads: int | None = None
    out: str | None = None
    log_every: int | None = None
    checkpoint_minutes: float = 5.0
    logger: Literal["csv", "tensorboard", "wandb", "mlflow", "none"] = "csv"

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        require(self.steps is None or self.steps >= 1, "steps", self.steps, "1 or more")
        require(self.epochs is None or self.epochs > 0, "epochs", self.epochs, "above 0")
        require(self.devices >= 1, "devices", self.devices, "1 or more")
        require(self.threads is None or self.threads >= 1, "threads", self.threads, "1 or more")
        if self.steps is not None and self.epochs is not None:
            raise UserError(
                f"steps and epochs: {self.steps} and {self.epochs:g} given. Allowed: one of the "
                "two."
            )
        require(
            self.batch_size % self.devices == 0,
            "devices",
            self.devices,
            f"a number that divides batch_size ({self.batch_size})",
        )


NOT_IDENTITY = {
    "run": ("device", "devices", "threads", "out", "log_every", "checkpoint_minutes", "logger"),
    "data": ("root", "download", "workers"),
}


@dataclass(frozen=True)
class Config:
    """Everything that decides a run."""

    recipe: Recipe
    data: DataSettings
    backbone: BackboneSettings
    optimizer: Optimizer
    checkup: CheckupSettings
    probe: ProbeSettings
    run: RunSettings

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested values, the settings of ``run`` at the top."""
        named = {
            "recipe": self.recipe.to_dict(),
            "data": self.data.to_dict(),
            "backbone": self.backbone.to_dict(),
            "optimizer": asdict(self.optimizer),
            "checkup": asdict(self.checkup),
            "probe": asdict(self.probe),
        }
        return named | asdict(self.run)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle by value what a user's own file defines: no other process has its classes yet."""
        if is_user_file(self.recipe.name):
            return _again, (self.to_dict(),)
        return super().__reduce_ex__(protocol)

    def augmentation(
        self, channels: int, size: int, augment: str | None = None, count: int | None = None
    ) -> tuple[Augmentation, ...]:
        """Return the distribution of each view of an image.

        Args:
            channels: of the images.
            size: side of a view, where the recipe does not say.
            augment: preset in place of the recipe's.
            count: number of views in place of the recipe's, all of one size.

        Raises:
            UserError: a setting is out of range, or a small crop is not smaller than a large one.
        """
        views = self.recipe.views
        names = ("min_scale", "flip", "strength", "grey", "blur", "solarise", "noise")
        local = isinstance(views, MultiCrop) and count is None
        large = count or views.count
        found = resolve_augmentation(
            augment or views.augment,
            self.data.name,
            views.size or size,
            channels,
            large + local,  # the preset's next is that of the small crops
            **{name: getattr(views, name) for name in names},
        )
        if not (local and isinstance(views, MultiCrop)):
            return found
        return found[:large] + (_small_crop(found[large], views),) * views.local_count

    def identity(self) -> str:
        """Return the hash of what decides the result: no paths, device or logging."""
        plain = self.to_dict()
        for name in NOT_IDENTITY["run"]:
            del plain[name]
        for name in NOT_IDENTITY["data"]:
            del plain["data"][name]
        if isinstance(self.data.stream, IID):  # as before there were others, so that old runs are
            del plain["data"]["stream"]  # found again
        text = json.dumps(plain, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _again(values: dict[str, Any]) -> Config:
    from fullrank.train.resolve import resolve

    return resolve(values)


def _small_crop(large: Augmentation, views: MultiCrop) -> Augmentation:
    """Return the distribution of a small crop, given that of a large one."""
    side = views.small_side(large.size)
    require(
        side <= large.size,
        "recipe.views.local_size",
        side,
        f"at most {large.size}, the side of a large crop",
    )
    return replace(large, size=side, scale=(views.local_min_scale, views.local_max_scale))


def run_setting_names() -> tuple[str, ...]:
    """Return the names of the settings that stand at the top of a configuration."""
    return tuple(f.name for f in fields(RunSettings))
