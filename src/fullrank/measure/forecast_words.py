"""A forecast in words. Nothing here imports more than it needs: listings and pages read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PROBES = {"knn": "kNN", "linear": "linear probe"}


def sentences(forecast: Mapping[str, Any]) -> list[str]:
    """Say a forecast in a sentence or two.

    Args:
        forecast: ``Forecast.to_dict()``, or the ``forecast`` event of a record.

    Returns:
        The sentences; none where the event holds no forecast, or one of another form.
    """
    said = []
    try:
        if forecast.get("expected"):
            parts = [
                f"{PROBES.get(name, name)} accuracy {accuracy['value']:.0%} "
                f"({accuracy['low']:.0%} to {accuracy['high']:.0%})"
                for name, accuracy in forecast["expected"].items()
            ]
            said.append(
                f"{', '.join(parts)}; {forecast['level']:.0%} intervals, for {forecast['data']} "
                f"and probes of {forecast['labelled']:,} labelled images."
            )
        elif forecast.get("reason"):
            said.append(f"No accuracy is told: {forecast['reason']}")
        if forecast.get("standing") is not None:
            said.append(
                f"Its measurements stand above those of {forecast['standing']:.0%} of the runs of "
                f"{forecast['basis']}."
            )
    except (AttributeError, KeyError, TypeError, ValueError):
        return []  # a record of another version, or one that was edited
    return said
