"""Replace one field of SimSiam, its stop-gradient, and see what the recipe foretold.

A recipe is data: an ablation is the recipe with another value in one field. The output batch norm
goes too, in both runs, because it would hide a complete collapse behind unit variances.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import fullrank
from fullrank.models.settings.target import Online
from fullrank.recipes.registry import recipe


def main(folder: Path = Path("runs/replace-a-field"), steps: int = 300, width: int = 16) -> Path:
    """Train SimSiam with and without stop-gradient; return the report of both.

    Args:
        folder: where the two run folders and the report go.
        steps: optimiser steps of each run.
        width: channels of the first convolution.
    """
    simsiam = recipe("simsiam").preset("small")
    simsiam = replace(simsiam, projector=replace(simsiam.projector, last_norm="none"))
    variants = {"simsiam": simsiam, "no-stop-gradient": replace(simsiam, target=Online())}
    for name, variant in variants.items():
        run = fullrank.train(
            variant,
            data="digits",
            backbone={"name": "conv4", "width": width},
            steps=steps,
            out=str(folder / name),
        )
        assert run.verdict is not None, run.status
        standing = {p.collapse for p in variant.standing()}
        print(f"{name}:")
        print(f"  prevented by the fields: {', '.join(sorted(standing)) or 'no collapse'}")
        print(f"  embedding: {run.verdict['embedding']['kind']}")
    page = fullrank.report(*(folder / name for name in variants), out=folder / "report.html")
    print(f"report: {page}")
    return page


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    main(steps=parser.parse_args().steps)
