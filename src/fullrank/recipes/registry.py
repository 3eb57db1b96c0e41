"""All recipes by name. A recipe is one file in this folder that defines ``RECIPE``."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import fullrank.recipes
from fullrank.errors import unknown_name
from fullrank.recipes.recipe import Recipe
from fullrank.recipes.user_file import is_user_file, load_recipe


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

    Args:
        name: ``simsiam``; with variants and ablations after slashes,
            ``directpred/official/without-stop-gradient``; or of a user's own Python file,
            ``my_recipe.py:recipe``, which is run.

    Raises:
        UserError: there is none; the nearest names are given. Or the file cannot be read.
    """
    if is_user_file(name):
        found, variants = load_recipe(name)
    else:
        base, *variants = name.split("/")
        if base not in recipes():
            raise unknown_name("recipe", base, recipes())
        found = recipes()[base]
    for variant in variants:
        found = found.variant(variant)
    return found
