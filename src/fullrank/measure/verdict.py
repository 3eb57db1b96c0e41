"""From vital signs to a verdict that quotes its evidence and its reference.

No absolute number decides. What a layer shows is compared with what the same layer has shown: the
random-init network (batch norm calibrated), or the run's own peak where that is higher. Rank falls
in every healthy run, to a quarter or a half of the random network's; so a fall alone is no alarm.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal[
    "healthy",
    "complete collapse",
    "dimensional collapse",
    "partial dimensional collapse",
    "cluster collapse",
]

# Shares of the reference below which a layer counts as collapsed, set between what collapsed and
# healthy runs of the five first recipes show on Fashion-MNIST (docs/evidence/verdict-margins.md).
SPREAD_SHARE = 1 / 4
RANK_SHARE = 1 / 6

# A loss this close to the collapsed value, as a share of its own range, sits there.
LOSS_SHARE = 0.01


@dataclass(frozen=True)
class Verdict:
    """What a layer's vital signs amount to.

    Attributes:
        kind: what it is; partial dimensional and cluster collapse are told from a layer alone
            (``fullrank.measure.verdict_alone``), not yet against a reference.
        evidence: the numbers that decided, one sentence each.
        reference: what they were compared with.
    """

    kind: Kind
    evidence: tuple[str, ...]
    reference: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the record."""
        return asdict(self) | {"evidence": list(self.evidence)}


def judge(current: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Verdict:
    """Judge one layer.

    Complete collapse is tested first, because rank is blind to it: the spread of the unit rows is
    below a quarter of the reference's. Dimensional collapse needs two witnesses, both below a
    sixth of their references: the effective rank (order 1, on singular values: sees the tail) and
    the participation ratio (order 2, on variances: sees the leading directions). A healthy run may
    lose much of either one, not of both.

    Args:
        current: the layer's vital signs now (``fullrank.measure.vitals.VitalSigns``).
        history: its earlier vital signs, the random-init network first.

    Returns:
        The verdict.
    """
    spread = _compare("spread", current, history)
    rank = _compare("effective_rank", current, history)
    ratio = _compare("participation_ratio", current, history)
    if spread.share < SPREAD_SHARE:
        kind: Kind = "complete collapse"
        evidence: tuple[str, ...] = (
            f"The spread is {spread.value:.2g}: all images have nearly one direction; "
            f"{spread.words} (below {SPREAD_SHARE:.0%} is complete collapse).",
            f"The effective rank, {rank.value:.1f} of {current['d']}, is that of what little "
            "varies around the common direction.",
        )
    elif rank.share < RANK_SHARE and ratio.share < RANK_SHARE:
        kind = "dimensional collapse"
        evidence = (
            f"The effective rank is {rank.value:.1f} of {current['d']}, and the participation "
            f"ratio {ratio.value:.2f}. {leading(current)}",
            f"{rank.words}; {ratio.words} (both below {RANK_SHARE:.0%} is dimensional collapse).",
            f"The spread, {spread.value:.3f}, and a standard deviation of {current['std']:.2f} "
            "times that of a uniform sphere do not show it.",
        )
    else:
        kind = "healthy"
        evidence = (
            f"The spread is {spread.value:.3f}; {spread.words}.",
            f"The effective rank is {rank.value:.1f} of {current['d']}; {rank.words}.",
            f"The participation ratio is {ratio.value:.1f}; {ratio.words}. {leading(current)}",
        )
    if current["n_over_d"] < 5:
        evidence += (
            f"Only {current['n']} images measure {current['d']} dimensions: the rank is biased "
            "low, here and in the reference alike.",
        )
    return Verdict(kind, evidence, spread.reference)


@dataclass(frozen=True)
class _Comparison:
    value: float
    share: float
    words: str
    reference: str


def _compare(
    name: str, current: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
) -> _Comparison:
    """Compare a vital sign with the random-init network's, or with the peak where it is higher."""
    value = float(current[name])
    seen = [float(past[name]) for past in history] or [value]
    start, peak = seen[0], max(seen)
    # A peak barely above the start is the start.
    reference, label = (start, "random-init network") if peak <= 1.1 * start else (peak, "peak")
    share = value / reference if reference > 0 else 1.0
    whose = "the random-init network's" if label == "random-init network" else "the run's own peak,"
    return _Comparison(
        value,
        share,
        f"{share:.2%} of {whose} {reference:.3g}"
        if share < 0.01
        else f"{share:.0%} of {whose} {reference:.3g}",
        "random-init network (batch norm calibrated)"
        if label == "random-init network"
        else "the run's own peak",
    )


def leading(current: Mapping[str, Any]) -> str:
    """Say how much of the variance the first direction holds."""
    variances = [float(s) ** 2 for s in current["spectrum"]]
    total = sum(variances)
    share = variances[0] / total if total > 0 else 1.0
    return f"One direction holds {share:.0%} of the variance."


def judge_loss(
    losses: Sequence[float | None], collapsed_loss: float | None
) -> dict[str, Any] | None:
    """Say whether a loss sits where a constant representation would put it.

    Args:
        losses: of a run, in order; None where one was not finite.
        collapsed_loss: the loss of a constant embedding; None if it has none.

    Returns:
        ``{"at_collapsed_value": bool, "text": str}``, or None without losses. The level is the
        median of the last twentieth of the losses; it sits at the value if it is closer than 1 %
        of the larger of the value itself and the distance that the loss started at.
    """
    finite = [loss for loss in losses if loss is not None]
    if not finite or collapsed_loss is None:
        return None
    level = statistics.median(finite[-max(1, len(finite) // 20) :])
    scale = max(abs(collapsed_loss), abs(finite[0] - collapsed_loss))
    sits = abs(level - collapsed_loss) <= LOSS_SHARE * scale
    relation = "which is where it sits" if sits else "and it does not sit there"
    return {
        "at_collapsed_value": sits,
        "text": f"the loss is {level:.4g}; a constant representation gives {collapsed_loss:.4g}, "
        f"{relation}",
    }
