"""How claims, numbers and runs are worded on the pages of a reproduction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fullrank.report.numbers import NONE, THIN_SPACE, duration, percent, points, significant

VERDICTS = ("held", "did not hold", "inconclusive")
_LOOKS = {"held": "healthy", "did not hold": "complete", "inconclusive": "dimensional"}


def look(verdict: str | None) -> str:
    """Return the class of the style sheet whose colour a verdict has."""
    return _LOOKS.get(verdict or "", "none")


def number_text(number: Mapping[str, Any]) -> str:
    """Write a number with its interval and unit: ``2.04 (1.71 to 2.37) points``."""
    text = significant(number["value"])
    if number["low"] is not None and number["high"] is not None:
        text += f" ({significant(number['low'])} to {significant(number['high'])})"
    space = THIN_SPACE if number["unit"] == "%" else " "
    return f"{text}{space}{number['unit']}".rstrip()


def count_text(number: Mapping[str, Any]) -> str:
    """Write of how many seeds, runs or modes a number's interval is; a dash where it has none."""
    return NONE if number["n"] is None else str(number["n"])


def tally(claims: Sequence[Mapping[str, Any]]) -> str:
    """Say how many claims held."""
    counts = {verdict: sum(c["verdict"] == verdict for c in claims) for verdict in VERDICTS}
    counts["not judged yet"] = sum(c["verdict"] is None for c in claims)
    parts = [f"{n} {verdict}" for verdict, n in counts.items() if n]
    return f"Of {len(claims)} claims: {', '.join(parts)}."


def run_command(hash_: str, scale: str) -> str:
    """Return the command that trains a run of a claim again, or finds it."""
    option = "" if scale == "cpu" else f" --scale {scale}"
    return f"fullrank reproduce --run {hash_}{option}"


def outline(claim: Mapping[str, Any]) -> str:
    """Say in a few words which runs a claim has: ``3 conditions, 5 seeds each``."""
    arms = claim["arms"]
    if not arms:
        return ""
    many = {len(arm["runs"]) for arm in arms}
    seeds = str(many.pop()) if len(many) == 1 else f"{min(many)} to {max(many)}"
    compared = "1 condition" if len(arms) == 1 else f"{len(arms)} conditions"
    return f"{compared}, {seeds} {'seed' if seeds == '1' else 'seeds'}"


# What a table of runs says of each, after its seed and its hash.
SHOWN = (
    *("embedding", "its spread", "its rank"),
    *("AUC of the backbone", "its kNN", "its linear probe", "over random init"),
    "took",
)


def run_cells(run: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of ``SHOWN`` for a run.

    Verdict, spread and effective rank of the embedding; Li et al.'s AUC of the backbone; kNN and
    linear probe of the backbone, the latter also against the random-init network's.
    """
    embedding: Mapping[str, Any] = run.get("embedding") or {}
    backbone: Mapping[str, Any] = run.get("backbone") or {}
    probe: Mapping[str, Any] = run.get("probe") or {}
    random: Mapping[str, Any] = run.get("random") or {}
    return (
        run["error"] or (run.get("verdict") or {}).get("embedding") or NONE,
        significant(embedding.get("spread")),
        significant(embedding.get("effective_rank")),
        significant(backbone.get("cev_auc")),
        percent(probe.get("knn")),
        percent(probe.get("linear")),
        points(probe.get("linear"), random.get("linear")),
        duration(run["seconds"]),
    )


def conditions(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what all claims of a paper were judged with, by name."""
    every: Sequence[Mapping[str, Any]] = found["claims"]
    runs = {r["hash"]: r for claim in every for arm in claim["arms"] for r in arm["runs"]}
    trained = sum(float(r["seconds"] or 0) for r in runs.values())
    rows = [("scale", str(found["scale"])), ("fullrank", str(found["fullrank"]))]
    if runs:
        rows.append(("runs", f"{len(runs)}, together {duration(trained)} of training"))
    rows += [(str(name), str(value)) for name, value in (found.get("environment") or {}).items()]
    return [(name, value) for name, value in rows if value]
