"""All recipes by name. A recipe is one file in this folder that defines ``RECIPE``."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import fullrank.recipes
from fullrank.errors import unknown_name
from fullrank.recipes.recipe import Recipe


@cache
def recipes() -> dict[str, Recipe]:
    """Return every recipe by name, in the order of their names."""
    modules = (
        importlib.import_module(f"fullrank.recipes.{info.name}")
        for info in pkgutil.iter_modules(fullrank.recipes.__path__)
    )
    found = [module.RECIPE for module in modules if hasattr(module, "RECIPE")]
    return {recipe.name: recipe for recipe in sorted(found, key=lambda r: r.name)}


def recipe(name: str) -> Recipe:
    """Return the recipe called ``name``.

    Raises:
        UserError: there is none; the nearest names are given.
    """
    if name not in recipes():
        raise unknown_name("recipe", name, recipes())
    return recipes()[name]
