"""What a verdict means and where to look next, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fullrank.report.compare import mechanisms, missing_mechanisms
from fullrank.report.events import mapping, number, texts
from fullrank.report.numbers import count, percent, points
from fullrank.report.record import RunRecord

# Kind of verdict -> its look on the page. The order is that of severity.
LOOKS = {
    "healthy": "healthy",
    "partial dimensional collapse": "dimensional",
    "dimensional collapse": "dimensional",
    "cluster collapse": "cluster",
    "complete collapse": "complete",
}

_EMBEDDING = {
    "healthy": "The embedding keeps images apart and uses many directions.",
    "complete collapse": "The embedding sends every image to almost the same point. Read its "
    "spread: the effective rank is centred, so it only describes what is left around that point.",
    "dimensional collapse": "The embedding still varies from image to image, but along a few "
    "directions only; the others carry almost nothing. The standard deviation per dimension does "
    "not show this. The spectrum does: look for its steep fall.",
}
_BACKBONE = {
    "healthy": "The backbone, which is what downstream tasks use, has not collapsed.",
    "complete collapse": "The backbone, which is what downstream tasks use, gives every image "
    "almost the same features.",
    "dimensional collapse": "The backbone, which is what downstream tasks use, has lost most of "
    "its directions: compare its spectrum with the random-init network's.",
}
_STUCK = (
    "A constant answers this objective as well as anything, so training longer rarely helps: the "
    "method has to change."
)
_ABSORBED = (
    "The backbone, which is what downstream tasks use, still tells images apart: the heads took "
    "the collapse. But a collapsed embedding asks little of the backbone; do not expect it to "
    "improve."
)


@dataclass(frozen=True)
class Verdict:
    """A verdict on one layer, as the page shows it.

    Attributes:
        kind: in words, ``not judged yet`` while there is none.
        look: ``healthy``, ``dimensional``, ``cluster``, ``complete`` or ``none``.
        evidence: sentences.
        reference: what it was compared with.
    """

    kind: str
    look: str
    evidence: list[str]
    reference: str


def verdict_on(record: RunRecord, layer: str) -> Verdict:
    """Return the run's verdict on one layer."""
    verdict = mapping(record.verdict.get(layer))
    kind = str(verdict.get("kind") or "not judged yet")
    return Verdict(
        kind=kind,
        look=LOOKS.get(kind, "none"),
        evidence=texts(verdict.get("evidence")),
        reference=str(verdict.get("reference") or ""),
    )


def loss_at_collapse(record: RunRecord) -> str:
    """Return the sentence on a loss that sits where a constant representation has it, or ''."""
    loss = mapping(record.verdict.get("loss"))
    return str(loss.get("text") or "") if loss.get("at_collapsed_value") is True else ""


def status_sentence(record: RunRecord) -> str:
    """Say how the run ended, or '' for one that went to its end."""
    stated = number(record.ending.get("step"))
    step = f"at step {count(record.last_step if stated is None else stated)}"
    text = str(record.ending.get("text") or "").strip().rstrip(".")
    if record.status == "stopped":
        return f"Stopped {step}: {text}." if text else f"Stopped {step}."
    if record.status == "interrupted":
        return f"Interrupted {step}: {text}." if text else f"Interrupted {step}."
    if record.status == "unfinished":
        return f"Not finished: the record ends {step}."
    return ""


def meaning(record: RunRecord) -> list[str]:
    """Say what a run's verdicts and probes mean, a few sentences in order of weight."""
    if not record.verdict:
        said = "There is no verdict yet; it is given when a run ends."
        return [said if record.checkups else f"{said} No check-up has been made so far."]
    embedding, backbone = (verdict_on(record, layer).kind for layer in ("embedding", "backbone"))
    sentences = [_EMBEDDING.get(embedding, f"The embedding: {embedding}.")]
    if loss_at_collapse(record):
        sentences.append(_STUCK)
    if backbone == "healthy" and embedding != "healthy":
        sentences.append(_ABSORBED)
    else:
        sentences.append(_BACKBONE.get(backbone, f"The backbone: {backbone}."))
    if embedding == backbone == "healthy":
        sentences.append(
            "Where the rank is below the random-init network's, that alone is no alarm: a network "
            "that learns drops what its two views do not share."
        )
    return [*sentences, *_probe_sentences(record)]


def reasons(records: Sequence[RunRecord], labels: Sequence[str]) -> list[str]:
    """Say which mechanisms hold runs up and which collapsed ones lack, from their recipes."""
    sentences = []
    missing = missing_mechanisms(records)
    for record, label, lacks in zip(records, labels, missing, strict=True):
        kinds = {verdict_on(record, layer).kind for layer in ("embedding", "backbone")}
        if not kinds & set(LOOKS) - {"healthy"}:
            continue
        relevant = [(m, c) for m, c in lacks if any(c and c in kind for kind in kinds)]
        for mechanism, collapse in relevant:
            having = [
                other_label
                for other, other_label in zip(records, labels, strict=True)
                if (mechanism, collapse) in mechanisms(other)
            ]
            sentences.append(
                f"{label} lacks what prevents {collapse} collapse in {_listed(having)}: "
                f"{mechanism}."
            )
        if not relevant and not mechanisms(record):
            sentences.append(f"Nothing in {label} is known to prevent collapse.")
    return sentences


def _probe_sentences(record: RunRecord) -> list[str]:
    """Compare the probes with those of the random-init network."""
    names = {"knn": "kNN", "linear": "linear probe"}
    parts: list[str] = []
    gains: list[float] = []
    for key, name in names.items():
        run, reference = number(record.probe.get(key)), number(record.reference_probe.get(key))
        if run is not None and reference is not None:
            parts.append(f"{name} {percent(run)}, {points(run, reference)}")
            gains.append(run - reference)
    if not parts:
        return []
    against = f"measured against the random-init network ({'; '.join(parts)})."
    if min(gains) > 0:
        return [f"Its features serve these labels better than an untrained network's do, {against}"]
    if max(gains) <= 0:
        return [f"Its features serve these labels no better than an untrained network's, {against}"]
    return [f"The probes disagree on whether it has learned, {against}"]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def probe_conditions(probe: Mapping[str, Any]) -> str:
    """Say how the probes were made, as far as the record does."""
    k, n_train, n_test = (number(probe.get(key)) for key in ("k", "n_train", "n_test"))
    parts = []
    if n_train is not None:
        parts.append(f"trained on n = {n_train:,.0f}")
    if n_test is not None:
        parts.append(f"tested on n = {n_test:,.0f} images")
    if k is not None:
        parts.append(f"kNN with k = {k:,.0f}")
    return ", ".join(parts)
