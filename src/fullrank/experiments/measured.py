"""What the runs of a cell showed, over seeds, and whether it is what was predicted."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fullrank.experiments.stored import LAYERS, PROBES

Agreement = Literal["agrees", "differs", "mixed", "no prediction", "not run"]

OVER_SEEDS = ("spread", "effective_rank", "cev_auc")
# The kinds that a verdict from moments can give to what was predicted. Where all images fall to
# one cluster, their embeddings have one direction.
SHOWN_AS = {"cluster collapse": ("cluster collapse", "complete collapse")}


def interval(values: Sequence[float]) -> dict[str, float | None]:
    """Return mean and 95 % confidence interval of a normal mean (Student's t).

    Args:
        values: one a seed, at least one.

    Returns:
        ``mean``, ``low`` and ``high``; the last two are None for a single value.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return {"mean": mean, "low": None, "high": None}
    from scipy.stats import t

    spread = statistics.stdev(values) / math.sqrt(len(values))
    half = float(t.ppf(0.975, len(values) - 1)) * spread
    return {"mean": mean, "low": mean - half, "high": mean + half}


def majority(kinds: Sequence[str]) -> str | None:
    """Return what more than half of the verdicts say; None if there is no such kind."""
    if not kinds:
        return None
    kind, count = Counter(kinds).most_common(1)[0]
    return kind if 2 * count > len(kinds) else None


def measured(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Sum up the runs of a cell.

    Args:
        runs: as ``fullrank.experiments.stored.read`` gives them, failed ones left out.

    Returns:
        By the embedding's verdicts ``kind`` (of more than half of them, else None) and ``counts``;
        over seeds the vital signs of the embedding, under ``backbone`` those of the backbone, and
        the gains of both probes over the random-init network, in shares. None without runs.
    """
    if not runs:
        return None
    found: dict[str, Any] = {}
    for layer in LAYERS:
        kinds = [run["verdict"][layer] for run in runs]
        of_layer: dict[str, Any] = {"kind": majority(kinds), "counts": dict(Counter(kinds))}
        for vital in OVER_SEEDS:
            of_layer[vital] = interval([run[layer][vital] for run in runs])
        if layer == "embedding":
            found |= of_layer
        else:
            found[layer] = of_layer
    for probe in PROBES:
        gains = [
            run["probe"][probe] - run["random"][probe]
            for run in runs
            if probe in run["probe"] and probe in run["random"]
        ]
        found[f"{probe}_gain"] = interval(gains) if gains else None
    return found


def agreement(predicted: str | None, found: Mapping[str, Any] | None) -> Agreement:
    """Compare the kind that was predicted with the verdicts on the embedding.

    Args:
        predicted: the kind; None if there is none.
        found: what ``measured`` returned.

    Returns:
        ``agrees`` if more than half of the runs show the kind, ``differs`` if at most half do and
        another has the majority, ``mixed`` if none has.
    """
    if not found:
        return "not run"
    if predicted is None:
        return "no prediction"
    counts = found["counts"]
    as_predicted = sum(counts.get(kind, 0) for kind in SHOWN_AS.get(predicted, (predicted,)))
    if 2 * as_predicted > sum(counts.values()):
        return "agrees"
    return "differs" if found["kind"] is not None else "mixed"
