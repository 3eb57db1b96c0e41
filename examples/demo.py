"""SimSiam beside SimSiam without stop-gradient, on digits: one learns, one collapses.

Run by ``make demo``. The second run also leaves out the output batch norm, which would hide a
complete collapse behind unit variances. Ends with the two verdicts and one report of both.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import fullrank
from fullrank.train.printed import print_verdict

SETTINGS = {
    "preset": "small",
    "data": "digits",
    "backbone": {"name": "conv4", "width": 16},
    "steps": 300,
    "threads": 1,  # so small a network is fastest on one core
    "checkup": {"size": 500, "budget": 0.25},
    "logger": "none",
}
RUNS = {
    "simsiam": {"name": "simsiam"},
    "simsiam-without-stop-gradient": {
        "name": "simsiam",
        "target": "online",
        "projector": {"last_norm": "none"},
    },
}


def main(folder: Path = Path("demo"), steps: int = 300) -> Path:
    """Train both runs into ``folder`` and return the report's path."""
    for name, recipe in RUNS.items():
        out = folder / name
        shutil.rmtree(out, ignore_errors=True)
        print(f"\n{name}", flush=True)
        run = fullrank.train(recipe, **SETTINGS | {"steps": steps}, out=str(out))
        if run.status != "finished":
            raise SystemExit(f"{name} was {run.status}")
        print_verdict(run)
    page = fullrank.report(*(folder / name for name in RUNS), out=folder / "report.html")
    print(f"\nreport: {page}")
    return page


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("demo"))
    parser.add_argument("--steps", type=int, default=SETTINGS["steps"])
    given = parser.parse_args()
    main(given.folder, given.steps)
