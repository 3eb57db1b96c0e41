"""Recipes as text: the list, one recipe, and the difference of two."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from fullrank.models.settings import FIELDS
from fullrank.recipes.recipe import Recipe
from fullrank.recipes.registry import recipe, recipes


def as_data(entry: Recipe) -> dict[str, Any]:
    """Return all that a recipe states, as plain values."""
    return {
        "name": entry.name,
        "title": entry.title,
        "family": entry.family,
        "paper": asdict(entry.paper),
        "equations": list(entry.equations),
        "prevents": [asdict(p) for p in entry.prevents],
        "fields": {name: getattr(entry, name).to_dict() for name in FIELDS},
        "training": asdict(entry.training),
    }


def list_recipes(as_json: bool = False) -> str:
    """List all recipes by family."""
    if as_json:
        return json.dumps([as_data(entry) for entry in recipes().values()], indent=2)
    lines: list[str] = []
    for family in sorted({entry.family for entry in recipes().values()}):
        lines.append(family)
        for entry in recipes().values():
            if entry.family == family:
                source = f"{entry.paper.authors} {entry.paper.year}, arXiv:{entry.paper.arxiv}"
                lines.append(f"  {entry.name:<14} {entry.title:<14} {source}")
    return "\n".join(lines)


def show(name: str, as_json: bool = False) -> str:
    """Show one recipe: its five fields, its equations, and what prevents which collapse."""
    entry = recipe(name)
    if as_json:
        return json.dumps(as_data(entry), indent=2)
    words = {field: getattr(entry, field).describe() for field in FIELDS}
    optimizer = entry.training.optimizer
    published = (
        f"{optimizer.name}, lr {optimizer.lr:g} x batch/256, weight decay "
        f"{optimizer.weight_decay:g}, batch {entry.training.batch_size}, "
        f"{entry.training.epochs:g} epochs"
    )
    return "\n".join(
        [
            f"{entry.title} ({entry.name}) — {entry.paper}",
            "",
            f"  {words['views']} → backbone → {words['projector']} → {words['predictor']}"
            f" → {words['objective']}",
            f"  {'target:':>12} {words['target']}",
            "",
            *(f"  {equation}" for equation in entry.equations),
            "",
            *(f"  {p.mechanism}: prevents {p.collapse} collapse" for p in entry.prevents),
            f"  as published: {published}",
        ]
    )


def compare(first: str, second: str) -> str:
    """Show in which fields two recipes differ."""
    a, b = recipe(first), recipe(second)
    rows = []
    for field in FIELDS:
        one, other = getattr(a, field), getattr(b, field)
        mark = " " if one == other else "*"
        rows.append(f"{mark} {field:<10} {one.describe():<34} {other.describe()}")
    return "\n".join([f"  {'':10} {first:<34} {second}", *rows])
