"""What a metric is, as plain data: ``fullrank metrics`` lists it. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Family = Literal[
    "spectrum", "views", "pairs", "prototypes", "predictor", "gradient", "tokens", "drift", "labels"
]


@dataclass(frozen=True)
class About:
    """What a metric measures, and when not to trust it.

    Attributes:
        name: as in the JSON of an audit.
        family: what it is computed from.
        measures: what it says, in one sentence.
        on: its conventions: which rows or spectrum, centred or not, row-normalised or not.
        range: its smallest and largest value.
        healthy: which direction is healthy.
        source: the paper.
        fails: when it misleads, in one sentence.
        function: where it is computed, ``module.function``.
    """

    name: str
    family: Family
    measures: str
    on: str
    range: str
    healthy: Literal["higher", "lower", "neither", "near 1"]
    source: str
    fails: str
    function: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)
