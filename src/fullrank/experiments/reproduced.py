"""Claims, findings and runs as plain values: what a reproduction's file holds."""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fullrank.experiments.claims.claim import Claim, Figure, Finding, Paper, ScaleName
from fullrank.experiments.engine import Ended
from fullrank.experiments.stored import LAYERS
from fullrank.train.config import Config
from fullrank.train.lock import locked
from fullrank.train.record import plain
from fullrank.train.storage import write_whole, writing

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
        "care": claim.care,
        "own": claim.own,
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


class Book:
    """The files of papers: what is known of every claim, whenever and by whomever it was judged.

    Args:
        papers: whose files these are.
        scale: of the runs.
        out: folder of the files.

    Attributes:
        papers: by name, what ``PAPER.json`` holds.
    """

    def __init__(self, papers: Iterable[Paper], scale: ScaleName, out: Path) -> None:
        self.scale, self.out, self.started = scale, out, time.perf_counter()
        self.papers = {paper.name: self._read(paper) for paper in papers}

    def add(
        self, paper: Paper, claim: Claim, found: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Write what a claim's runs showed into its paper's file, and return paper and claim.

        The other claims stay as they are on disk: other processes may judge them meanwhile.

        Raises:
            UserError: the file cannot be written.
        """
        rows = [row for arm in found["arms"] for row in arm["runs"]]
        environments = [row.pop("environment", None) for row in rows]
        environment = next(filter(None, reversed(environments)), None)
        judged = claim_head(claim, self.scale) | plain(dict(found))
        path = self.out / f"{paper.name}.json"
        with writing(self.out), locked(path):
            book = self._read(paper)
            book["claims"] = [judged if c["name"] == claim.name else c for c in book["claims"]]
            # A claim without runs does not tell where, and for how long, those of others ran.
            if environment:
                book["environment"] = environment
            if environment or "environment" not in book:
                book["seconds"] = round(time.perf_counter() - self.started, 1)
            text = json.dumps(plain(book), ensure_ascii=False, allow_nan=False, indent=1)
            write_whole(path, text.encode())
        self.papers[paper.name] = book
        return book, judged

    def _read(self, paper: Paper) -> dict[str, Any]:
        """Return what a paper's file holds; a claim that was judged by other criteria is not."""
        there = self._earlier(paper)
        earlier = {claim["name"]: claim for claim in there.get("claims", ())}
        claims = []
        for claim in paper.claims:
            head, before = claim_head(claim, self.scale), earlier.get(claim.name, {})
            same = before.get("criterion_hash") == head["criterion_hash"]
            claims.append(head | before if same else head)
        found = {**described(paper), "scale": self.scale, "claims": claims}
        if any(claim["arms"] for claim in claims):
            found |= {name: there[name] for name in ("environment", "seconds") if name in there}
        return found

    def _earlier(self, paper: Paper) -> dict[str, Any]:
        try:
            found = json.loads((self.out / f"{paper.name}.json").read_text(encoding="utf-8"))
            readable = all(isinstance(claim["name"], str) for claim in found["claims"])
            return found if readable and found["scale"] == self.scale else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}  # there is none, or one that is no use


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
