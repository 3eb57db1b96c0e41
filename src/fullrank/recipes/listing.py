"""Recipes as text and as data: the list, one recipe, and the difference of two."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from fullrank.models.settings import FIELDS
from fullrank.recipes.recipe import Recipe, Variant
from fullrank.recipes.registry import recipe, recipes

_WIDTH = 100


def as_data(entry: Recipe) -> dict[str, Any]:
    """Return all that a recipe states, as plain values."""
    return {
        "name": entry.name,
        "title": entry.title,
        "family": entry.family,
        "paper": asdict(entry.paper),
        "equations": list(entry.equations),
        "prevents": [asdict(p) for p in entry.prevents],
        **_settings(entry),
        "small": _settings(entry.preset("small")),
        "variants": [{"name": v.name, "summary": v.summary} for v in entry.variants],
        "ablations": [
            {"name": a.name, "summary": a.summary, "predicts": a.predicts, "collapse": a.collapse}
            for a in entry.ablations
        ],
    }


def _settings(entry: Recipe) -> dict[str, Any]:
    fields = {name: getattr(entry, name).to_dict() for name in FIELDS}
    return {"fields": fields, "training": asdict(entry.training)}


def list_recipes(as_json: bool = False) -> str:
    """List all recipes by family, with their variants."""
    if as_json:
        return json.dumps([as_data(entry) for entry in recipes().values()], indent=2)
    entries = list(recipes().values())
    name, title = (max(len(getattr(e, key)) for e in entries) for key in ("name", "title"))
    lines: list[str] = []
    for family in sorted({entry.family for entry in entries}):
        lines += ["", family] if lines else [family]
        for entry in entries:
            if entry.family != family:
                continue
            source = f"{entry.paper.authors} {entry.paper.year}, arXiv:{entry.paper.arxiv}"
            lines.append(f"  {entry.name:<{name}}  {entry.title:<{title}}  {source}")
            if entry.variants:
                forms = ", ".join(f"/{v.name}" for v in entry.variants)
                lines += textwrap.wrap(forms, _WIDTH, initial_indent=" " * 4)
    lines += [
        "",
        "fullrank recipes NAME shows one with its ablations; two names show a difference.",
    ]
    return "\n".join(lines)


def show(name: str, as_json: bool = False) -> str:
    """Show one recipe: a diagram of its five fields, its equations, and what holds it up.

    Args:
        name: of a recipe, a variant of one, or one in a user's file.
        as_json: give plain values instead.
    """
    entry = recipe(name)
    if as_json:
        return json.dumps(as_data(entry), indent=2)
    stands = entry.standing()
    sections = [
        ("equations", list(entry.equations)),
        (
            "against collapse",
            [
                f"{p.mechanism}: prevents {p.collapse} collapse"
                + ("" if p in stands else "  (taken out)")
                for p in entry.prevents
            ],
        ),
        ("as published", list(_published(entry))),
        ("variants", [line for v in entry.variants for line in _form(v, v.summary)]),
        (
            "ablations",
            [
                line
                for a in entry.ablations
                for line in _form(a, f"{a.summary.rstrip('.')}. Predicted: {a.predicts}")
            ],
        ),
    ]
    lines = [f"{entry.title} ({entry.name}) — {entry.paper}", "", *_diagram(entry)]
    for heading, body in sections:
        if body:
            lines += ["", heading, *(f"  {line}" for line in body)]
    return "\n".join(lines)


def _diagram(entry: Recipe) -> list[str]:
    """Draw the five fields: the online side above, the target below, the objective between."""
    views, *_ = words = entry.diagram("backbone")
    online = " ─ ".join(words[1:4]) + " → p"
    other = f"{words[4]} → t"
    width = max(len(online), len(other))
    indent = " " * len(views)
    return [
        f"  {views} ┬─ {online} {'─' * (width - len(online))}┐",
        f"  {indent} │  {' ' * width} ├─ {words[5]}",
        f"  {indent} └─ {other} {'─' * (width - len(other))}┘",
    ]


def _published(entry: Recipe) -> Iterator[str]:
    training, optimizer = entry.training, entry.training.optimizer
    decay = f"{optimizer.weight_decay:g}"
    if optimizer.final_weight_decay is not None:
        decay += f" to {optimizer.final_weight_decay:g}"
    yield (
        f"{training.backbone}, batch {training.batch_size}, {training.epochs:g} epochs, "
        f"augmentation {entry.views.augment}"
    )
    yield (
        f"{optimizer.name}, lr {optimizer.lr:g} x batch/256, {optimizer.schedule}, warm-up "
        f"{optimizer.warmup:.3g} of the steps, weight decay {decay}"
    )
    dim = entry.projector.dim(None)
    if dim is not None:
        loss = entry.objective.collapsed_loss(dim, training.batch_size)
        yield (
            "a constant embedding is refused by the objective"
            if loss is None
            else f"loss of a constant embedding: {loss:.6g}"
        )


def _form(variant: Variant, text: str) -> list[str]:
    return [f"/{variant.name}", *(f"    {line}" for line in textwrap.wrap(text, _WIDTH - 6))]


def compare(first: str, second: str, as_json: bool = False) -> str:
    """Show in which fields and settings two recipes differ.

    Args:
        first: name of a recipe or a variant.
        second: of another.
        as_json: give ``{"recipes": [...], "differences": {setting: [of first, of second]}}``.
    """
    a, b = recipe(first), recipe(second)
    different = dict(differences(a, b))
    if as_json:
        return json.dumps({"recipes": [a.name, b.name], "differences": different}, indent=2)
    rows = [("", first, second)]
    for field in FIELDS:
        one, other = getattr(a, field), getattr(b, field)
        mark = " " if one == other else "*"
        rows.append((f"{mark} {field}", one.describe(), other.describe()))
        if one.kind == other.kind:
            rows += _rows(f"{field}.", different)
    training = _rows("training.", different)
    rows += [("* training" if training else "  training", "", ""), *training]
    left, middle = (max(len(row[i]) for row in rows) for i in (0, 1))
    return "\n".join(f"{x:<{left}}  {y:<{middle}}  {z}".rstrip() for x, y, z in rows)


def _rows(prefix: str, different: Mapping[str, list[Any]]) -> list[tuple[str, str, str]]:
    return [
        (f"    {name.removeprefix(prefix)}", _short(one), _short(other))
        for name, (one, other) in different.items()
        if name.startswith(prefix)
    ]


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def differences(a: Recipe, b: Recipe) -> Iterator[tuple[str, list[Any]]]:
    """Yield the dotted name of every setting in which two recipes differ, and both values.

    A setting that only one of them has is ``None`` in the other.
    """
    one, other = (dict(_flat(_settings(r))) for r in (a, b))
    for name in dict.fromkeys([*one, *other]):
        if one.get(name) != other.get(name):
            yield name.removeprefix("fields."), [one.get(name), other.get(name)]


def _flat(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in plain.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
