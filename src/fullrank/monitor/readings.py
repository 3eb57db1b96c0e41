"""From a history of check-ups to flat numbers for a logger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fullrank.measure.forecast import Forecast

# Names of metrics, and where vital signs have them.
METRICS = {
    "spread": "spread",
    "normalised_std": "std",
    "effective_rank": "effective_rank",
    "participation_ratio": "participation_ratio",
    "cev_auc": "cev_auc",
    "hard_rank": "hard_rank",
    "dead_units": "dead_units",
    "alignment": "alignment",
}
PREFIX = "fullrank"
# The layer whose probe accuracy is forecast without being asked.
BACKBONE = "backbone"


def flat_readings(history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the last check-up as flat numbers, each beside what it has been.

    Args:
        history: check-ups in order.

    Returns:
        ``fullrank/LAYER/METRIC``; with ``/change`` added, the difference to the first check-up;
        with ``/drawdown``, the fall below the highest value so far, as a share of it; with
        ``/error``, the standard error, where there is one. Empty without check-ups.
    """
    return dict(_numbers(history)) if history else {}


def _numbers(history: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    for layer, signs in history[-1]["layers"].items():
        past = [checkup["layers"][layer] for checkup in history if layer in checkup["layers"]]
        for metric, sign in METRICS.items():
            if signs[sign] is None:
                continue
            values = [float(signs[sign]) for signs in past if signs[sign] is not None]
            value, peak = values[-1], max(values)
            key = f"{PREFIX}/{layer}/{metric}"
            yield key, value
            yield f"{key}/change", value - values[0]
            yield f"{key}/drawdown", (peak - value) / peak if peak > 0 else 0.0
            if metric in signs.get("errors", {}):
                yield f"{key}/error", float(signs["errors"][metric])


def forecast_readings(layer: str, forecast: Forecast) -> dict[str, float]:
    """Return a forecast as flat numbers.

    Returns:
        ``fullrank/LAYER/forecast/standing``, and with an accuracy told
        ``fullrank/LAYER/forecast/PROBE`` with ``/low`` and ``/high``; nothing that it abstains
        from.
    """
    key = f"{PREFIX}/{layer}/forecast"
    found = {} if forecast.standing is None else {f"{key}/standing": forecast.standing}
    for probe, accuracy in forecast.expected.items():
        found[f"{key}/{probe}"] = accuracy.value
        found[f"{key}/{probe}/low"] = accuracy.low
        found[f"{key}/{probe}/high"] = accuracy.high
    return found


def batch_readings(layers: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return statistics of the current training batch as ``fullrank/LAYER/batch/METRIC``."""
    return {
        f"{PREFIX}/{layer}/batch/{metric}": value
        for layer, signs in layers.items()
        for metric, value in signs.items()
    }
