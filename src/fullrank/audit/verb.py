"""The audit: what is pointed at is measured layer by layer, judged, and ranked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast, get_args

from fullrank.audit.drifted import Drawn, WithTokens, drawn, drift_between
from fullrank.audit.found import Audit, Audits, LayerAudit
from fullrank.audit.measured import Layer, measure_subject
from fullrank.audit.probed import no_probe, probe_layer
from fullrank.audit.ranking import CRITERIA, DEFAULT, rank
from fullrank.audit.subject import Options, Subject
from fullrank.audit.unfinished import Attempts, AuditError, AuditInterrupted
from fullrank.errors import UserError, unknown_name
from fullrank.measure.forecast import Forecast, forecast
from fullrank.measure.stream import Precision
from fullrank.measure.table import Conventions, Reading
from fullrank.measure.verdict import judge
from fullrank.measure.verdict_alone import judge_alone
from fullrank.measure.vitals import VitalSigns
from fullrank.measure.wide import WideRows, left_out_of_wide, wide_rankme

__all__ = ["Announce", "Audit", "Audits", "LayerAudit", "audit"]

# The evidence of a single image is that there is none.
ALONE = "One image alone: that nothing varies between images is no finding."
Announce = Callable[[str], None]


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
        AuditError: a ``UserError``: of several, some could not be measured, or something beside
            the measurement (ranking, drift, reference) could not be done. What could is attached.
        AuditInterrupted: a ``KeyboardInterrupt`` after something was measured, which is attached.
        UserError: there is nothing to audit, a single one cannot be read as asked, or an argument
            is not allowed.
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
    attempts = Attempts(whats, tell)
    subjects: dict[int, Subject] = {}
    for place, what in enumerate(whats):
        with attempts.at(what, place):
            subjects[place] = open_subject(what, options)
    fixed = None
    if reference is not None:
        tell(f"measuring the reference {reference}")
        fixed = _vitals(open_subject(reference, options), products, options.seed)
    audits: list[Audit] = []
    first: Drawn | None = None
    found = Audits(audits, criterion=rank_by, failures=attempts.failures)
    try:
        for place, opened in subjects.items():
            subject = WithTokens(opened, options.seed) if drift else opened
            with attempts.at(subject.what, place):
                tell(f"measuring {subject.what}")
                layers = measure_subject(subject, sample, products, options.seed)
                compared = fixed
                with attempts.at(subject.what):
                    if fixed is None:
                        compared = _twin(subject, products, options.seed, tell)
                    elif not fixed.keys() & layers.keys():
                        raise UserError(
                            f"reference: {reference} has {', '.join(fixed)} and {subject.what} has "
                            f"{', '.join(layers)}. Allowed: a layer of the same name in both."
                        )
                audited = {
                    name: _layer_audit(
                        name, layer, subject, conventions, compared, convergence_too, options.seed
                    )
                    for name, layer in layers.items()
                }
                found_one = Audit(subject.what, subject.kind, audited)
                audits.append(replace(found_one, forecast=_forecast(opened, found_one.main)))
                if drift and place == 0:
                    first = drawn(subject, layers)
                elif drift:
                    with attempts.at(subject.what):
                        if first is None:
                            raise UserError(
                                f"drift: {whats[0]}, to compare with, could not be measured."
                            )
                        found.drift.extend(drift_between(first, drawn(subject, layers)))
        if len(audits) > 1:
            with attempts.at(None):
                found.ranking.extend(rank([_criteria(a) for a in audits], rank_by))
    except KeyboardInterrupt:
        if not audits:
            raise
        attempts.interrupted(len(audits))
        raise AuditInterrupted(found) from None
    if attempts.failures:
        raise AuditError(found, attempts.unexpected) from attempts.unexpected
    return found


def _twin(
    subject: Subject, precision: Precision, seed: int, tell: Announce
) -> dict[str, VitalSigns] | None:
    """Return the vital signs of the untrained twin, where there is one."""
    twin = subject.reference()
    if twin is None:
        return None
    tell(f"measuring the untrained twin of {subject.what}")
    return _vitals(twin, precision, seed)


def _criteria(audit: Audit) -> tuple[str, dict[str, Reading], bool]:
    return audit.what, audit.main.metrics, audit.main.verdict.kind == "complete collapse"


def _forecast(subject: Subject, layer: LayerAudit) -> Forecast | None:
    """Forecast the probe accuracy of the main layer, whose rows must be held-out samples."""
    said = layer.conventions
    if said.get("level") != "sample" or said.get("split", "test") != "test":
        return None
    return forecast(layer.vitals, subject.data_key)


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
    if isinstance(moments, WideRows):
        readings["rankme"] = wide_rankme(moments, conventions.rankme_epsilon)
        readings |= left_out_of_wide(moments.views)
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
    probes = {} if labels is None else probe_layer(layer, labels)
    if labels is not None and not probes:
        described["probes"] = f"none: {no_probe(layer, labels)}"
    if convergence_too and isinstance(moments, WideRows):
        described["convergence"] = "none: not for rows this wide, which are sketched once"
    return LayerAudit(
        layer=name,
        n=moments.count,
        d=moments.dim,
        conventions=described,
        vitals=vitals,
        metrics=readings,
        verdict=verdict,
        probes=probes,
        convergence=layer.convergence(conventions) if convergence_too else {},
    )
