"""The vital signs that the page shows: their names, what they mean, how they are written."""

from __future__ import annotations

from dataclasses import dataclass

from fullrank.report.numbers import count, percent, significant
from fullrank.report.record import Checkup


@dataclass(frozen=True)
class Vital:
    """One vital sign.

    Attributes:
        key: its name in the record.
        name: its name on the page.
        meaning: definition and how to read it, one or two sentences.
        range: of the vertical axis; None leaves an end to the data.
    """

    key: str
    name: str
    meaning: str
    range: tuple[float | None, float | None]

    def text(self, checkup: Checkup | None, layer: str) -> str:
        """Write its value at a check-up; the rank with its share of the largest possible one."""
        if checkup is None:
            return significant(None)
        value = significant(checkup.value(layer, self.key))
        share = checkup.value(layer, "rank_share") if self.key == "effective_rank" else None
        return value if share is None else f"{value} ({percent(share)})"


VITALS = (
    Vital(
        "spread",
        "Spread",
        "1 − ‖centre‖² of the L2-normalised rows, from 0 to 1. At 0 every image has the same "
        "representation: complete collapse.",
        (0.0, 1.0),
    ),
    Vital(
        "effective_rank",
        "Effective rank",
        "Exponential of the entropy of the normalised singular values, features centred: how many "
        "directions are in use, at most min(d, n − 1). It falls in healthy runs too.",
        (0.0, None),
    ),
    Vital(
        "cev_auc",
        "Tail (CEV-AUC)",
        "Area under the cumulative explained variance, from about 0.5 (all directions equal) to 1 "
        "(one direction holds everything).",
        (0.5, 1.0),
    ),
    Vital(
        "alignment",
        "Alignment",
        "Mean squared distance of an image's two views, L2-normalised, from 0 to 4. Small is "
        "good only while the spread is not small too.",
        (0.0, None),
    ),
)

LAYERS = {
    "backbone": ("Backbone", "h", "the features that downstream tasks use"),
    "embedding": ("Embedding", "z", "the projector's output, where the loss acts"),
}


def layer_title(layer: str) -> str:
    """Return the name of a layer as a heading."""
    return LAYERS.get(layer, (layer.capitalize(), "", ""))[0]


def conditions(checkup: Checkup | None) -> str:
    """Say under which conditions a check-up was made: step, images, mode."""
    if checkup is None:
        return "not measured"
    images = "" if checkup.n is None else f", n = {count(checkup.n)} held-out images"
    return f"step {count(checkup.step)}{images}, {checkup.mode} mode".replace(
        "calibrated mode", "calibrated"
    )


def dimensions(checkup: Checkup | None, layer: str) -> str:
    """Write the layer's dimension and the images per dimension: ``d = 128, n/d = 15.6``."""
    if checkup is None:
        return ""
    d, ratio = checkup.value(layer, "d"), checkup.value(layer, "n_over_d")
    parts = [] if d is None else [f"d = {count(d)}"]
    parts += [] if ratio is None else [f"n/d = {significant(ratio)}"]
    return ", ".join(parts)
