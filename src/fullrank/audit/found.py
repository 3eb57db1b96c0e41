"""What an audit found: of each layer, of each WHAT, and of all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fullrank.audit.ranking import DEFAULT, Ranked
from fullrank.audit.unfinished import Failure
from fullrank.measure.forecast import Forecast
from fullrank.measure.table import Reading
from fullrank.measure.verdict import Verdict
from fullrank.measure.vitals import VitalSigns


@dataclass(frozen=True)
class LayerAudit:
    """What an audit found about one layer.

    Attributes:
        layer: its name.
        n: images (or rows of a file).
        d: dimensions.
        conventions: how the rows came about and how the numbers were computed.
        vitals: vital signs.
        metrics: every metric by name, with error bars.
        verdict: what they amount to.
        probes: accuracies with labels, by kind; empty without labels.
        convergence: by metric, ``(images, value)`` pairs; empty unless asked for.
    """

    layer: str
    n: int
    d: int
    conventions: dict[str, Any]
    vitals: VitalSigns
    metrics: dict[str, Reading]
    verdict: Verdict
    probes: dict[str, dict[str, Any]] = field(default_factory=dict)
    convergence: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        found: dict[str, Any] = {
            "layer": self.layer,
            "n": self.n,
            "d": self.d,
            "conventions": _plain(self.conventions),
            "vitals": {k: v for k, v in self.vitals.items() if isinstance(v, int | float)},
            "metrics": {name: reading.to_dict() for name, reading in self.metrics.items()},
            "spectrum": self.vitals["spectrum"],
        }
        if self.probes:
            found["probes"] = self.probes
        if self.convergence:
            found["convergence"] = _plain(self.convergence)
        return found


@dataclass(frozen=True)
class Audit:
    """What an audit found about one WHAT.

    Attributes:
        what: as it was named.
        kind: ``embeddings``, ``run``, ``checkpoint`` or ``model``.
        layers: by name, taps in the order of the network, then its backbone and embedding.
        forecast: of the probe accuracy of the main layer; None where rows are no samples.
    """

    what: str
    kind: str
    layers: dict[str, LayerAudit]
    forecast: Forecast | None = None

    @property
    def main(self) -> LayerAudit:
        """The layer that stands for the whole: a file's features, a model's backbone."""
        return self.layers.get("backbone") or next(iter(self.layers.values()))

    @property
    def verdict(self) -> dict[str, Verdict]:
        """The verdict of every layer."""
        return {name: layer.verdict for name, layer in self.layers.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON: the main layer's, and all under ``layers``."""
        found = {"what": self.what, "kind": self.kind, **self.main.to_dict()}
        found["verdict"] = {name: verdict.to_dict() for name, verdict in self.verdict.items()}
        if self.forecast is not None:
            found["forecast"] = self.forecast.to_dict()
        if len(self.layers) > 1:
            found["layers"] = {name: layer.to_dict() for name, layer in self.layers.items()}
        return found


@dataclass(frozen=True)
class Audits:
    """What was found about everything that was pointed at.

    Attributes:
        audits: one each, in the order given.
        ranking: best first; empty for a single one.
        criterion: what they were ranked by.
        drift: a row for each pair with rows of the same images, and each layer of both.
        failures: what was asked for and could not be done.
    """

    audits: list[Audit]
    ranking: list[Ranked] = field(default_factory=list)
    criterion: str = DEFAULT
    drift: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any] | list[dict[str, Any]]:
        """Return one object, or a list for several, in the order given, with each one's ``rank``.

        What could not be measured has its place in the list: ``{"what": ..., "error": ...}``. What
        else could not be done stands under ``not_done`` of those that it concerns.
        """
        found = [audit.to_dict() for audit in self.audits]
        places = {ranked.what: ranked.to_dict() for ranked in self.ranking}
        for one in found:
            if one["what"] in places:
                one["rank"] = {"by": self.criterion, **places[one["what"]]}
            drift = [row for row in self.drift if row["to"] == one["what"]]
            if drift:
                one["drift"] = drift
            not_done = [
                failure.error
                for failure in self.failures
                if failure.place is None and failure.what in (None, one["what"])
            ]
            if not_done:
                one["not_done"] = not_done
        unmeasured = [(f.place, f) for f in self.failures if f.place is not None]
        for place, failure in sorted(unmeasured, key=lambda pair: pair[0]):
            found.insert(place, {"what": failure.what, "error": failure.error})
        return found[0] if len(found) == 1 else found


def _plain(value: Any) -> Any:
    """Return a value as JSON would give it back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)
