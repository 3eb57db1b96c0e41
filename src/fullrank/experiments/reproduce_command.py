"""The options of ``fullrank reproduce``, and what it prints. Nothing here imports torch."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fullrank.audit.command import CommandParser
from fullrank.errors import UserError
from fullrank.experiments.command import add_engine_options

if TYPE_CHECKING:
    from fullrank.train.config import Config

DESCRIPTION = """\
A paper's claims as programs: each is judged by a criterion that was written down before its runs.
Runs are shared between claims, and found in the store, not repeated: an interrupted reproduction
goes on where it stopped.
"""

EXAMPLES = """\
examples:
  fullrank reproduce --list
  fullrank reproduce tian2021 --claims balance critical-decay
  fullrank reproduce all --workers 2
  fullrank reproduce --run 0123456789ab --print_config
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    p = CommandParser(
        prog="fullrank reproduce",
        usage="fullrank reproduce PAPER... [options]\n"
        "       fullrank reproduce --list\n"
        "       fullrank reproduce --run HASH [--print_config]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("papers", nargs="*", metavar="PAPER", help="papers by name, or all")
    p.add_argument("--list", action="store_true", help="list papers and claims; nothing is run")
    p.add_argument("--claims", nargs="+", metavar="CLAIM", help="only these claims")
    p.add_argument(
        "--scale",
        default="cpu",
        help="cpu: small networks, minutes; paper: the published protocol (default: cpu)",
    )
    p.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        metavar="SEED",
        help="of every condition (default: each claim's own, 0 1 2 or 0 to 4)",
    )
    add_engine_options(p)
    p.add_argument("--out", metavar="DIR", help="folder of the results (default: reproductions)")
    p.add_argument(
        "--evidence",
        metavar="DIR",
        help="write small Markdown pages with figures, and claims.json, there, too",
    )
    p.add_argument(
        "--table",
        metavar="FILE",
        help="put the table of all claims between the markers of this Markdown file; needs "
        "--evidence",
    )
    p.add_argument("--run", metavar="HASH", help="train this one run of any claim, or find it")
    p.add_argument(
        "--print_config", action="store_true", help="with --run: print its configuration and end"
    )
    p.add_argument("--json", action="store_true", help="print what was found as JSON")
    return p


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """Parse the command's options.

    Raises:
        UserError: one is unknown, not allowed, or makes no sense with the others.
    """
    given = vars(parser().parse_args(list(argv)))
    if given["print_config"] and given["run"] is None:
        raise UserError("option: --print_config needs --run HASH.")
    if given["table"] is not None and given["evidence"] is None:
        raise UserError("option: --table needs --evidence DIR, whose claims.json it shows.")
    if not given["papers"] and not given["list"] and given["run"] is None:
        raise UserError("paper: none given. `fullrank reproduce --list` lists them; `all` is all.")
    return given


def listing(names: Sequence[str], as_json: bool) -> str:
    """Return the papers and their claims as text.

    Raises:
        UserError: no paper has one of the names.
    """
    from fullrank.experiments.claims.registry import ALL, papers

    found = papers(names or [ALL])
    if as_json:
        import json

        return json.dumps(
            [
                {
                    "paper": paper.name,
                    "title": paper.title,
                    "citation": paper.citation,
                    "claims": [
                        {"name": c.name, "statement": c.statement, "source": c.source}
                        for c in paper.claims
                    ],
                }
                for paper in found
            ],
            indent=1,
            ensure_ascii=False,
        )
    lines = []
    for paper in found:
        lines += [f"{paper.name}  {paper.citation}: {paper.title}"]
        width = max(len(claim.name) for claim in paper.claims)
        lines += [f"  {claim.name:<{width}}  {claim.statement}" for claim in paper.claims]
    return "\n".join(lines)


def config_text(config: Config) -> str:
    """Return a configuration as the YAML that ``fullrank train --config`` takes."""
    import yaml

    return yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True).rstrip()


def print_claim(claim: Mapping[str, Any]) -> None:
    """Print one claim as soon as it is judged."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    colour = {"held": "green", "did not hold": "red"}.get(claim["verdict"], "yellow")
    console.print(f"[bold {colour}]{claim['verdict']}[/]  [bold]{claim['name']}[/bold]")
    for text in (claim["text"], claim["reason"]):
        if text:
            console.print(f"  {text}", markup=False)


def print_table(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a line a claim: its verdict and the first of its numbers."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for name in ("claim", "verdict", "first number"):
        table.add_column(name)
    for paper in found.values():
        for claim in paper["claims"]:
            table.add_row(claim["name"], claim["verdict"] or "not judged", _first_number(claim))
    console = Console(highlight=False)
    console.print(table, width=None if console.is_terminal else 200)


def _first_number(claim: Mapping[str, Any]) -> str:
    if not claim["numbers"]:
        return ""
    number = claim["numbers"][0]
    text = f"{number['name']} {number['value']:.3g}"
    if number["low"] is not None and number["high"] is not None:
        text += f" ({number['low']:.3g} to {number['high']:.3g})"
    return f"{text} {number['unit']}".rstrip()
