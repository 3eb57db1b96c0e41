"""The list of metrics in words and as JSON. Nothing here imports torch."""

from __future__ import annotations

import json
from textwrap import fill

from fullrank.errors import unknown_name
from fullrank.measure import _about_pairs, _about_spectral
from fullrank.measure.about import About

FAMILIES = {
    "spectrum": "from one spectrum",
    "views": "from views of each image",
    "pairs": "from sampled pairs of rows",
    "tokens": "from the tokens of each image",
    "prototypes": "from prototypes",
    "predictor": "from a predictor",
    "gradient": "from a gradient",
    "drift": "between two representations of the same images",
    "labels": "from labels",
}


def metrics() -> dict[str, About]:
    """Return every metric by its name."""
    return {about.name: about for about in (*_about_spectral.ABOUT, *_about_pairs.ABOUT)}


def list_metrics(as_json: bool = False) -> str:
    """List every metric: what it measures, on what, its range and its healthy direction."""
    every = metrics()
    if as_json:
        return json.dumps([about.to_dict() for about in every.values()], indent=1)
    lines = []
    for family, title in FAMILIES.items():
        lines.append(f"{title}:")
        for about in (a for a in every.values() if a.family == family):
            lines.append(f"  {about.name}  ({about.range}; healthy: {about.healthy})")
            lines.append(_wrapped(f"{about.measures} On: {about.on}."))
        lines.append("")
    lines.append("`fullrank metrics NAME` shows a metric's source and when it misleads.")
    return "\n".join(lines)


def show_metric(name: str, as_json: bool = False) -> str:
    """Show one metric.

    Raises:
        UserError: there is no such metric; near matches are named.
    """
    every = metrics()
    if name not in every:
        raise unknown_name("metric", name, every, listing="`fullrank metrics` lists them.")
    about = every[name]
    if as_json:
        return json.dumps(about.to_dict(), indent=1)
    rows = {
        "measures": about.measures,
        "computed": FAMILIES[about.family],
        "on": about.on,
        "range": about.range,
        "healthy": about.healthy,
        "misleads": about.fails,
        "source": about.source,
        "function": about.function,
    }
    return "\n".join(
        [name, *(_wrapped(f"{key + ':':<10} {text}", hang=13) for key, text in rows.items())]
    )


def _wrapped(text: str, hang: int = 4) -> str:
    indent = 2 if hang > 4 else 4
    return fill(text, 100, initial_indent=" " * indent, subsequent_indent=" " * hang)
