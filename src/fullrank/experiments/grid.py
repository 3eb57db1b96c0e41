"""The grid of a sweep: from a YAML file to configurations, each with its place in the grid."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from fullrank.errors import UserError, unknown_name
from fullrank.experiments.explanation import seed_list
from fullrank.train.config import Config
from fullrank.train.resolve import CHOICES, Chosen, flatten, resolve

KEYS = ("base", "grid", "sets", "seeds")
# What no point may set, and what decides it.
_INSTEAD = {"seed": "`seeds`", "out": "the run store, `--runs`"}


@dataclass(frozen=True)
class Point:
    """One run of a grid.

    Attributes:
        labels: by axis, its value (an axis of ``grid``) or its name (an axis of ``sets``).
        seed: of the run.
        config: what is trained.
    """

    labels: Mapping[str, Any]
    seed: int
    config: Config

    def __str__(self) -> str:
        return f"{say(self.labels)}, seed {self.seed}" if self.labels else f"seed {self.seed}"


@dataclass(frozen=True)
class Grid:
    """All runs of a sweep.

    Attributes:
        name: of the file, without its ending, or ``grid-HASH`` of a mapping.
        axes: by axis, its values or names, in the file's order.
        seeds: of every point.
        points: the runs, one seed of all before the next.
        merged: of points with one configuration, in words which stands for which.
        given: what the file holds.
    """

    name: str
    axes: Mapping[str, Sequence[Any]]
    seeds: Sequence[int]
    points: Sequence[Point]
    merged: Sequence[str] = ()
    given: Mapping[str, Any] = field(default_factory=dict)


def say(labels: Mapping[str, Any]) -> str:
    """Write labels in a line: ``optimizer.lr 0.1, recipe.predictor none``."""
    return ", ".join(f"{axis} {label_text(value)}" for axis, value in labels.items())


def label_text(value: Any) -> str:
    """Write a value as YAML does: ``true``, ``none``."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_grid(grid: str | Path | Mapping[str, Any]) -> Grid:
    """Read a grid and resolve its points.

    Four keys, each of which may be missing: ``base`` (settings of ``fullrank train``, nested or
    dotted, of all runs), ``grid`` (a list of values for any setting; every combination is a
    point), ``sets`` (further axes: by name of the axis, named settings that go together), and
    ``seeds`` (a list, or how many; by default one).

    Args:
        grid: path of a YAML file, or what such a file holds; that has a short hash of its content
            for a name, so that each has its own folder of results.

    Raises:
        UserError: it cannot be read, has no points or two axes of one name, or a setting of a
            point is unknown (the nearest are given) or not allowed.
    """
    name, given = _read(grid)
    for key in given:
        if key not in KEYS:
            raise unknown_name("grid", str(key), KEYS)
    base = dict(flatten(_mapping(given.get("base"), "base")))
    axes: dict[str, dict[Any, Mapping[str, Any]] | list] = {}
    for axis, values in _axes(given):
        if axis in axes:
            raise UserError(f"grid: {axis!r} is the name of two axes. Allowed: a name each.")
        axes[axis] = values
    if not (base or axes):
        raise UserError(f"grid: {name} is empty. Allowed: base, grid, sets and seeds.")
    for key in ("out", "seed") if given.get("seeds") is not None else ("out",):
        if key in base:
            raise UserError(f"base: {key!r} is not allowed here. Allowed: {_INSTEAD[key]}.")
    seeds = seed_list([base.get("seed", 0)] if given.get("seeds") is None else given["seeds"])
    combinations = [dict(zip(axes, named, strict=True)) for named in product(*axes.values())]
    first = [
        Point(labels, seeds[0], _resolved(base, labels, axes, seeds[0])) for labels in combinations
    ]
    points, merged = _distinct(first)
    every = [
        replace(p, seed=seed, config=replace(p.config, run=replace(p.config.run, seed=seed)))
        for seed in seeds
        for p in points
    ]
    listed = {axis: _values(values) for axis, values in axes.items()}
    return Grid(name, listed, seeds, every, merged, given)


def _read(grid: str | Path | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if isinstance(grid, Mapping):
        # In the order of its keys, which is that of axes and points.
        return f"grid-{hashlib.sha256(repr(grid).encode()).hexdigest()[:8]}", grid
    path = Path(grid)
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"grid: {path} cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"grid: {path} is not valid YAML: {' '.join(str(error).split())}."
        ) from error
    if given is None:
        raise UserError(f"grid: {path} is empty. Allowed: base, grid, sets and seeds.")
    if not isinstance(given, Mapping):
        raise UserError(
            f"grid: {path} holds {type(given).__name__}. Allowed: a mapping of {', '.join(KEYS)}."
        )
    return path.stem, given


def _mapping(value: Any, key: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{key}: {value!r} is not allowed. Allowed: a mapping.")
    return value


def _axes(given: Mapping[str, Any]) -> Iterator[tuple[str, dict[Any, Mapping[str, Any]] | list]]:
    """Yield every axis with its settings by name (of ``sets``) or its values (of ``grid``)."""
    for axis, values in _flat_lists(_mapping(given.get("grid"), "grid")):
        if not isinstance(values, list) or not values:
            raise UserError(f"grid: {axis}: {values!r} is not allowed. Allowed: a list of values.")
        if axis in _INSTEAD:
            raise UserError(f"grid: {axis!r} is no axis. Allowed: {_INSTEAD[axis]}.")
        for value in values:
            if isinstance(value, Mapping):
                raise UserError(
                    f"grid: {axis}: {value!r} is not a single value. Allowed: settings that go "
                    "together have a name under `sets`."
                )
        yield axis, [_number(value) for value in values]
    for axis, named in _mapping(given.get("sets"), "sets").items():
        every = _mapping(named, f"sets: {axis}")
        if not every:
            raise UserError(f"sets: {axis} is empty. Allowed: named settings.")
        yield str(axis), {str(name): _together(axis, name, every[name]) for name in every}


def _together(axis: Any, name: Any, given: Any) -> dict[str, Any]:
    """Return the settings of one name of an axis of ``sets``."""
    settings = dict(flatten(_mapping(given, f"sets: {axis}: {name}")))
    for key, instead in _INSTEAD.items():
        if key in settings:
            raise UserError(
                f"sets: {axis}: {name}: {key!r} is not allowed here. Allowed: {instead}."
            )
    return settings


def _number(value: Any) -> Any:
    """Read what YAML takes for text, such as 1e-3."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _flat_lists(given: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys, as written, and what they hold."""
    for key, value in given.items():
        if isinstance(value, Mapping):
            yield from _flat_lists(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _values(axis: Any) -> list[Any]:
    return [value for i, value in enumerate(axis) if value not in list(axis)[:i]]


def _resolved(
    base: Mapping[str, Any], labels: Mapping[str, Any], axes: Mapping[str, Any], seed: int
) -> Config:
    """Resolve one point; what is wrong with it names it."""
    own: dict[str, Any] = {}
    for axis, value in labels.items():
        of = axes[axis]
        settings = of[value] if isinstance(of, Mapping) else dict(flatten({axis: value}))
        for key in settings:
            if key in own and own[key] != settings[key]:
                raise UserError(f"grid: {key} is set by two axes at {say(labels)}.")
        own |= settings
    try:
        return resolve(_below(base, own) | own | {"seed": seed})
    except UserError as error:
        if not labels or _also_of(base, str(error)):
            raise UserError(f"base: {error}") from error
        raise UserError(f"grid: at {say(labels)}: {error}") from error


def _also_of(base: Mapping[str, Any], message: str) -> bool:
    """Say whether the base alone is refused with the same words."""
    try:
        resolve(base)
    except UserError as error:
        return str(error) == message
    return False


def _below(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of the base stands at a point that chooses other parts, or another length."""
    gone = {"steps": "epochs", "epochs": "steps"}
    dropped = {other for given, other in gone.items() if given in own}
    chosen = {choice: own[choice] for choice in _CHOICES if choice in own}
    if chosen:
        of_base = _choices(base)
        for choice, value in chosen.items():
            if value != base.get(choice, of_base.get(choice)):
                group = choice.rpartition(".")[0]
                dropped |= {name for name in base if name.startswith(f"{group}.")}
    return {name: value for name, value in base.items() if name not in dropped}


_CHOICES = tuple(f"{group}.{key}" for group, key in CHOICES.items())


def _choices(base: Mapping[str, Any]) -> dict[str, str]:
    """Return which part the base has where it names none."""
    chosen = Chosen.of(base)
    return {
        "recipe.name": chosen.recipe.name,
        **{f"recipe.{name}.kind": part.kind for name, part in chosen.parts.items()},
        "data.name": chosen.data.name,
        "data.stream.kind": chosen.data.stream.kind,
        "backbone.name": chosen.backbone_name,
    }


def _distinct(points: Sequence[Point]) -> tuple[list[Point], list[str]]:
    """Keep the first of the points that have one configuration; say what it stands for."""
    kept: dict[str, Point] = {}
    merged = []
    for point in points:
        first = kept.setdefault(point.config.identity(), point)
        if first is not point:
            merged.append(f"{say(point.labels)} is the same as {say(first.labels)}")
    return list(kept.values()), merged
