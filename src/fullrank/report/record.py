"""A run folder, read: what was run, its check-ups, its steps, its verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fullrank.errors import UserError
from fullrank.report.events import (
    by_step,
    current,
    last_of,
    mapping,
    number,
    read_lines,
    split_reference,
    step_of,
)

RECORD = "record.jsonl"
CONFIG = "config.yaml"


@dataclass(frozen=True)
class Checkup:
    """One measurement of a fixed held-out set.

    Attributes:
        step: the training step after which it was made; 0 is before training.
        mode: how the network was evaluated, in words.
        n: held-out images measured, or None where the record does not say.
        seconds: what it cost.
        layers: layer name (``backbone``, ``embedding``) to the numbers measured there.
        probe: accuracy by probe (``knn``, ``linear``) in [0, 1]; empty when not asked for.
    """

    step: int
    mode: str
    n: int | None
    seconds: float | None
    layers: Mapping[str, Mapping[str, Any]]
    probe: Mapping[str, float]

    @classmethod
    def read(cls, event: Mapping[str, Any]) -> Checkup:
        """Read one from a line of the record; what is missing or malformed is None or empty."""
        n = number(event.get("n"))
        layers = mapping(event.get("layers"))
        return cls(
            step=step_of(event) or 0,
            mode=str(event.get("mode") or "eval"),
            n=None if n is None else int(n),
            seconds=number(event.get("seconds")),
            layers={str(name): mapping(layer) for name, layer in layers.items()},
            probe=_accuracies(event.get("probe")),
        )

    def value(self, layer: str, vital: str) -> float | None:
        """Return one vital sign of one layer, or None where it was not measured or not finite."""
        return number(self.layers.get(layer, {}).get(vital))

    def spectrum(self, layer: str) -> list[float]:
        """Return the singular values of one layer, descending; empty when there are none."""
        values = self.layers.get(layer, {}).get("spectrum")
        if not isinstance(values, list):
            return []
        finite = (number(value) for value in values)
        return sorted((value for value in finite if value is not None), reverse=True)


@dataclass(frozen=True)
class RunRecord:
    """Everything that a report shows of one run.

    Attributes:
        path: the run folder.
        start: the first line: recipe, data, sizes, environment.
        config_text: ``config.yaml`` as it stands.
        config: the same, parsed; empty when it is not a YAML mapping.
        reference: the check-up of the random-init network, batch norm calibrated.
        checkups: those of the run, by step, each step once.
        steps: the ``step`` events, by step, each step once.
        probe: the run's last probe (``knn``, ``linear``, ``k``, ``n_train``, ...), or empty.
        reference_probe: the same of the random-init network.
        verdict: the ``verdict`` event, or empty while there is none.
        status: ``finished``, ``interrupted``, ``stopped`` or ``unfinished``.
        ending: the event that says so; empty for ``unfinished``.
        warnings: what the run warned of, in words.
        unreadable: lines that were not JSON objects and were left out.
        encoder: ``encoder.json``, or empty.
        views: ``views.png``, or None.
        modes: the ``modes`` events, by step, each step once; none of runs without a theory.
        forecast: the ``forecast`` event, or empty: of runs of before there was any, too.
    """

    path: Path
    start: Mapping[str, Any]
    config_text: str
    config: Mapping[str, Any]
    reference: Checkup | None
    checkups: list[Checkup]
    steps: list[Mapping[str, Any]]
    probe: Mapping[str, Any]
    reference_probe: Mapping[str, Any]
    verdict: Mapping[str, Any]
    status: str
    ending: Mapping[str, Any]
    warnings: list[str] = field(default_factory=list)
    unreadable: int = 0
    encoder: Mapping[str, Any] = field(default_factory=dict)
    views: bytes | None = None
    modes: list[Mapping[str, Any]] = field(default_factory=list)
    forecast: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> RunRecord:
        """Read a run folder.

        Args:
            path: the folder, with ``record.jsonl`` and ``config.yaml`` in it.

        Returns:
            The record; a run that has only begun has no check-ups and no verdict.

        Raises:
            UserError: the folder does not exist, cannot be read, or is not a run; the message says
                what is missing.
        """
        folder = Path(path)
        _require_run(folder)
        try:
            lines, unreadable = read_lines(folder / RECORD)
            config_text = (folder / CONFIG).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise UserError(
                f"runs: cannot read {error.filename!r}: {error.strerror or error}."
            ) from error
        events = current(lines)
        start = next((event for event in events if event["event"] == "start"), None)
        if start is None:
            raise UserError(
                f"runs: {str(folder)!r} is not a run that can be reported: its {RECORD} has no "
                "'start' line."
            )
        measured, references = split_reference([e for e in events if e["event"] == "checkup"])
        probes, reference_probes = split_reference([e for e in events if e["event"] == "probe"])
        checkups = [Checkup.read(event) for event in by_step(measured)]
        reference = Checkup.read(references[-1]) if references else None
        ending = last_of(events, "end", "stop", "interrupt")
        return cls(
            path=folder,
            start=start,
            config_text=config_text,
            config=_yaml_mapping(config_text),
            reference=reference,
            checkups=checkups,
            steps=by_step([event for event in events if event["event"] == "step"]),
            probe=_last_probe(probes, checkups),
            reference_probe=_last_probe(reference_probes, [reference] if reference else []),
            verdict=last_of(events, "verdict"),
            status={"end": "finished", "stop": "stopped", "interrupt": "interrupted"}.get(
                str(ending.get("event")), "unfinished"
            ),
            ending=ending,
            warnings=[str(e.get("text", "")) for e in events if e["event"] == "warning"],
            unreadable=unreadable,
            encoder=_json_mapping(folder / "encoder.json"),
            views=_png(folder / "views.png"),
            modes=by_step([event for event in events if event["event"] == "modes"]),
            forecast=last_of(events, "forecast"),
        )

    @property
    def last(self) -> Checkup | None:
        """The latest check-up of the run."""
        return self.checkups[-1] if self.checkups else None

    @property
    def last_step(self) -> int:
        """The last step that the record knows of."""
        steps = [step_of(event) or 0 for event in self.steps] + [c.step for c in self.checkups]
        return max(steps, default=0)

    @property
    def layers(self) -> list[str]:
        """The layers measured: backbone and embedding first, then any other."""
        measured = [c for c in (self.reference, *self.checkups) if c is not None]
        names = dict.fromkeys(name for checkup in measured for name in checkup.layers)
        known = [name for name in ("backbone", "embedding") if name in names]
        return known + [name for name in names if name not in known]

    def text(self, key: str, default: str = "") -> str:
        """Return a field of the start line as text."""
        value = self.start.get(key)
        return default if value is None else str(value)


def _require_run(folder: Path) -> None:
    """Raise a UserError unless ``folder`` holds the two files that make a run."""
    if not folder.exists():
        raise UserError(f"runs: {str(folder)!r} does not exist.")
    if not folder.is_dir():
        raise UserError(f"runs: {str(folder)!r} is a file; give the folder of a run.")
    missing = [name for name in (RECORD, CONFIG) if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"runs: {str(folder)!r} is not a run folder: {' and '.join(missing)} missing. A run "
            f"folder is what training writes, with {RECORD} and {CONFIG} in it."
        )


def _accuracies(value: object) -> dict[str, float]:
    probe = mapping(value)
    found = {name: number(probe.get(name)) for name in ("knn", "linear")}
    return {name: accuracy for name, accuracy in found.items() if accuracy is not None}


def _last_probe(events: list[dict[str, Any]], checkups: list[Checkup]) -> Mapping[str, Any]:
    """Return the last ``probe`` event that has an accuracy, else the last check-up's probe."""
    for event in reversed(events):
        if _accuracies(event):
            return {**event, **{"knn": None, "linear": None}, **_accuracies(event)}
    for checkup in reversed(checkups):
        if checkup.probe:
            return {"step": checkup.step, **checkup.probe}
    return {}


def _yaml_mapping(text: str) -> Mapping[str, Any]:
    import yaml

    try:
        return mapping(yaml.safe_load(text))
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}  # the text itself is still shown


def _json_mapping(path: Path) -> Mapping[str, Any]:
    try:
        return mapping(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return {}


def _png(path: Path) -> bytes | None:
    try:
        image = path.read_bytes()
    except OSError:
        return None
    return image if image.startswith(b"\x89PNG\r\n\x1a\n") else None
