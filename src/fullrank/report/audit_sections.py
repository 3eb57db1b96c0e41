"""What the sections of an audit's page show, as plain values for the template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fullrank.report import audit_figures as figures
from fullrank.report.audit_layers import FEW, Together, leading, profiled, title_of
from fullrank.report.audit_tracks import Axis, finite, track
from fullrank.report.audit_words import KINDS, MEANINGS, conditions, grouped, plain
from fullrank.report.document import Figures
from fullrank.report.explain import LOOKS, Verdict
from fullrank.report.figures import run_colour, run_symbol
from fullrank.report.numbers import count, percent, significant
from fullrank.report.spectra import lowest
from fullrank.report.vitals import LAYERS

if TYPE_CHECKING:
    from fullrank.audit.verb import Audit, Audits, LayerAudit

# What a profile over depth shows, and how it is read.
PROFILE = {
    "effective_rank": ("Effective rank", "Directions in use; at most min(d, n − 1) of each layer."),
    "participation_ratio": (
        "Participation ratio",
        "Directions that hold the variance: feels the leading ones, not the tail.",
    ),
    "spread": ("Spread", "0 where all samples have the same direction, 1 where evenly spread."),
    "cev_auc": ("Tail (CEV-AUC)", "From 0.5, all directions equal, to 1, one direction."),
}
MANY = 6  # collapsed layers that are more than a card shows unfolded
PROBES = {"knn": "kNN accuracy", "linear": "Linear probe accuracy"}
DRIFT = {
    "linear_cka": "linear CKA",
    "svcca": "SVCCA",
    "neighbourhood_overlap": "neighbourhood overlap",
}
# At a level of tokens; its scale is the other way round, and it has no fixed end that is reached.
GRAM = {"gram_drift": "Gram drift"}


def subjects(audits: Sequence[Audit], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the cards: a verdict a layer; the healthy ones of a long profile are folded."""
    return [_subject(i, audits[i], label) for i, label in enumerate(labels)]


def _subject(index: int, audit: Audit, label: str) -> dict[str, Any]:
    said = {name: conditions(layer) for name, layer in audit.layers.items()}
    shared = {
        key: text
        for key, text in said[audit.main.layer].items()
        if key not in ("d", "n_over_d") and all(c.get(key) == text for c in said.values())
    }
    collapsed = [name for name, layer in audit.layers.items() if layer.verdict.kind != "healthy"]
    full = {audit.main.layer, *LAYERS, *(collapsed if len(collapsed) <= MANY else ())}
    cards = {
        name: {
            "title": title_of(name),
            "symbol": LAYERS[name][1] if name in LAYERS else "",
            "verdict": _verdict(layer),
            "conditions": ", ".join(t for key, t in said[name].items() if key not in shared),
        }
        for name, layer in audit.layers.items()
    }
    folded = [name for name in cards if name not in full and len(cards) > FEW]
    kinds = Counter(audit.layers[name].verdict.kind for name in folded)
    return {
        "label": label,
        "colour": run_colour(index),
        "symbol": run_symbol(index),
        "what": audit.what,
        "about": [KINDS.get(audit.kind, audit.kind), *shared.values()],
        "verdicts": [card for name, card in cards.items() if name not in folded],
        "folded": [cards[name] for name in folded],
        "forecast": " ".join(audit.forecast.sentences()) if audit.forecast else "",
        "summary": ", ".join(f"{number} {kind}" for kind, number in kinds.most_common()),
    }


def _verdict(layer: LayerAudit) -> Verdict:
    given = layer.verdict
    look = LOOKS.get(given.kind, "none")
    return Verdict(given.kind, look, list(given.evidence), given.reference)


def meanings(audits: Sequence[Audit]) -> list[tuple[str, str]]:
    """Return what each kind of verdict on the page means, gravest first."""
    kinds = {layer.verdict.kind for audit in audits for layer in audit.layers.values()}
    return [(kind, MEANINGS[kind]) for kind in reversed(LOOKS) if kind in kinds]


def ranking(audits: Audits) -> list[dict[str, Any]]:
    """Return the rows of the ranking, best first, with the interval of each place drawn."""
    positions = {audit.what: i for i, audit in enumerate(audits.audits)}
    axis = Axis(1, max(2, len(audits.ranking)))
    return [
        {
            "subject": positions[ranked.what],
            "rank": ranked.rank,
            "places": str(ranked.low)
            if ranked.low == ranked.high
            else f"{ranked.low} to {ranked.high}",
            "track": track(axis, ranked.rank, ranked.low, ranked.high),
            "best": percent(ranked.best),
            "value": significant(finite(ranked.value), 4),
            "collapsed": ranked.collapsed,
        }
        for ranked in audits.ranking
    ]


def drift(audits: Audits) -> list[dict[str, Any]]:
    """Return the rows of the drift: how alike each layer is to that of the first audit."""
    positions = {audit.what: i for i, audit in enumerate(audits.audits)}
    axis = Axis(0, 1)
    return [
        {
            "from": positions[row["from"]],
            "to": positions[row["to"]],
            "layer": title_of(row["layer"]),
            "n": count(row["n"]),
            "cells": [
                {
                    "text": significant(finite(row.get(name))),
                    "track": track(axis, row[name]) if name in DRIFT else None,
                }
                for name in drift_columns(audits)
            ],
        }
        for row in audits.drift
    ]


def drift_columns(audits: Audits) -> dict[str, str]:
    """Return the measures of drift by key: Gram drift where tokens were compared."""
    return DRIFT | (GRAM if any("gram_drift" in row for row in audits.drift) else {})


def spectra(audits: Sequence[Audit], labels: Sequence[str], drawn: Figures) -> dict[str, Any]:
    """Return the spectra: each leading layer of all audits, and each network's over its depth."""
    floor = lowest(layer.vitals["spectrum"] for a in audits for layer in a.layers.values())
    panels = [
        {
            "title": group.title,
            "note": group.note,
            "figure": drawn.add(f"spectrum-{k}", figures.spectra_figure(group, labels, floor)),
        }
        for k, group in enumerate(leading(audits))
        if any(_positive(layer) for _, layer in group.members)
    ]
    depth = [
        {
            "subject": i,
            "layers": len(layers),
            "first": layers[0].layer,
            "last": layers[-1].layer,
            "figure": drawn.add(f"depth-spectrum-{i}", figures.depth_spectra_figure(layers, floor)),
        }
        for i, layers in profiled(audits)
        if any(map(_positive, layers))
    ]
    return {"panels": panels, "depth": depth}


def profile(audits: Sequence[Audit], labels: Sequence[str], drawn: Figures) -> dict[str, Any]:
    """Return the profile over depth: figures, and the tables of what they show."""
    profiles = profiled(audits)
    panels = [
        {
            "name": name,
            "meaning": meaning,
            "figure": drawn.add(f"depth-{metric}", figures.depth_figure(profiles, labels, metric)),
        }
        for metric, (name, meaning) in PROFILE.items()
        if any(_value(layer, metric) is not None for _, layers in profiles for layer in layers)
    ]
    tables = [
        {
            "subject": i,
            "rows": [
                {
                    "number": number,
                    "layer": layer.layer,
                    "d": count(layer.d),
                    "verdict": layer.verdict.kind,
                    "values": [significant(_value(layer, metric)) for metric in PROFILE],
                }
                for number, layer in enumerate(layers, start=1)
            ],
        }
        for i, layers in profiles
    ]
    columns = [name for name, _ in PROFILE.values()]
    return {"panels": panels, "tables": tables, "columns": columns}


def convergence(
    groups: Sequence[Together], labels: Sequence[str], drawn: Figures
) -> list[dict[str, Any]]:
    """Return the values over the number of samples: a layer, and a panel a metric."""
    found = []
    for k, group in enumerate(groups):
        moving = {
            name
            for _, layer in group.members
            for name, points in layer.convergence.items()
            if points
        }
        panels = [
            {
                "name": name,
                "figure": drawn.add(
                    f"convergence-{k}-{name}", figures.convergence_figure(group, labels, name)
                ),
            }
            for _, names in grouped(moving)
            for name in names
        ]
        if panels:
            found.append({"title": group.title, "panels": panels})
    return found


def probes(groups: Sequence[Together]) -> dict[str, Any]:
    """Return the probes: a row a layer, audit and probe, with its interval drawn."""
    rows = []
    for group in groups:
        for i, layer in group.members:
            for kind, probe in layer.probes.items():
                rows.append(
                    {
                        "subject": i,
                        "layer": group.title,
                        "probe": PROBES.get(kind, kind),
                        "accuracy": percent(finite(probe["accuracy"])),
                        "interval": f"{percent(probe['low'])} to {percent(probe['high'])}",
                        "track": track(Axis(0, 1), probe["accuracy"], probe["low"], probe["high"]),
                        "conditions": _probe_conditions(probe),
                    }
                )
    chance = {1 / p["classes"] for g in groups for _, x in g.members for p in x.probes.values()}
    return {
        "rows": rows,
        "chance": round(100 * chance.pop(), 2) if len(chance) == 1 else None,
    }


def _probe_conditions(probe: Mapping[str, Any]) -> str:
    return (
        f"{count(probe['classes'])} classes, fitted on {count(probe['n_train'])} rows, "
        f"scored on {count(probe['n_test'])}"
    )


def conventions(audits: Sequence[Audit]) -> list[dict[str, Any]]:
    """Return every convention of every audit; what differs between layers, by layer."""
    tables = []
    for i, audit in enumerate(audits):
        layers = list(audit.layers.values())
        names = dict.fromkeys(name for layer in layers for name in layer.conventions)
        rows = []
        for name in names:
            values = [plain(layer.conventions.get(name)) for layer in layers]
            same = len(set(values)) == 1
            rows.append(
                {
                    "name": name,
                    "value": values[0] if same else "",
                    "by_layer": []
                    if same
                    else list(zip((layer.layer for layer in layers), values, strict=True)),
                }
            )
        tables.append({"subject": i, "rows": rows})
    return tables


def heading(audits: Sequence[Audit], labels: Sequence[str]) -> str:
    """Return the page's heading."""
    if len(audits) <= 3 and sum(map(len, labels)) <= 60:
        return " · ".join(labels)
    return labels[0] if len(audits) == 1 else f"{len(audits)} representations"


def data(audits: Sequence[Audit]) -> str:
    """Return the data sets that models were shown, each once; '' for files of features alone."""
    shown = (audit.main.conventions.get("data") for audit in audits)
    return ", ".join(dict.fromkeys(plain(name) for name in shown if name is not None))


def _value(layer: LayerAudit, metric: str) -> float | None:
    reading = layer.metrics.get(metric)
    return None if reading is None else finite(reading.value)


def _positive(layer: LayerAudit) -> bool:
    values = layer.vitals["spectrum"]
    return bool(values) and values[0] > 0
