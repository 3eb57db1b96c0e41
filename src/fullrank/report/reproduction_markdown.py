"""The claims of papers as small Markdown pages with figures, fit for version control."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fullrank.errors import UserError
from fullrank.experiments.claims.registry import NAMES, short_name
from fullrank.report.document import write_document
from fullrank.report.numbers import NONE
from fullrank.report.reproduction_svg import check_drawing, draw_figure
from fullrank.report.reproduction_words import (
    SHOWN,
    conditions,
    count_text,
    number_text,
    outline,
    run_cells,
    run_command,
    tally,
)
from fullrank.train.record import plain

__all__ = ["CLAIMS", "check_drawing", "write_evidence"]

CLAIMS = "claims.json"
TERMS = "verdicts.md"  # beside the folder of this project's own evidence
PROGRAMS = "../../src/fullrank"


def write_evidence(found: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write ``PAPER.md`` with its figures for every paper, and ``claims.json`` of them all.

    Papers that ``found`` does not have stay in ``claims.json`` as they were. A claim whose
    criterion differs from that of earlier evidence keeps the earlier verdict under ``earlier``.

    Args:
        found: by paper, what ``PAPER.json`` holds.
        folder: of the evidence.

    Returns:
        The pages.

    Raises:
        UserError: matplotlib is not installed, the earlier ``claims.json`` is damaged, or a file
            cannot be written.
    """
    before = read_claims(folder)
    now: dict[str, Any] = {p: summary(paper, before.get(p)) for p, paper in found.items()}
    pages = []
    for name, paper in found.items():
        write_document(folder / f"{name}.md", page(paper, now[name], folder))
        pages.append(folder / f"{name}.md")
    whole = before | now
    ordered = {name: whole[name] for name in sorted(whole, key=_place)}
    text = json.dumps(plain(ordered), indent=1, ensure_ascii=False, allow_nan=False)
    write_document(folder / CLAIMS, text + "\n")
    return pages


def _place(paper: str) -> int:
    """Return where a paper stands among all; those of a user's own come last."""
    return NAMES.index(paper) if paper in NAMES else len(NAMES)


def read_claims(folder: Path) -> dict[str, Any]:
    """Read ``claims.json`` of a folder of evidence; empty if there is none.

    Raises:
        UserError: it cannot be read or is damaged. Written anew, it would lack all other papers.
    """
    path = folder / CLAIMS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"evidence: {path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"evidence: {path} is damaged ({error}).") from error
    if not isinstance(found, dict):
        raise UserError(f"evidence: {path} holds {type(found).__name__}. Allowed: papers by name.")
    return found


def summary(paper: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what ``claims.json`` keeps of a paper."""
    earlier = {claim["name"]: claim for claim in (before or {}).get("claims", ())}
    kept = (
        *("name", "statement", "source", "own", "care"),
        *("criterion_hash", "source_hash", "verdict", "text"),
    )
    claims = []
    for claim in paper["claims"]:
        old = earlier.get(claim["name"])
        history = list(old.get("earlier", ())) if old else []
        if old and old["criterion_hash"] != claim["criterion_hash"] and old["verdict"]:
            history.append({n: old[n] for n in ("criterion_hash", "verdict", "text")})
        claims.append(
            {name: claim[name] for name in kept}
            | {
                "reason": claim["reason"],
                "runs": sum(len(arm["runs"]) for arm in claim["arms"]),
                "earlier": history,
            }
        )
    names = ("paper", "title", "citation", "scale")
    return {name: paper[name] for name in names} | {"claims": claims}


def page(paper: Mapping[str, Any], kept: Mapping[str, Any], folder: Path) -> str:
    """Return the Markdown page of a paper; its figures are drawn beside it.

    Args:
        paper: what ``PAPER.json`` holds.
        kept: what ``claims.json`` keeps of it.
        folder: of the evidence.
    """
    lines = [f"# {paper['title']}", ""]
    lines += [f"{paper['citation']}. {paper['about']}".rstrip(), ""]
    if (folder.parent / TERMS).is_file():
        lines += [f"What the words and vital signs mean: [verdicts](../{TERMS}).", ""]
    again = f"fullrank reproduce {paper['paper']}"
    again += "" if paper["scale"] == "cpu" else f" --scale {paper['scale']}"
    lines += [f"{tally(paper['claims'])} All of it again: `{again}`.", ""]
    rows = [(c["verdict"] or NONE, _anchor(c), c["text"]) for c in paper["claims"]]
    lines += [*table(("verdict", "claim", "found"), rows), ""]
    history = {claim["name"]: claim["earlier"] for claim in kept["claims"]}
    listed: dict[str, str] = {}
    for claim in paper["claims"]:
        lines += _section(claim, history[claim["name"]], paper, folder)
        lines += _runs(claim, paper["scale"], listed)
    lines += ["## Conditions", ""]
    lines += table(("", ""), conditions(paper))
    return "\n".join(lines).rstrip() + "\n"


def _section(
    claim: Mapping[str, Any],
    earlier: Sequence[Mapping[str, Any]],
    paper: Mapping[str, Any],
    folder: Path,
) -> list[str]:
    short = short_name(claim["name"])
    lines = [f"## {short}", ""]
    lines += [f"{_stopped(claim['statement'])} ({claim['source']})", ""]
    told = f"**{(claim['verdict'] or 'not judged yet').capitalize()}.** {claim['text']}".rstrip()
    lines += [told, ""]
    if claim["reason"]:
        lines += [f"Not decided: {_stopped(_cell(claim['reason']))}", ""]
    lines += [f"- Holds if: {claim['criterion']}"]
    lines += [f"- Tested by: {claim['protocol'][paper['scale']]}"]
    if claim["care"]:
        lines += [f"- Read with care: {claim['care']}"]
    program = _program(claim["source_file"], folder)
    fixed = f"- Fingerprint of statement, protocol and criterion: `{claim['criterion_hash']}`"
    lines += [fixed + program]
    for old in earlier:
        lines += [f"- By earlier words of these (`{old['criterion_hash']}`): {old['verdict']}."]
    lines += [""]
    for i, figure in enumerate(claim["figures"]):
        name = f"{paper['paper']}-{short}-{i}.svg"
        draw_figure(figure, folder / "figures" / name)
        lines += [f"![{figure['title']}](figures/{name})", ""]
    if claim["numbers"]:
        numbers = [(n["name"], number_text(n), count_text(n)) for n in claim["numbers"]]
        lines += [*table(("number", "value (95 % interval)", "n"), numbers), ""]
    return lines


def _program(file: str | None, folder: Path) -> str:
    """Return where the judge is; a link where this project keeps its own evidence."""
    if file is None:
        return ""
    source = f"{PROGRAMS}/{file}"
    return (
        f"; program [`{file}`]({source})" if (folder / source).is_file() else f"; program `{file}`"
    )


def _runs(claim: Mapping[str, Any], scale: str, listed: dict[str, str]) -> list[str]:
    """Return the lines on a claim's runs.

    Args:
        claim: with its arms.
        scale: of the runs.
        listed: conditions that the page has listed by the hashes of their runs; those of this claim
            are added. If all stand there, they are not repeated.
    """
    if not claim["arms"]:
        return []
    own = {run["hash"]: arm["name"] for arm in claim["arms"] for run in arm["runs"]}
    if all(f", {name}".endswith(f", {listed.get(hash_)}") for hash_, name in own.items()):
        return [f"The runs ({outline(claim)}) are listed above.", ""]
    listed |= own
    command = run_command("HASH", scale)
    rows = [
        (arm["name"], str(run["seed"]), f"`{run['hash']}`", *run_cells(run))
        for arm in claim["arms"]
        for run in arm["runs"]
    ]
    return [
        "<details><summary>The runs</summary>",
        "",
        f"{outline(claim)}. One of them again, or its configuration: `{command}`, "
        f"`{command} --print_config`.",
        "",
        *table(("condition", "seed", "run", *SHOWN), rows),
        "",
        "</details>",
        "",
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return lines + [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]


def _cell(text: str) -> str:
    """Return text that does not end a table's cell."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _anchor(claim: Mapping[str, Any]) -> str:
    return f"[{claim['statement']}](#{short_name(claim['name'])})"


def _stopped(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."
