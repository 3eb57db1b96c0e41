"""Train SimSiam on the digits of scikit-learn and read what the run says about itself.

The data are built in and eight pixels wide, so that one core needs less than a minute.
"""

from __future__ import annotations

import argparse

import fullrank
from fullrank.train.run import Run


def main(steps: int = 300, width: int = 16, out: str | None = None) -> Run:
    """Train, print the verdict on each layer, and return the run.

    Args:
        steps: optimiser steps.
        width: channels of the first convolution.
        out: run folder; None is ``runs/RECIPE-DATA-BACKBONE-HASH``.
    """
    run = fullrank.train(
        "simsiam",
        data="digits",
        backbone={"name": "conv4", "width": width},
        preset="small",
        steps=steps,
        out=out,
    )
    assert run.verdict is not None, run.status
    for layer in ("embedding", "backbone"):
        print(f"{layer}: {run.verdict[layer]['kind']}")
        for sentence in run.verdict[layer]["evidence"]:
            print(f"  {sentence}")
    print(run.verdict["loss"]["text"])
    print(f"report: {run.folder / 'report.html'}")
    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    main(parser.parse_args().steps)
