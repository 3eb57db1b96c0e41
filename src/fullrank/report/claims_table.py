"""The table of all claims in a Markdown file, made from the evidence's ``claims.json``.

python -m fullrank.report.claims_table README.md docs/evidence
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fullrank.errors import UserError
from fullrank.experiments.claims.registry import short_name
from fullrank.report.document import write_document
from fullrank.report.reproduction_markdown import read_claims, table
from fullrank.report.reproduction_words import VERDICTS, tally

BEGIN = "<!-- claims: made by `fullrank reproduce`; do not edit -->"
END = "<!-- end of claims -->"
NOT_OWN = "†"


def claims_table(evidence: Path, beside: Path) -> str:
    """Return the table of all claims of a folder of evidence, as Markdown.

    A row a paper, and in it every claim by its short name, under its verdict; what each says, and
    what decided it, is on the paper's page.

    Args:
        evidence: holds ``claims.json`` and a page a paper.
        beside: folder of the file that the table is for; links are relative to it.
    """
    papers = read_claims(evidence)
    claims = [claim for paper in papers.values() for claim in paper["claims"]]
    if not claims:
        return "No evidence yet."
    said = tally(claims)
    for what, some in (
        ("are the papers' own", [claim for claim in claims if is_own(claim)]),
        ("rest on networks trained on images", [claim for claim in claims if claim["runs"]]),
    ):
        said += f" {len(some)} of them {what}: {tally(some).partition(': ')[2]}"
    if not all(is_own(claim) for claim in claims):
        said += f" {NOT_OWN}: not the paper's own, but others' or ours about the same."
    rows = []
    for name, paper in papers.items():
        link = Path(os.path.relpath(evidence / f"{name}.md", beside)).as_posix()
        cells = [_of(paper, verdict, link) for verdict in VERDICTS]
        rows.append((f"[{_short(paper['citation'])}]({link})", *cells))
    return "\n".join([said, "", *table(("paper", *VERDICTS), rows)])


def _of(paper: Mapping[str, Any], verdict: str, link: str) -> str:
    """Return the claims of a paper that have a verdict, by their short names."""
    found = [c for c in paper["claims"] if c["verdict"] == verdict]
    names = [(short_name(c["name"]), "" if is_own(c) else f" {NOT_OWN}") for c in found]
    return ", ".join(f"[{name}]({link}#{name}){mark}" for name, mark in names)


def is_own(claim: Mapping[str, Any]) -> bool:
    """Say whether the paper itself makes a claim; evidence of earlier versions does not tell."""
    return bool(claim.get("own", True))


def _short(citation: str) -> str:
    """Return authors and year: what stands before the source."""
    return re.split(r", arXiv|;", citation)[0]


def check_table(path: Path) -> None:
    """Refuse a file without markers, before the work for the table begins.

    Raises:
        UserError: it cannot be read, or has no markers.
    """
    _parts(path)


def write_table(path: Path, evidence: Path) -> None:
    """Put the table of all claims between the markers of a Markdown file.

    Raises:
        UserError: the file cannot be read or written, or has no markers.
    """
    before, after = _parts(path)
    made = claims_table(evidence, path.resolve().parent)
    write_document(path, f"{before}{BEGIN}\n\n{made}\n\n{END}{after}")


def current_table(path: Path) -> str:
    """Return what stands between the markers of a Markdown file.

    Raises:
        UserError: the file cannot be read, or has no markers.
    """
    before, after = _parts(path)
    text = path.read_text(encoding="utf-8")
    return text[len(before) + len(BEGIN) : len(text) - len(after) - len(END)].strip()


def _parts(path: Path) -> tuple[str, str]:
    """Return what stands before and after the markers."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"table: {path} cannot be read ({error.strerror}).") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"table: {path} has no markers. Allowed: a file with {BEGIN} and {END}.")
    return before, after


if __name__ == "__main__":
    write_table(Path(sys.argv[1]), Path(sys.argv[2]))
