"""How claims, numbers and runs are worded on the pages of a reproduction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fullrank.report.numbers import THIN_SPACE, significant

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


def deciding(claim: Mapping[str, Any]) -> str:
    """Write the first of a claim's numbers, which decides it; empty if there is none."""
    if not claim["numbers"]:
        return ""
    first = claim["numbers"][0]
    return f"{first['name']}: {number_text(first)}" if first["name"] else number_text(first)


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
    conditions = "1 condition" if len(arms) == 1 else f"{len(arms)} conditions"
    return f"{conditions}, {seeds} {'seed' if seeds == '1' else 'seeds'}"
