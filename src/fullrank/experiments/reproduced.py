"""Claims, findings and runs as plain values: what a reproduction's file holds."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fullrank.experiments.claims.claim import Claim, Figure, Finding, Paper, ScaleName
from fullrank.experiments.engine import Ended
from fullrank.experiments.stored import LAYERS
from fullrank.train.config import Config
from fullrank.train.record import plain

# Of each layer, for the page; the rest is in the run's record.
_SHOWN = ("spread", "effective_rank", "cev_auc", "participation_ratio")


def described(paper: Paper) -> dict[str, Any]:
    """Return a paper without its claims."""
    return {
        "schema": 1,
        "fullrank": version("fullrank"),
        "paper": paper.name,
        "title": paper.title,
        "citation": paper.citation,
        "about": paper.about,
    }


def claim_head(claim: Claim, scale: ScaleName) -> dict[str, Any]:
    """Return a claim before it is judged.

    ``criterion_hash`` is of statement, criterion and the protocol at this scale: a criterion that
    is changed after its evidence has another one. ``source_hash`` is of the file of its judge.
    """
    fixed = [claim.name, claim.statement, claim.protocol[scale], claim.criterion]
    file, digest = _source(claim)
    return {
        "name": claim.name,
        "statement": claim.statement,
        "source": claim.source,
        "protocol": dict(claim.protocol),
        "criterion": claim.criterion,
        "criterion_hash": _digest(json.dumps(fixed).encode()),
        "source_file": file,
        "source_hash": digest,
        "needs_labels": claim.needs_labels,
        "seeds": [],
        "verdict": None,
        "text": "",
        "reason": "",
        "detail": None,
        "numbers": [],
        "figures": [],
        "arms": [],
        "judge_seconds": None,
    }


def finding_dict(finding: Finding) -> dict[str, Any]:
    """Return plain values of what was found."""
    found: dict[str, Any] = {
        "verdict": finding.verdict,
        "text": finding.text,
        "numbers": [asdict(number) for number in finding.numbers],
        "figures": [_figure(figure) for figure in finding.figures],
    }
    # Whatever is no plain value is the judge's mistake, and is told where it was made.
    json.dumps(plain(found), allow_nan=False)
    return found


def _figure(figure: Figure) -> dict[str, Any]:
    series = [
        {
            "name": s.name,
            "kind": s.kind,
            "x": [x if isinstance(x, str) else float(x) for x in s.x],
            **{key: [float(v) for v in getattr(s, key)] for key in ("y", "low", "high")},
        }
        for s in figure.series
    ]
    names = ("title", "x", "y", "log_x", "log_y")
    return {name: getattr(figure, name) for name in names} | {"series": series}


def run_row(seed: int, config: Config, end: Ended) -> dict[str, Any]:
    """Return one run of an arm: how to find it, what became of it, and what it showed."""
    value: Mapping[str, Any] = end.value or {}
    error = end.error
    if error is None and not value:
        error = "it showed nothing"
    return {
        "seed": seed,
        "hash": config.identity(),
        "folder": str(value.get("folder") or end.config.run.out),
        "status": end.status,
        "error": error,
        "seconds": value.get("seconds", end.seconds),
        "verdict": dict(value.get("verdict") or {}),
        "probe": dict(value.get("probe") or {}),
        "random": dict(value.get("random") or {}),
        **{
            layer: {name: value[layer].get(name) for name in _SHOWN}
            for layer in LAYERS
            if layer in value
        },
        "environment": dict(value.get("environment") or {}),
    }


def _source(claim: Claim) -> tuple[str | None, str | None]:
    """Return the file that judges a claim, within the package, and its hash."""
    try:
        path = Path(inspect.getsourcefile(inspect.unwrap(claim.judge)) or "")
        content = path.read_bytes()
    except (TypeError, OSError):  # a judge that is no function of a file
        return None, None
    root = Path(__file__).parents[1]  # of the package
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    return name, _digest(content)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
