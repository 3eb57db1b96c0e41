"""Expected probe accuracy of a representation, from its vital signs alone, and how sure that is.

The forecaster is fitted on runs whose probes are known (``benchmarks/forecast.py``) and ships as
``fitted/forecast.json``, its training table beside it. What is asked here is one network at a time.

Without labels nobody knows how many classes a data set has or how hard they are. So an accuracy is
told for the data sets that the forecaster was fitted on; for other data only the standing: the
share of its training runs that the measurements put below this network.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from fullrank.errors import UserError
from fullrank.measure.forecast_features import forecast_features, words_of
from fullrank.measure.forecast_model import evaluate, expit, nearest_distances
from fullrank.measure.forecast_words import sentences

FITTED = "fitted/forecast.json"
FORMAT = 1


@dataclass(frozen=True)
class Expected:
    """An accuracy that is expected.

    Attributes:
        value: between 0 and 1.
        low: lower end of its interval.
        high: its upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """What is expected of a representation.

    Attributes:
        expected: by probe (``knn``, ``linear``); empty where the forecaster abstains.
        standing: share of the forecaster's training runs that are put below, 0 to 1; None where it
            abstains from that, too.
        reason: why no accuracy is expected; None where one is.
        level: of the intervals, for a recipe that the forecaster has not seen.
        data: the data set whose classes are meant; None where it was not fitted on them.
        labelled: images that the probe is meant to be fitted on.
        novelty: how unlike the training runs this one is; at most 1 for half of the recipes left
            out in turn. The interval is as many times as wide, beyond 1.
        far: the novelty above which it abstains.
        basis: which forecaster, and what it was fitted on.
    """

    expected: dict[str, Expected]
    standing: float | None
    reason: str | None
    level: float
    data: str | None
    labelled: int | None
    novelty: float | None
    far: float | None
    basis: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    def sentences(self) -> list[str]:
        """Say it in a sentence or two."""
        return sentences(self.to_dict())


@dataclass(frozen=True)
class Forecaster:
    """A fitted forecaster.

    Attributes:
        fitted: the content of ``forecast.json``; see :mod:`fullrank.diagnose.forecast_fit`.
    """

    fitted: Mapping[str, Any] = field(repr=False)

    def __post_init__(self) -> None:
        if self.fitted.get("format") != FORMAT:
            raise UserError(
                f"forecaster: format {self.fitted.get('format')} given. Allowed: {FORMAT}."
            )

    @property
    def basis(self) -> str:
        """Which forecaster this is, and what it was fitted on."""
        on = self.fitted["trained_on"]
        return (
            f"forecaster {self.fitted['version']}: {on['runs']} runs of {len(on['recipes'])} "
            f"recipes on {', '.join(on['data'])}"
        )

    def forecast(
        self, signs: Mapping[str, Any], data: str | None = None, labelled: int | None = None
    ) -> Forecast:
        """Forecast the probe accuracy of a backbone.

        Args:
            signs: vital signs of its features on held-out images, one or two views of each.
            data: the data set, as :func:`data_key` names it; None if that is not known.
            labelled: images that the probe is fitted on, 1 or more; by default as many as in most
                of the training runs on that data.

        Returns:
            The forecast; it abstains, with the reason in words, where the measurements are unlike
            all that it was fitted on.

        Raises:
            UserError: ``labelled`` is less than 1.
        """
        if labelled is not None and labelled < 1:
            raise UserError(f"labelled: {labelled} given. Allowed: 1 or more images, or None.")
        known = self.fitted["trained_on"]["data"]
        told = data if data in known else None
        features = forecast_features(signs)
        variant = next(
            (v for v in self.fitted["variants"] if set(v["features"]) <= set(features)), None
        )
        if variant is None or signs.get("n_over_d") is None:
            return self._abstain(told, "nothing varies, or measurements are missing.")
        if signs["n_over_d"] < variant["least_n_over_d"]:
            return self._abstain(
                told,
                f"{signs['n']} images measure {signs['d']} dimensions, and ranks from so few are "
                f"biased; its training runs have {variant['least_n_over_d']:.1f} a dimension or "
                "more.",
            )
        row = np.array([features[name] for name in variant["features"]])
        row = (row - variant["centre"]) / np.asarray(variant["scale"])
        distance = nearest_distances(row[None], np.array(variant["rows"]), variant["neighbours"])
        novelty = float(distance[0]) / variant["typical"]
        far = variant["far"] / variant["typical"]
        if not novelty <= far:
            reason = (
                f"it is unlike all training runs: {novelty:.1f} times as far from them as a new "
                f"recipe typically is ({far:.1f} is the most). {self._furthest(variant, features)}"
            )
            return self._abstain(told, reason, novelty, far)
        if labelled is None:
            labelled = known[told]["labelled"] if told else None
        standing = self._standing(variant, row)
        if told is None:
            which = "this data set" if data is None else data
            reason = (
                f"the forecaster was not fitted on {which}, and how hard its classes are cannot be "
                f"seen without labels. It was fitted on {', '.join(known)}."
            )
            return Forecast(
                {}, standing, reason, self.fitted["level"], None, None, novelty, far, self.basis
            )
        assert labelled is not None
        wider = max(1.0, novelty)
        expected = {}
        for name, probe in variant["probes"].items():
            middle = _value(probe, row, labelled) + probe["intercepts"][told]
            half = wider * probe["half_width"]
            ends = expit(np.array([middle, middle - half, middle + half]))
            expected[name] = Expected(*(float(end) for end in ends))
        return Forecast(
            expected,
            standing,
            None,
            self.fitted["level"],
            told,
            labelled,
            novelty,
            far,
            self.basis,
        )

    def _standing(self, variant: Mapping[str, Any], row: Any) -> float:
        """Return the share of training runs below, averaged over the probes."""
        shares = [
            float(np.searchsorted(p["ordered"], _value(p, row, p["labelled"]))) / len(p["ordered"])
            for p in variant["probes"].values()
        ]
        return sum(shares) / len(shares)

    def _furthest(self, variant: Mapping[str, Any], features: Mapping[str, float]) -> str:
        """Name the feature that is furthest outside of what the training runs have."""
        rows = np.array(variant["rows"])
        outside = {}
        for place, name in enumerate(variant["features"]):
            scale, centre = variant["scale"][place], variant["centre"][place]
            low, high = (float(end) * scale + centre for end in _ends(rows[:, place]))
            beyond = max(low - features[name], features[name] - high) / scale
            outside[name] = (beyond, low, high)
        name, (beyond, low, high) = max(outside.items(), key=lambda item: item[1][0])
        if beyond <= 0:
            return "Each measurement alone is within theirs; together they are not."
        return f"The {words_of(name)} is {features[name]:.2f}, theirs are {low:.2f} to {high:.2f}."

    def _abstain(
        self,
        data: str | None,
        reason: str,
        novelty: float | None = None,
        far: float | None = None,
    ) -> Forecast:
        finite = novelty if novelty is not None and math.isfinite(novelty) else None
        return Forecast({}, None, reason, self.fitted["level"], data, None, finite, far, self.basis)


def _value(probe: Mapping[str, Any], row: Any, labelled: float) -> float:
    """Return the log-odds of a row of standardised features but for the data set's intercept."""
    condition = (math.log2(labelled) - probe["labelled_centre"]) / probe["labelled_scale"]
    return float(evaluate(probe["model"], np.append(row, condition)[None])[0])


def _ends(values: Sequence[float] | Any) -> tuple[float, float]:
    return float(min(values)), float(max(values))


def data_key(name: str, label: str | None = None, size: int | None = None) -> str:
    """Return what the forecaster calls a data set: its classes are those of a label and a size.

    Args:
        name: of the data set.
        label: what of it is the class, where there is a choice.
        size: side of the images in pixels, where it is not the set's own.
    """
    extra = [f"label {label}" if label else "", f"{size} pixels" if size else ""]
    said = ", ".join(part for part in extra if part)
    return f"{name} ({said})" if said else name


@cache
def shipped() -> Forecaster:
    """Return the forecaster that ships with the package."""
    text = files("fullrank.measure").joinpath(FITTED).read_text(encoding="utf-8")
    return Forecaster(json.loads(text))


def forecast(
    signs: Mapping[str, Any], data: str | None = None, labelled: int | None = None
) -> Forecast:
    """Forecast probe accuracy with the shipped forecaster; see :meth:`Forecaster.forecast`.

    Raises:
        UserError: ``labelled`` is less than 1.
    """
    return shipped().forecast(signs, data, labelled)
