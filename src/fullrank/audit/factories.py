"""A model that the user's own code makes: ``module:factory``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from fullrank.audit.models import Batches, Model, Network, seeded
from fullrank.audit.reference import untrained
from fullrank.errors import UserError, unknown_name


def in_one_line(error: BaseException) -> str:
    """Return the kind of an error of foreign code and what it says, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def find_factory(what: str) -> Callable[[], Any]:
    """Import a factory.

    Args:
        what: ``package.module:factory``, found from the current folder too, or
            ``path/to/file.py:factory``.

    Raises:
        UserError: there is no such module, file or name in it, or it cannot be imported.
    """
    place, _, name = what.rpartition(":")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else _from_path(place)
    except UserError:
        raise
    except Exception as error:  # the user's own code may raise anything
        raise UserError(f"what: {place} cannot be imported ({in_one_line(error)}).") from error
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise unknown_name("what", name, [n for n in dir(found) if not n.startswith("_")])
        found = getattr(found, part)
    if not callable(found):
        raise UserError(f"what: {what} is {type(found).__name__}. Allowed: a function or class.")
    return found


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"what: {path} does not exist.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _from_path(name: str) -> Any:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise UserError(
            f"what: no module {error.name!r} and no such file. Allowed: timm/NAME, "
            "torchvision/NAME, hf:REPO, module:factory, or a path."
        ) from None
    finally:
        sys.path.remove(here)


def factory_model(what: str, seed: int) -> Model:
    """Make the model of a factory, and its batches if it brings any.

    Args:
        what: see :func:`find_factory`. The factory takes no argument and returns an
            ``nn.Module``, or a module and an iterable of batches (or a function that returns
            one): tensors, or tuples of one tensor a view; a last one of whole numbers, one a
            sample, is the labels.
        seed: of random numbers that the factory draws.

    Raises:
        UserError: the factory fails or returns something else.
    """
    factory = find_factory(what)
    try:
        made = seeded(factory, seed)
    except Exception as error:  # the user's own code may raise anything
        raise UserError(f"what: {what} failed ({in_one_line(error)}).") from error
    module, batches = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, nn.Module):
        raise UserError(
            f"what: {what} returned {type(made).__name__}. Allowed: an nn.Module, or a module and "
            "batches."
        )
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    return Model(
        Network(module),
        lambda: Network(untrained(module)),
        channels=0 if first is None else first.in_channels,
        size=0,
        batches=None if batches is None else _restartable(batches, what),
        said={"weights": "as the factory made them", "architecture": what},
    )


def _restartable(batches: Any, what: str) -> Callable[[], Batches]:
    if callable(batches) and not hasattr(batches, "__iter__"):
        return batches
    if not hasattr(batches, "__iter__") or iter(batches) is batches:
        raise UserError(
            f"what: the batches of {what} are {type(batches).__name__}, which can be gone through "
            "once at most. Allowed: a list, a data loader, or a function that returns a generator."
        )
    return lambda: batches
