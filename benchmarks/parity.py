"""The same data through fullrank and through every peer's metric that is installed.

    python benchmarks/parity.py [--peers FOLDER] [--out docs/evidence/parity.md]

Writes the table of parity. Where the two values differ, fullrank computes its own again under the
peer's convention, and the command fails if that is not the peer's value: reasons are checked, not
stated. About a minute on one idle core. ``--peers`` is one more folder of installed packages,
searched last, for peers that need more than this environment should hold (``pip install --target
FOLDER stable-pretraining``). Of a peer that is not installed the page keeps the rows of the last
run that had it, with that run's date and versions, and the command says so; without such a run it
is named on the page.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
import time
import warnings
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from fullrank import __version__
from fullrank.measure.listing import metrics
from parity_data import EXACT, SINGLE, Row, Sets
from parity_peers import PEERS

PAGE = Path(__file__).parents[1] / "docs/evidence/parity.md"
HEADER = (
    "metric | data | fullrank | 95 % interval | as the peer calls it | peer | peer / fullrank | "
    "fullrank, the peer's way | off by | why"
)
INTRODUCTION = """# Parity: the same data through fullrank and its peers

Written by `python benchmarks/parity.py`. fullrank {fullrank}, torch {torch}, one thread. Every \
row is one metric on one data set. *fullrank* is the plug-in value by the published definition, as \
`fullrank audit` reports it; its interval is a jackknife over 8 shards, about the bias-corrected \
value where a correction is known; rows rebuilt from a spectrum are no random sample and have \
none. Where a peer's value differs, *fullrank, the peer's way* is fullrank's value under the \
peer's convention. *Off by* is the relative distance of that (or, where both mean the same, of \
fullrank's own value) from the peer's value; the command fails when it is more than {exact:g}, or \
than {single:g} for peers that compute in float32. {count} rows: {same} agree as they stand, \
{explained} once the convention is the peer's.{kept}

Data, all seeded (float64):

{data}
"""
NOT_COMPARED = """## Not compared

* **WeightWatcher** is not comparable: it reads weights, not features, and its stable rank and \
entropy are of a layer's weight matrix.
* **req-metrics** cannot be installed from PyPI (it is in its repository only), and was not run.
* **solo-learn** has no function to call: the training steps of SimSiam and its kin compute the \
mean deviation of normalised features for each process, and log the mean over processes.
* Metrics of `fullrank metrics` without a row above: {alone}.
"""


def compare(sets: Sets) -> tuple[dict[str, list[Row]], dict[str, str]]:
    """Return the rows by peer, and why the others are left out."""
    found: dict[str, list[Row]] = {}
    missing: dict[str, str] = {}
    for name, rows in PEERS.items():
        try:
            with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[name] = list(rows(sets))
        except ImportError as error:
            missing[name] = str(error)
    return found, missing


def kept_sections(page: str, missing: Iterable[str]) -> dict[str, str]:
    """Return the sections of an earlier page, by peer, for the peers that are missing now."""
    sections = re.findall(r"^## .*?(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL)
    named = {section.split()[1]: section.rstrip() + "\n" for section in sections}
    return {name: named[name] for name in missing if name in named}


def page(
    found: dict[str, list[Row]],
    missing: dict[str, str],
    kept: dict[str, str],
    sets: Sets,
    extra: Iterable[str] = (),
) -> str:
    """Return the table as Markdown.

    Args:
        found: rows by peer.
        missing: peers that are not installed, and why.
        kept: sections of earlier runs of some of them.
        sets: the data.
        extra: peers that come from a folder of ``--peers``: their sections say when they were
            compared, which a run without that folder keeps.
    """
    rows = [row for peer in found.values() for row in peer]
    same = sum(row.alike is None for row in rows)
    older = sum(section.count("\n| `") for section in kept.values())
    text = [
        INTRODUCTION.format(
            fullrank=__version__,
            torch=torch.__version__,
            exact=EXACT,
            single=SINGLE,
            count=len(rows),
            same=same,
            explained=len(rows) - same,
            kept=f" {older} more rows are of the run that their section names." if older else "",
            data="\n".join(f"* **{data.name}**: {data.says}." for data in sets.every),
        )
    ]
    for name in PEERS:
        if name in kept:
            text.append(kept[name])
        if name not in found:
            continue
        text.append(f"## {name} {_version(name)}\n")
        if name in extra:
            text.append(
                f"Compared on {datetime.now(UTC):%Y-%m-%d} with fullrank {__version__} and torch "
                f"{torch.__version__} by `python benchmarks/parity.py --peers FOLDER`, after `pip "
                f"install --target FOLDER {name}=={_version(name)}`: it needs more than this "
                "environment holds, and runs without that folder keep these rows.\n"
            )
        text.append(f"| {HEADER} |\n|{'---|' * len(HEADER.split(' | '))}")
        text.extend(f"| {' | '.join(row.cells())} |" for row in found[name])
        text.append("")
    compared = {row.metric for row in rows}
    for section in kept.values():
        compared |= set(re.findall(r"^\| `(\w+)`", section, flags=re.MULTILINE))
    alone = [about.name for about in metrics().values() if about.name not in compared]
    listed = ", ".join(f"`{name}`" for name in alone)
    text.append(NOT_COMPARED.format(alone=listed).rstrip())
    text.extend(
        f"* **{name}** is not installed here ({why})."
        for name, why in missing.items()
        if name not in kept
    )
    return "\n".join(text) + "\n"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, help="one more folder of installed packages")
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args()
    extra: list[str] = []
    if options.peers:
        extra = [name for name in PEERS if not _version(name)]
        sys.path.append(str(options.peers.resolve()))
    start = time.perf_counter()
    torch.set_num_threads(1)
    sets = Sets()
    with threadpool_limits(1):
        found, missing = compare(sets)
    seconds = time.perf_counter() - start
    before = options.out.read_text(encoding="utf-8") if options.out.exists() else ""
    kept = kept_sections(before, missing)
    options.out.write_text(page(found, missing, kept, sets, extra), encoding="utf-8")
    rows = [(name, row) for name, peer in found.items() for row in peer]
    failed = [(name, row) for name, row in rows if not row.explained]
    for name, row in failed:
        print(f"not explained: {name}: {' | '.join(row.cells())}", file=sys.stderr)
    print(f"{len(rows)} rows, {len(failed)} not explained, {seconds:.0f} s: {options.out}")
    for name, why in missing.items():
        if name in kept:
            what = f"the page keeps the {kept[name].count(chr(10) + '| `')} rows of an earlier run"
        else:
            what = "the page has no rows of it"
        print(f"NOT RUN: {name} is not installed here ({why}): {what}.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
