"""A verdict on features that come alone: no network of random weights, no history.

With nothing to compare with, the reference is what the features themselves could be: data of as
many rows that fill every dimension evenly. Real features never do, so the limits below are far
from it, and call only what no healthy representation shows. Give a reference where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fullrank.measure.verdict import Kind, Verdict, leading

# All rows within 8 degrees of one direction. Trained collapses end at 0.0008 to 0.0044
# (docs/evidence/fashion-mnist.md), random networks of ReLUs at 0.03 and more.
SPREAD = 0.01
# Two witnesses, as with a reference: order 1 (the tail) and order 2 (the leading directions).
RANK_SHARE = 1 / 8
# Or more than half of all directions are exactly empty.
HARD_SHARE = 1 / 2
# Singular values that fall as 1/j give 0.85 in 512 dimensions, as 1/sqrt(j) 0.67; the published
# spectra of SimSiam are 0.61 (healthy), 0.84 and 0.87 (partially collapsed).
TAIL = 0.8
# The nearest other row lies this much closer than rows lie from each other: rows are copies of
# a few points. 4,096 rows spread over k dimensions have about 4,096^(-1/k), 0.06 for k = 3, so
# that the test means nothing below that rank.
NEAREST = 0.005
NEAREST_RANK = 4

REFERENCE = "none given: compared with rows that fill every dimension evenly"


def judge_alone(current: Mapping[str, Any], nearest_ratio: float | None = None) -> Verdict:
    """Judge features by themselves.

    Args:
        current: their vital signs (``fullrank.measure.vitals.VitalSigns``).
        nearest_ratio: median distance to the nearest other row over the root mean squared
            distance (``nearest_ratio`` of the pair table), where known.

    Returns:
        The verdict. Complete collapse is tested first, because rank is blind to it.
    """
    spread, d = float(current["spread"]), int(current["d"])
    rank, ratio = float(current["effective_rank"]), float(current["participation_ratio"])
    share, tail = float(current["rank_share"]), float(current["cev_auc"])
    most = rank / share if share > 0 else 0.0
    kind: Kind
    if spread < SPREAD:
        kind = "complete collapse"
        evidence: tuple[str, ...] = (
            f"The spread is {spread:.2g}: all rows have nearly one direction (below {SPREAD:g} is "
            "complete collapse; rows spread evenly have 1).",
        )
    elif nearest_ratio is not None and nearest_ratio < NEAREST and rank >= NEAREST_RANK:
        kind = "cluster collapse"
        evidence = (
            f"Half of the rows have another at {nearest_ratio:.2g} times the typical distance of "
            f"two rows (below {NEAREST:g}): the rows are copies of a few points.",
            f"The spread is {spread:.3f}, the effective rank {rank:.1f} of {d}.",
        )
    elif most > 1 and int(current["hard_rank"]) <= HARD_SHARE * most:
        kind = "dimensional collapse"
        evidence = (
            f"{current['hard_rank']} of {most:.0f} directions vary at all: the others have a "
            f"millionth of the first one's deviation, or less. {leading(current)}",
            f"The effective rank is {rank:.1f}, the participation ratio {ratio:.1f} of {d}; the "
            f"spread, {spread:.3f}, does not show it.",
        )
    elif most > 1 and share < RANK_SHARE and ratio < RANK_SHARE * most:
        kind = "dimensional collapse"
        evidence = (
            f"The effective rank is {rank:.1f} and the participation ratio {ratio:.1f} of {d}: "
            f"both below {RANK_SHARE:.0%} of what {current['n']} rows could fill. "
            f"{leading(current)}",
            f"The spread, {spread:.3f}, does not show it.",
        )
    elif most >= 16 and tail > TAIL:
        kind = "partial dimensional collapse"
        evidence = (
            f"The cumulative explained variance has area {tail:.3f} (above {TAIL:g}; an even "
            f"spectrum has {(most + 1) / (2 * most):.3f}): the tail of the spectrum is empty. "
            f"{leading(current)}",
            f"The effective rank is {rank:.1f}, the participation ratio {ratio:.1f} of {d}.",
        )
    else:
        kind = "healthy"
        evidence = (
            f"The spread is {spread:.3f} (complete collapse is below {SPREAD:g}).",
            f"The effective rank is {rank:.1f} of {d}, the participation ratio {ratio:.1f}. "
            f"{leading(current)}",
            f"The cumulative explained variance has area {tail:.3f}.",
        )
    if current["n_over_d"] < 5:
        evidence += (
            f"Only {current['n']} rows measure {d} dimensions: rank and tail are biased towards "
            "collapse.",
        )
    return Verdict(kind, evidence, REFERENCE)
