"""Which ingredient prevents which collapse: every method without each of its mechanisms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fullrank.experiments.cells import Cell
from fullrank.experiments.claims.claim import (
    Arms,
    Claim,
    Figure,
    Finding,
    Number,
    Paper,
    ScaleName,
    Trained,
    Verdict,
)
from fullrank.experiments.claims.conditions import (
    FASHION,
    IMAGENET,
    ArmsOf,
    cell_configs,
    cells_of,
)
from fullrank.experiments.claims.readings import (
    gain,
    in_words,
    kinds,
    last_centre,
    series_of,
    verdict,
)
from fullrank.experiments.claims.statistics import by_seed, interval, most, together
from fullrank.experiments.measured import SHOWN_AS
from fullrank.recipes.registry import recipe as find_recipe
from fullrank.train.config import Config

METHODS = ("byol", "simsiam", "barlow-twins", "vicreg", "wmse", "swav", "dino")


def forms(method: str, scale: ScaleName = "cpu") -> list[Cell]:
    """Return a method and what it is without each of its mechanisms, itself first.

    The parts of SimSiam's gradient are those of ``zhang2022``, where no output batch norm stands
    in their way.
    """
    return [
        cell
        for cell in cells_of(method, scale)
        if not (cell.ablation or "").startswith("gradient-")
    ]


def named_forms(method: str, scale: ScaleName = "cpu") -> dict[str, Cell]:
    """Return the forms of a method by what is changed in each; itself is ``as published``."""
    published, *others = forms(method, scale)
    return {"as published": published} | {_changed(cell, published): cell for cell in others}


def _changed(cell: Cell, published: Cell) -> str:
    if cell.ablation:
        return cell.ablation.replace("-", " ")
    own, was = cell.factors, published.factors
    assert own is not None
    assert was is not None
    # A predictor that is set has no weights that could decay: that follows from it being set.
    if own.predictor != was.predictor:
        return f"{own.predictor} predictor"
    switches = {
        "momentum": (own.momentum, was.momentum),
        "stop-gradient": (own.stop_gradient, was.stop_gradient),
        "weight decay": (own.weight_decay != "none", was.weight_decay != "none"),
        "output batch norm": (own.output_norm, was.output_norm),
    }
    return ", ".join(
        f"with{'' if now else 'out'} {name}"
        for name, (now, before) in switches.items()
        if now != before
    )


def _arms(method: str) -> ArmsOf:
    def configs(scale: ScaleName, seeds: Sequence[int]) -> Mapping[str, Sequence[Config]]:
        data = FASHION if scale == "cpu" else IMAGENET
        return {
            name: cell_configs(method, cell, scale, data, seeds)
            for name, cell in named_forms(method, scale).items()
        }

    return configs


def as_predicted(runs: Sequence[Trained], predicted: str) -> Verdict:
    """Compare the verdicts on the embeddings of one form with what is predicted of it.

    Returns:
        See ``most``; where all images are to fall to one cluster, their embeddings may have one
        direction.
    """
    return most([verdict(run) for run in runs], SHOWN_AS.get(predicted, (predicted,)))


def row(name: str, cell: Cell, runs: Sequence[Trained]) -> Number:
    """Return one row of the table: what was predicted and measured, and the probe's gain."""
    label = (
        f"{name}: predicted {cell.predicted.kind or 'nothing'}; embedding {in_words(kinds(runs))}; "
        f"backbone {in_words(kinds(runs, 'backbone'))}"
    )
    if all("linear" in run.shown["probe"] and "linear" in run.shown["random"] for run in runs):
        return interval(by_seed(runs, gain), f"{label}; linear probe over random init", "points")
    return interval(by_seed(runs, _rank), f"{label}; effective rank")


@dataclass(frozen=True)
class Table:
    """The forms of one or more methods, and what their runs showed.

    Attributes:
        rows: one a form.
        agreement: of every form with a prediction and a finished run, whether it is shown.
        absent: forms without a finished run.
        predicted: how many forms have a prediction, absent ones too.
    """

    rows: tuple[Number, ...]
    agreement: Mapping[str, Verdict]
    absent: tuple[str, ...]
    predicted: int

    @property
    def agreeing(self) -> int:
        """Return how many forms show what is predicted of them."""
        return sum(verdict == "held" for verdict in self.agreement.values())

    @property
    def text(self) -> str:
        """Return which forms agree, in a sentence or two."""
        text = f"{self.agreeing} of {self.predicted} forms with a prediction show it"
        others = [
            next(
                n.name.partition("; backbone")[0]
                for n in self.rows
                if n.name.startswith(f"{name}: ")
            )
            for name, verdict in self.agreement.items()
            if verdict != "held"
        ]
        text += f". Not: {' | '.join(others)}." if others else "."
        return text + (f" No run of: {', '.join(self.absent)}." if self.absent else "")


def table(cells: Mapping[str, Cell], runs: Arms) -> Table:
    """Compare the runs of forms with what is predicted of them, by name."""
    found = {name: runs[name] for name in cells if runs.get(name)}
    return Table(
        tuple(row(name, cells[name], own) for name, own in found.items()),
        {
            name: as_predicted(own, kind)
            for name, own in found.items()
            if (kind := cells[name].predicted.kind) is not None
        },
        tuple(name for name in runs if name not in found),
        sum(cells[name].predicted.kind is not None for name in runs),
    )


def _known(method: str) -> dict[str, Cell]:
    """Return the forms of either scale; what differs is asked of the one that has it."""
    return named_forms(method, "paper") | named_forms(method)


def _judge(method: str) -> Callable[[Arms], Finding]:
    def judge(runs: Arms) -> Finding:
        found = table(_known(method), runs)
        verdict = together(*found.agreement.values())
        if found.absent and verdict == "held":
            verdict = "inconclusive"
        return Finding(verdict, found.text, found.rows, _figures(method, runs))

    return judge


# Of forms with a prediction over all methods: how many must, and how many might, show it.
MOST, FEW = 0.9, 0.75


def _all_methods(runs: Arms) -> Finding:
    known = {_of(method, name): cell for method in METHODS for name, cell in _known(method).items()}
    found = table(known, runs)
    if not found.agreement or found.absent:
        return Finding("inconclusive", found.text, found.rows)
    share = found.agreeing / len(found.agreement)
    verdict: Verdict = "held" if share >= MOST else "inconclusive"
    if share < FEW:
        verdict = "did not hold"
    numbers = (Number("share of forms that show it", share), *found.rows)
    return Finding(verdict, found.text, numbers)


def _of(method: str, form: str) -> str:
    return f"{find_recipe(method).title}, {form}"


def _all_arms(scale: ScaleName, seeds: Sequence[int]) -> Mapping[str, Sequence[Config]]:
    return {
        _of(method, name): configs
        for method in METHODS
        for name, configs in _arms(method)(scale, seeds).items()
    }


def _figures(method: str, runs: Arms) -> tuple[Figure, ...]:
    """Return the two vital signs that tell complete from dimensional collapse, by form."""
    found = {name: own for name, own in runs.items() if own}
    if not found:
        return ()
    title = find_recipe(method).title
    figures = []
    for name, label, read in (
        ("centre", "||s|| (1: complete collapse)", last_centre),
        ("rank", "effective rank of the embedding", _rank),
    ):
        values = [interval(by_seed(own, read)) for own in found.values()]
        figures.append(
            Figure(
                f"{title} without its mechanisms: {name} of the embedding.",
                "form",
                label,
                [series_of("end of training", list(found), values, "bars")],
            )
        )
    return tuple(figures)


def _rank(run: Trained) -> float:
    return float(run.shown["embedding"]["effective_rank"])


SCALES: Mapping[ScaleName, str] = {
    "cpu": "Fashion-MNIST, conv4 of width 8, 120 steps of 128 images (BYOL, SimSiam) or "
    "150 of the recipe's batch; the method and each of its mechanisms changed alone, as "
    "`fullrank explain simsiam --quick` does it for SimSiam.",
    "paper": "ImageNet, the method's own network, batch, optimiser and epochs.",
}


CARE = {
    "byol": "The predictor needs one of momentum target and stop-gradient: without momentum a "
    "target without gradient is left, which is to be healthy.",
    "barlow-twins": "The loss standardises dimensions in every form: of what is named, the "
    "off-diagonal term alone is removed.",
    "vicreg": "Without invariance, at the published weights of the other terms, runs diverge at "
    "the small scale.",
    "wmse": "Whitening is removed as a whole, and complete collapse is what follows: that it "
    "stands against dimensional collapse, too, is not told apart.",
    "dino": "Without sharpening, outputs are to be alike as distributions over the prototypes, "
    "which spread and rank of the cosines need not show.",
}


def _claim(method: str) -> Claim:
    recipe = find_recipe(method)
    held = "; ".join(f"{p.mechanism} ({p.collapse} collapse)" for p in recipe.prevents)
    return Claim(
        f"mechanisms/{method}",
        f"What {recipe.title} needs and can spare is what its recipe says. It names: {held}.",
        f"{recipe.paper}; predictions of the recipe's ablations and of the eigenmode flow",
        SCALES,
        "Of every form with a prediction (healthy, or a kind of collapse) more than half of the "
        "runs have this verdict on the embedding; one form with another majority and the claim "
        "does not hold. A cluster collapse may show as a complete one.",
        _judge(method),
        arms=_arms(method),
        care=CARE.get(method, ""),
        own=False,
    )


PAPER = Paper(
    name="mechanisms",
    title="Which ingredient prevents which collapse",
    citation="The question behind this library, over seven methods; each claim names its sources",
    about="Asymmetry, stop-gradient, averages, whitening, decorrelation, variance, equal shares, "
    "centring and sharpening: each is removed from the methods that have it, and the collapse that "
    "follows is compared with what was predicted; each method as published counts as a form "
    "that is to be healthy. Verdicts are on the embedding: of SwAV before the prototypes, of DINO "
    "the cosines with its prototypes. There a cluster collapse shows less than in the assignments. "
    "The backbone is shown beside it.",
    claims=(
        *(_claim(method) for method in METHODS),
        Claim(
            "mechanisms/table",
            "Over seven methods, what their recipes say prevents which collapse does.",
            "the sources of the seven claims above",
            SCALES,
            f"Of all forms with a prediction at least {MOST:.0%} show it in more than half of "
            f"their runs; below {FEW:.0%}, and the claim does not hold.",
            _all_methods,
            arms=_all_arms,
            care="Seven of the forms are the methods as published, which are to be healthy.",
            own=False,
        ),
    ),
)
