"""Tian et al. 2021: comparisons of conditions by the kNN probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fullrank.experiments.claims.claim import Arms, Figure, Finding, Series, Trained
from fullrank.experiments.claims.readings import in_words, kinds, missing, probe
from fullrank.experiments.claims.statistics import by_seed, decide, interval, paired


def knn(runs: Sequence[Trained]) -> dict[int, float]:
    """Return the accuracy of the kNN probe by seed, in percent."""
    return by_seed(runs, lambda run: probe(run, "knn"))


def probe_figure(title: str, found: Arms, names: tuple[str, ...]) -> Figure:
    """Draw the kNN probe of some conditions, with intervals."""
    numbers = [interval(knn(found[name])) for name in names]
    lows = [n.value if n.low is None else n.low for n in numbers]
    highs = [n.value if n.high is None else n.high for n in numbers]
    means = [n.value for n in numbers]
    series = Series("", list(names), means, lows, highs, kind="points")
    return Figure(title, "", "kNN probe, %", [series])


def above(first: str, second: str, title: str, **bounds: float) -> Callable[[Arms], Finding]:
    """Return the judge of whether one condition's kNN probe is above another's."""

    def judge(found: Arms) -> Finding:
        if (gone := missing(found, (first, second))) is not None:
            return gone
        values = (knn(found[first]), knn(found[second]))
        number = paired(values[0], values[1], f"{first} - {second}, kNN probe", "points")
        said = "; ".join(
            f"{name}: kNN {interval(each).value:.1f} %, embedding {in_words(kinds(found[name]))}"
            for name, each in zip((first, second), values, strict=True)
        )
        return Finding(
            decide(number, **bounds),
            f"{said}.",
            [number],
            [probe_figure(title, found, (first, second))],
        )

    return judge
