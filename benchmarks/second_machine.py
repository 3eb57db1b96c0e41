"""The claims once more, from an empty store on another machine: what of the evidence stands?

    fullrank reproduce all --runs runs-second --out reproductions-second
    python benchmarks/second_machine.py reproductions-second [--out docs/evidence/second-machine.md]

Same configurations, same seeds. On the same kind of processor runs come again bit for bit; another
kind rounds otherwise, and after some hundred steps no weight is the same. What the evidence says
should not depend on that: this compares every verdict, and every run by its hash, with the pages of
the evidence. Runs from an empty store also tell how long everything takes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from fullrank.errors import UserError
from fullrank.experiments.claims.statistics import interval
from fullrank.report.document import write_document
from fullrank.report.numbers import duration
from fullrank.report.reproduction_markdown import read_claims, table
from fullrank.report.reproduction_words import SHOWN, VERDICTS, number_text, run_cells
from fullrank.train.record import Record

# What is compared of a run: by its column on the pages, how it is called here, and in what unit.
COMPARED = {
    "AUC of the backbone": ("AUC of the backbone", ""),
    "its kNN": ("kNN probe", "points"),
    "its linear probe": ("linear probe", "points"),
}
ABOUT = """All claims once more, from an empty store: same configurations, same seeds, another kind
of processor. It rounds otherwise, so that the weights of a run soon differ in every digit, as they
do with another seed. What the evidence says should not depend on that; a verdict that does was near
its criterion. The evidence itself stays that of the first machine.
`python benchmarks/second_machine.py` made this page and says how."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reproductions", type=Path, help="folder of `fullrank reproduce all`")
    parser.add_argument("--evidence", type=Path, default=Path("docs/evidence"))
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/second-machine.md"))
    given = parser.parse_args()
    try:
        papers = read_papers(given.reproductions)
        text = page(papers, given.evidence)
    except UserError as error:
        sys.exit(f"error: {error}")
    write_document(given.out, text)
    print(text)


def read_papers(folder: Path) -> dict[str, dict[str, Any]]:
    """Read ``PAPER.json`` of every paper in a folder of results."""
    found = {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")}
    if not found:
        raise UserError(f"reproductions: {folder} holds no paper. Make it by `fullrank reproduce`.")
    return found


def page(papers: Mapping[str, Mapping[str, Any]], evidence: Path) -> str:
    """Return the page."""
    claims = {c["name"]: c for paper in papers.values() for c in paper["claims"]}
    kept = {c["name"]: c for paper in read_claims(evidence).values() for c in paper["claims"]}
    if claims.keys() != kept.keys():
        other = sorted(claims.keys() ^ kept.keys())
        raise UserError(f"claims: {', '.join(other)} are not in both, here and in {evidence}.")
    runs = {r["hash"]: r for c in claims.values() for arm in c["arms"] for r in arm["runs"]}
    before = dict(row for name in papers for row in runs_of(evidence / f"{name}.md"))
    if runs.keys() != before.keys():
        other = sorted(runs.keys() ^ before.keys())
        raise UserError(f"runs: {len(other)} are not those of {evidence}, such as {other[0]}.")
    lines = [
        "# The claims on a second machine",
        "",
        *wrap(ABOUT),
        "",
        *times(papers, runs, evidence),
        "",
        *verdicts(claims, kept),
        "",
        *same_runs(runs, before),
    ]
    return "\n".join(lines) + "\n"


def wrap(text: str) -> list[str]:
    """Break a paragraph into lines."""
    return textwrap.wrap(" ".join(text.split()), 100, break_on_hyphens=False)


def runs_of(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the runs that a page of the evidence lists: hash, and cells by column."""
    columns: list[str] = []
    for line in path.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            columns = []
        elif not columns:
            columns = cells
        elif "run" in columns and set(line) - set("|-"):
            row = dict(zip(columns, cells, strict=True))
            yield row["run"].strip("`"), row


def times(
    papers: Mapping[str, Mapping[str, Any]], runs: Mapping[str, Mapping[str, Any]], evidence: Path
) -> list[str]:
    """Say on what the runs were made, when, and how long all of them took."""
    here = {p["environment"]["processor"] for p in papers.values() if p.get("environment")}
    pages = "".join((evidence / f"{name}.md").read_text("utf-8") for name in papers)
    there = set(re.findall(r"^\| processor \| (.*?) \|$", pages, re.MULTILINE))
    began, ended = [], []
    for run in runs.values():
        record = Record(Path(run["folder"]))
        for event, found in (("start", began), ("end", ended)):
            last = record.last(event)
            if last is not None:  # a run that stopped has no end
                found.append(datetime.fromisoformat(last["time"]))
    trained = sum(float(run["seconds"] or 0) for run in runs.values())
    lasted = duration((max(ended) - min(began)).total_seconds())
    rows = [
        ("processor", ", ".join(sorted(here))),
        ("that of the evidence", ", ".join(sorted(there))),
        ("runs", f"{len(runs)}, together {duration(trained)} of training"),
        ("from the first run's beginning to the last one's end", lasted),
    ]
    return table(("", ""), rows)


def verdicts(claims: Mapping[str, Any], kept: Mapping[str, Any]) -> list[str]:
    """Compare the verdicts; show both findings where they differ."""
    pairs = [(kept[name]["verdict"], claims[name]["verdict"]) for name in kept]
    trained = [pair for pair, claim in zip(pairs, kept.values(), strict=True) if claim["runs"]]
    lines = [
        "## Verdicts",
        "",
        *wrap(
            f"{sum(a == b for a, b in pairs)} of {len(pairs)} are the same, of those that rest on "
            f"trained networks {sum(a == b for a, b in trained)} of {len(trained)}. In the rows "
            "those of the evidence, in the columns those of the second machine:"
        ),
        "",
        *table(
            ("", *VERDICTS), [(a, *(str(pairs.count((a, b))) for b in VERDICTS)) for a in VERDICTS]
        ),
    ]
    for name, (a, b) in zip(kept, pairs, strict=True):
        if a != b:
            paper, _, short = name.partition("/")
            lines += [
                "",
                f"**[{name}]({paper}.md#{short})**",
                "",
                f"- evidence, {a}: {kept[name]['text']}",
                f"- second machine, {b}: {claims[name]['text'] or claims[name]['reason']}",
            ]
    return lines


def same_runs(
    runs: Mapping[str, Mapping[str, Any]], before: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Compare the runs: verdicts on the embedding, and numbers."""
    now = {hash_: dict(zip(SHOWN, run_cells(run), strict=True)) for hash_, run in runs.items()}
    kinds = [(_kind(before[h]), _kind(now[h])) for h in before]
    other = Counter(
        " on one, ".join(sorted(pair)) + " on the other" for pair in kinds if len(set(pair)) > 1
    )
    lines = [
        "## Runs",
        "",
        *wrap(
            f"{len(kinds) - other.total()} of {len(kinds)} came to the same verdict on the "
            "embedding, or stopped for the same reason"
            + "".join(f"; {n}: {which}" for which, n in other.most_common())
            + "."
        ),
        "",
        "Second machine less evidence, run by run:",
        "",
    ]
    rows = []
    for column, (name, unit) in COMPARED.items():
        values = [_value(now[h][column]) - _value(before[h][column]) for h in before]
        found = np.asarray([v for v in values if np.isfinite(v)])
        mean = number_text(vars(interval(found.tolist(), name, unit)))
        half, most = (f"{q:.3g} {unit}".strip() for q in np.quantile(np.abs(found), (0.5, 0.9)))
        rows.append((name, mean, half, most, str(len(found))))
    head = ("", "mean (95 % interval)", "half of the runs, at most", "nine of ten, at most", "runs")
    return lines + table(head, rows)


def _kind(row: Mapping[str, str]) -> str:
    """Return the verdict of a run, or why it stopped, at whatever step."""
    return row["embedding"].partition(" at step")[0]


def _value(cell: str) -> float:
    """Return the number that a cell of a page begins with; NaN for a dash."""
    number = cell.replace("\N{MINUS SIGN}", "-").split()
    try:
        return float(number[0].rstrip("%"))
    except (ValueError, IndexError):
        return float("nan")


if __name__ == "__main__":
    main()
