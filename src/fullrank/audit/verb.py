"""The audit: what is pointed at is measured layer by layer, judged, and ranked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast, get_args

from fullrank.audit.drifted import drift_between
from fullrank.audit.measured import Layer, measure_subject
from fullrank.audit.probed import probe_layer
from fullrank.audit.ranking import CRITERIA, DEFAULT, Ranked, rank
from fullrank.audit.subject import Options, Subject
from fullrank.errors import UserError, unknown_name
from fullrank.measure.stream import Precision
from fullrank.measure.table import Conventions, Reading
from fullrank.measure.verdict import Verdict, judge
from fullrank.measure.verdict_alone import judge_alone
from fullrank.measure.vitals import VitalSigns
from fullrank.measure.wide import WideRows

# The evidence of a single image is that there is none.
ALONE = "One image alone: that nothing varies between images is no finding."
Announce = Callable[[str], None]


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
    """

    what: str
    kind: str
    layers: dict[str, LayerAudit]

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
    """

    audits: list[Audit]
    ranking: list[Ranked] = field(default_factory=list)
    criterion: str = DEFAULT
    drift: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any] | list[dict[str, Any]]:
        """Return one object, or a list for several with each one's ``rank``."""
        found = [audit.to_dict() for audit in self.audits]
        places = {ranked.what: ranked.to_dict() for ranked in self.ranking}
        for one in found:
            if one["what"] in places:
                one["rank"] = {"by": self.criterion, **places[one["what"]]}
            drift = [row for row in self.drift if row["to"] == one["what"]]
            if drift:
                one["drift"] = drift
        return found[0] if len(found) == 1 else found


def audit(
    whats: Sequence[str],
    options: Options | None = None,
    *,
    conventions: Conventions | None = None,
    reference: str | None = None,
    rank_by: str = DEFAULT,
    drift: bool = False,
    convergence_too: bool = False,
    sample: int = 4096,
    precision: str = "auto",
    announce: Announce | None = None,
) -> Audits:
    """Measure, judge and rank what exists already.

    Args:
        whats: embedding files, run folders, checkpoints, or models by name.
        options: how to read and show them.
        conventions: constants of the metrics' definitions.
        reference: what to compare with in place of a model's own untrained twin: read with the
            same options.
        rank_by: the criterion of the ranking.
        drift: compare the layers of every later WHAT with the first one's, image by image.
        convergence_too: show how each value moves with the number of images.
        sample: rows drawn at random for what needs pairs; 0 leaves these metrics out.
        precision: of the products of a file's rows: ``auto``, ``float32`` or ``float64``.
        announce: is told what is being done, a line at a time.

    Returns:
        What was found, in the order given.

    Raises:
        UserError: there is nothing to audit, or something cannot be read as asked.
    """
    from fullrank.audit.open import open_subject

    if not whats:
        raise UserError("what: none given; name a file, a run folder, a checkpoint or a model.")
    if len(set(whats)) < len(whats):
        raise UserError("what: the same one given twice. Allowed: each one once.")
    for argument, given, allowed in (
        ("rank_by", rank_by, tuple(CRITERIA)),
        ("precision", precision, get_args(Precision)),
    ):
        if given not in allowed:
            raise unknown_name(argument, given, allowed)
    if sample < 0:
        raise UserError(f"sample: {sample} given. Allowed: 0 or more.")
    if drift and len(whats) == 1:
        raise UserError("drift: one WHAT given, and nothing to compare it with. Allowed: several.")
    options = options or Options()
    conventions = conventions or Conventions()
    _check(conventions)
    products = cast(Precision, precision)
    tell = announce or (lambda _: None)
    subjects = [open_subject(what, options) for what in whats]
    fixed = None
    if reference is not None:
        tell(f"measuring the reference {reference}")
        fixed = _vitals(open_subject(reference, options), products, options.seed)
    audits, samples = [], []
    for subject in subjects:
        tell(f"measuring {subject.what}")
        layers = measure_subject(subject, sample, products, options.seed)
        compared = fixed
        if fixed is not None and not fixed.keys() & layers.keys():
            raise UserError(
                f"reference: {reference} has {', '.join(fixed)} and {subject.what} has "
                f"{', '.join(layers)}. Allowed: a layer of the same name in both."
            )
        twin = subject.reference() if fixed is None else None
        if twin is not None:
            tell(f"measuring the untrained twin of {subject.what}")
            compared = _vitals(twin, products, options.seed)
        audits.append(
            Audit(
                subject.what,
                subject.kind,
                {
                    name: _layer_audit(
                        name, layer, subject, conventions, compared, convergence_too, options.seed
                    )
                    for name, layer in layers.items()
                },
            )
        )
        samples.append({name: (layer.rows, layer.index) for name, layer in layers.items()})
    ranking = []
    if len(audits) > 1:
        ranking = rank(
            [(a.what, a.main.metrics, a.main.verdict.kind == "complete collapse") for a in audits],
            rank_by,
        )
    drifted = drift_between([a.what for a in audits], samples) if drift else []
    return Audits(audits, ranking, rank_by, drifted)


def _check(conventions: Conventions) -> None:
    """Refuse constants that no metric can be computed with, before anything is read."""
    first, end = conventions.alpha_range
    if not 0 <= first < end - 1:
        raise UserError(
            f"alpha_range: {first} {end} given. Allowed: 0 <= FIRST, and at least two eigenvalues "
            "up to END."
        )
    delta = conventions.lidar_delta
    if not 0 < delta < math.inf:
        raise UserError(f"lidar_delta: {delta:g} given. Allowed: a finite number above 0.")


def _vitals(subject: Subject, precision: Precision, seed: int) -> dict[str, VitalSigns]:
    layers = measure_subject(subject, 0, precision, seed)
    return {name: layer.vitals() for name, layer in layers.items()}


def _layer_audit(
    name: str,
    layer: Layer,
    subject: Subject,
    conventions: Conventions,
    reference: Mapping[str, VitalSigns] | None,
    convergence_too: bool,
    seed: int,
) -> LayerAudit:
    moments, vitals = layer.moments, layer.vitals()
    readings = layer.table(conventions, seed)
    nearest = readings.get("nearest_ratio")
    before = None if reference is None else reference.get(name)
    verdict = (
        judge_alone(vitals, None if nearest is None else nearest.value)
        if before is None
        else judge(vitals, [before])
    )
    if moments.count == 1:
        verdict = replace(verdict, evidence=(*verdict.evidence, ALONE))
    described = {
        **subject.conventions,
        "n": moments.count,
        "d": moments.dim,
        "n_over_d": moments.count / moments.dim,
        "views": moments.views,
        "spectrum": f"sketch of {moments.sketch.size}"
        if isinstance(moments, WideRows)
        else "exact",
        "precision": layer.precision,
        "sampled_rows": 0 if layer.rows is None else len(layer.rows),
        **conventions.to_dict(),
    }
    labels = subject.labels
    return LayerAudit(
        layer=name,
        n=moments.count,
        d=moments.dim,
        conventions=described,
        vitals=vitals,
        metrics=readings,
        verdict=verdict,
        probes={} if labels is None or layer.rows is None else probe_layer(layer, labels),
        convergence=layer.convergence(conventions) if convergence_too else {},
    )


def _plain(value: Any) -> Any:
    """Return a value as JSON would give it back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)
