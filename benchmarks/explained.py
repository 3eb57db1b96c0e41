"""The factorial of a method's mechanisms as a table: predicted and measured, cell by cell.

    python benchmarks/explained.py [RECIPE ...] [--seeds 10 11 12] [--workers 2]

What ``fullrank explain RECIPE`` finds, as a page of ``docs/evidence`` for each recipe (SimSiam by
default). The settings were chosen on seed 0; the seeds here are others. Runs that exist under
``runs/`` are found, not repeated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fullrank
from fullrank.report.explanation_cells import card, tally

SEEDS = (10, 11, 12)


def page(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the evidence page."""
    settings, machine = found["settings"], found["environment"]
    seeds = ", ".join(map(str, found["seeds"]))
    yield f"# {found['title']}: each mechanism on and off\n"
    yield (
        f"Written by `python benchmarks/explained.py {found['recipe']}`, which is `fullrank "
        f"explain {found['recipe']} --seeds {seeds.replace(',', '')}`. {settings['backbone']} on "
        f"{settings['data']}, {settings['steps']} steps of {settings['batch_size']}, "
        f"{settings['optimizer']} at a peak rate of {settings['peak_lr']:g}; weight decay, where "
        f"it is on, shrinks a weight by {settings['weight_decay_e_folds']:.2g} e-folds over the "
        "run. Predictions and settings were written down after pilots on seed 0 and before these "
        "runs; each prediction names its source, and a cell without one says so. The verdict is "
        "on the embedding, of every seed; spread, effective rank and gains over the random-init "
        "network are means with 95 % intervals over seeds, gains in points.\n"
    )
    yield (
        f"Machine: {machine.get('processor')}, torch {machine.get('torch')}, one thread a run.\n"
    )
    counts = ", ".join(f"{n} {name}" for name, n in tally(found["cells"]).items())
    yield f"{len(found['cells'])} cells: {counts}.\n"
    yield "| cell | predicted | by | measured | | spread | rank | kNN gain | linear gain |"
    yield "|---" * 9 + "|"
    for cell in found["cells"]:
        shown = card(cell)
        numbers = dict(shown["numbers"])
        merged = f" (and {len(shown['merged'])} more)" if shown["merged"] else ""
        cells = [
            shown["label"] + merged,
            shown["predicted"] or "–",
            shown["by"] or "–",
            shown["split"] or shown["kind"],
            shown["agreement"],
            *(numbers.get(name, "–") for name in ("spread", "rank", "kNN gain", "linear gain")),
        ]
        yield "| " + " | ".join(cells) + " |"


def main() -> None:
    """Explain recipes and write their pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=["simsiam"], metavar="RECIPE")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--workers", type=int)
    parser.add_argument("--out", type=Path, default=Path("docs/evidence"))
    given = parser.parse_args()
    for name in given.recipes:
        done = fullrank.explain(
            name,
            seeds=given.seeds,
            workers=given.workers,
            progress=lambda now: print(f"{now.done}/{now.total} {now.text}", file=sys.stderr),
        )
        out = given.out / f"{name}.md"
        out.write_text("\n".join(page(done.found)) + "\n")
        print(f"written: {out}; page: {done.page}")


if __name__ == "__main__":
    main()
