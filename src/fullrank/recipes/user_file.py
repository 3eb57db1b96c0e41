"""Recipes in a user's own Python file, ``PATH.py:NAME``."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import traceback
from dataclasses import replace
from pathlib import Path

from fullrank.errors import UserError, nearest
from fullrank.recipes.recipe import Recipe

_NAMED = re.compile(r"(?P<path>.+\.py)(:(?P<attribute>[^/:]*)(?P<variants>(/[^/]+)*))?")


def is_user_file(name: str) -> bool:
    """Say whether the name of a recipe is that of a Python file, which to find it must be run."""
    return _NAMED.fullmatch(name) is not None


def load_recipe(name: str) -> tuple[Recipe, list[str]]:
    """Run a Python file and return the recipe it defines, and the variants named after it.

    The recipe is called by the file's whole path, so that the run folder of a training finds it.

    Args:
        name: ``PATH.py:NAME``, or ``PATH.py:NAME/VARIANT``.

    Raises:
        UserError: there is no such file, it fails, or ``NAME`` is not a recipe in it.
    """
    named = _NAMED.fullmatch(name)
    assert named is not None
    path, attribute = Path(named["path"]).resolve(), named["attribute"]
    if not path.is_file():
        raise UserError(f"recipe: there is no file {path}.")
    defined = _run(path)
    own = [key for key, value in defined.items() if isinstance(value, Recipe)]
    allowed = f"Allowed: {path.name}:NAME, NAME one of {', '.join(own)}."
    if not own:
        allowed = f"Allowed: a file that defines a fullrank.recipes.recipe.Recipe; {path} does not."
    if attribute not in own:
        close = nearest(attribute or "", own)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UserError(f"recipe: {name!r} names no recipe.{hint} {allowed}")
    found = defined[attribute]
    assert isinstance(found, Recipe)
    variants = [v for v in (named["variants"] or "").split("/") if v]
    return replace(found, name=f"{path}:{attribute}"), variants


def _run(path: Path) -> dict[str, object]:
    """Run a file as a module, once as long as it stays as it is, and return what it defines."""
    # By its whole path: two files called my_recipe.py are two modules.
    content = hashlib.sha256(str(path).encode() + b"\0" + path.read_bytes())
    name = f"fullrank_recipe_{content.hexdigest()[:12]}"
    if name in sys.modules:  # its classes stay the same classes
        return vars(sys.modules[name])
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # it may import what lies beside it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"recipe: {path} fails{_where(error, path)}: {_said(error)}.") from error
    return vars(module)


def _where(error: Exception, path: Path) -> str:
    if isinstance(error, SyntaxError):
        return f" in line {error.lineno}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f" in line {lines[-1]}" if lines else ""


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).rstrip('.')}"
