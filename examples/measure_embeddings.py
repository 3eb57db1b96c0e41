"""Measure embeddings that already exist: any array of n rows and d columns, no training.

With a file (``python examples/measure_embeddings.py embeddings.npy``) it measures that one; a
second file, of the untrained network's embeddings, is the reference for a verdict. Without a file
it measures three made-up sets: isotropic, dimensionally collapsed, and completely collapsed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from fullrank.measure.moments import Moments
from fullrank.measure.verdict import judge
from fullrank.measure.vitals import VitalSigns, vital_signs

SHOWN = ("spread", "effective_rank", "participation_ratio", "cev_auc", "hard_rank", "dead_units")


def measure(rows: np.ndarray, chunk: int = 8192) -> VitalSigns:
    """Return the vital signs of rows ``(n, d)``; chunks give the same numbers as one call."""
    moments = Moments()
    for start in range(0, len(rows), chunk):
        moments.update(torch.from_numpy(np.array(rows[start : start + chunk])))
    return vital_signs(moments.compute())


def made_up(n: int, d: int) -> dict[str, np.ndarray]:
    """Return three sets of rows that differ in how collapsed they are."""
    chance = np.random.default_rng(0)
    isotropic = chance.standard_normal((n, d))
    few = isotropic[:, :2] @ chance.standard_normal((2, d)) + 0.01 * isotropic
    point = np.ones(d) + 0.01 * isotropic
    return {"isotropic": isotropic, "two directions": few, "one point": point}


def main(
    path: Path | None = None, reference: Path | None = None, n: int = 5000, d: int = 256
) -> dict[str, VitalSigns]:
    """Print a line of vital signs a set, and verdicts where there is a reference.

    Args:
        path: a ``.npy`` file of shape (n, d); None makes up three sets.
        reference: another one, of the untrained network's embeddings of the same images.
        n: rows of the made-up sets.
        d: their columns.
    """
    if path is None:
        sets = made_up(n, d)
    else:
        files = [path] if reference is None else [reference, path]
        sets = {str(file): np.load(file, mmap_mode="r") for file in files}
    found = {name: measure(rows) for name, rows in sets.items()}
    for name, signs in found.items():
        values = "  ".join(f"{key} {signs[key]:.4g}" for key in SHOWN)
        print(f"{name} (n = {signs['n']:,}, d = {signs['d']}): {values}")
    if len(found) > 1:
        first, *others = found
        for name in others:
            verdict = judge(found[name], history=[found[first]])
            print(f"{name}, compared with {first}: {verdict.kind}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, nargs="?", help="a .npy file of shape (n, d)")
    parser.add_argument("reference", type=Path, nargs="?", help="the untrained network's")
    given = parser.parse_args()
    main(given.path, given.reference)
