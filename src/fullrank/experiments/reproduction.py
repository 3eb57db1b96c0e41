"""The engine of ``fullrank reproduce``: the runs of all claims, and what each says of them."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fullrank.errors import UserError, unknown_name
from fullrank.experiments.claims.claim import Claim, Finding, Paper, ScaleName, Trained
from fullrank.experiments.claims.registry import papers, selected
from fullrank.experiments.engine import Ended, carry_out
from fullrank.experiments.explanation import seed_list
from fullrank.experiments.progress import Progress
from fullrank.experiments.reproduced import Book, finding_dict, run_row
from fullrank.train.config import Config
from fullrank.train.storage import try_writing, writing

Judged = Callable[[Mapping[str, Any], Mapping[str, Any]], None]
"""Is told after every claim what its paper's file holds, and the claim."""


@dataclass(frozen=True)
class Plan:
    """A claim and its runs.

    Attributes:
        paper: whose it is.
        claim: what is claimed.
        seeds: of every arm.
        arms: by name, the places of the arm's runs among all runs, one a seed.
    """

    paper: Paper
    claim: Claim
    seeds: list[int]
    arms: dict[str, list[int]]

    def runs(self) -> set[int]:
        """Return the places of all its runs."""
        return {place for arm in self.arms.values() for place in arm}


@dataclass
class Plans:
    """What is to be done: claims, and the runs that they share.

    Attributes:
        scale: of the runs.
        plans: one a claim, in order.
        configs: of all runs, each identity once, in the order in which claims need them.
    """

    scale: ScaleName
    plans: list[Plan] = field(default_factory=list)
    configs: list[Config] = field(default_factory=list)


def planned(
    asked: Sequence[str],
    *,
    claims: Sequence[str] | None = None,
    scale: str = "cpu",
    seeds: int | Sequence[int] | None = None,
) -> Plans:
    """Gather the runs of claims; those with equal configurations are one.

    Args:
        asked: names of papers, or ``all``.
        claims: names of claims; None for all of these papers.
        scale: ``cpu`` or ``paper``.
        seeds: of every arm, or how many; by default each claim's own number.

    Raises:
        UserError: a name is not known (the nearest are given), or seeds are not allowed.
    """
    if scale not in ("cpu", "paper"):
        raise unknown_name("scale", scale, ("cpu", "paper"))
    at: Literal["cpu", "paper"] = "cpu" if scale == "cpu" else "paper"
    found = Plans(at)
    places: dict[str, int] = {}
    for paper, claim in selected(papers(asked), claims):
        own = seed_list(seeds, claim.seeds)
        arms: dict[str, list[int]] = {}
        for name, configs in claim.arms(at, own).items():
            arms[name] = []
            for config in configs:
                place = places.setdefault(config.identity(), len(places))
                if place == len(found.configs):
                    found.configs.append(config)
                arms[name].append(place)
        found.plans.append(Plan(paper, claim, own, arms))
    return found


def reproduce_claims(
    plans: Plans,
    *,
    out: Path,
    runs: Path = Path("runs"),
    workers: int | None = None,
    engine: Literal["auto", "pool", "ray"] = "auto",
    ray: str | None = None,
    gpus: float = 0.0,
    progress: Callable[[Progress], None] | None = None,
    judged: Judged | None = None,
) -> dict[str, dict[str, Any]]:
    """Carry out the runs of claims, and judge each claim as soon as its runs are there.

    ``PAPER.json`` in ``out`` is written whole after every claim, so that whatever ends this early
    loses nothing: called again, it finds the runs that are finished and goes on with the others.
    All other claims of the paper stay in the file as they were.

    Args:
        plans: what to do.
        out: folder of the results.
        runs: the run store, where runs are kept and identical ones found.
        workers: runs at a time; by default one a core. A run whose configuration leaves its threads
            open has its share of the cores.
        engine: what carries the runs out.
        ray: address of a Ray cluster.
        gpus: accelerators a run.
        progress: is told after every run where things stand.
        judged: is told after every claim.

    Returns:
        What the files hold, by paper.

    Raises:
        UserError: labels are missing for a claim that probes, or a folder cannot be written.
        KeyboardInterrupt: by Ctrl-C; what was judged is on disk.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"out: {out} is a file. Allowed: a folder.")
    check_labels(plans)
    with writing(out):  # refused now, not after the first claim's runs
        try_writing(out)
    book = Book({p.paper.name: p.paper for p in plans.plans}.values(), plans.scale, out)
    ended: dict[int, Ended] = {}
    waiting = list(plans.plans)

    def judge_ready() -> None:
        for plan in [p for p in waiting if p.runs() <= ended.keys()]:
            waiting.remove(plan)
            paper, claim = book.add(plan.paper, plan.claim, judge(plan, plans.configs, ended))
            if judged is not None:
                judged(paper, claim)

    judge_ready()
    if plans.configs:
        work = carry_out(
            plans.configs,
            runs=runs,
            workers=workers,
            engine=engine,
            ray=ray,
            gpus=gpus,
            progress=progress,
        )
        # Closed at once whatever comes, so that no process goes on behind the caller's back.
        with closing(work):
            for end in work:
                ended[end.index] = end
                judge_ready()
    return book.papers


def judge(plan: Plan, configs: Sequence[Config], ended: Mapping[int, Ended]) -> dict[str, Any]:
    """Return what a claim's runs showed, by its own judgement.

    Runs that failed are left out of what the claim sees, and leave its verdict open; so does a
    judge that fails. In both cases the reason is told.
    """
    started = time.perf_counter()
    seen: dict[str, list[Trained]] = {}
    rows: list[dict[str, Any]] = []
    reasons: list[str] = []
    for arm, places in plan.arms.items():
        shown = [
            run_row(seed, configs[p], ended[p]) for seed, p in zip(plan.seeds, places, strict=True)
        ]
        rows.append({"name": arm, "runs": shown})
        for row in shown:
            if row["error"] is not None:
                reasons.append(f"{arm}, seed {row['seed']}: {row['error']}")
        seen[arm] = [
            Trained(arm, row["seed"], row["hash"], Path(row["folder"]), ended[p].value or {})
            for row, p in zip(shown, places, strict=True)
            if row["error"] is None
        ]
    finding, detail = Finding("inconclusive", ""), None
    try:
        finding = plan.claim.judge(seen)
        told = finding_dict(finding)
    except Exception as error:  # one claim's mistake is not another's
        detail = traceback.format_exc()
        reasons.append(f"its judge failed: {type(error).__name__}: {error}")
        told = finding_dict(Finding("inconclusive", ""))
    if reasons:
        told["verdict"] = "inconclusive"
    return {
        **told,
        "reason": "; ".join(reasons),
        "detail": detail,
        "seeds": plan.seeds if plan.arms else [],
        "arms": rows,
        "judge_seconds": time.perf_counter() - started,
    }


def check_labels(plans: Plans) -> None:
    """Refuse claims that probe on data without labels, before anything is trained.

    Raises:
        UserError: naming the claim; or the data are not there.
    """
    from fullrank.data.settings import data_family
    from fullrank.data.sources import load_source

    labelled: dict[str, bool] = {}
    for plan in plans.plans:
        for place in sorted(plan.runs()) if plan.claim.needs_labels else ():
            data = plans.configs[place].data
            # The other sets have labels whatever their settings.
            if data_family(data.name) != "folder":
                continue
            if data.name not in labelled:
                source = load_source(data)
                labelled[data.name] = not (source.train.labels is None or source.classes is None)
            if not labelled[data.name]:
                raise UserError(
                    f"claim: {plan.claim.name} rests on probes, and {data.name} has no labels. "
                    "Allowed: data with labels, or other claims (--claims)."
                )


def find_run(plans: Plans, hash_: str) -> tuple[Config, list[str]]:
    """Return the configuration of a run by its hash, and where it is used.

    Args:
        plans: where to look.
        hash_: of the run, or the beginning of one.

    Returns:
        The configuration, and ``claim: arm, seed`` of each use.

    Raises:
        UserError: no run of these claims has it, or several begin with it.
    """
    known = {config.identity(): place for place, config in enumerate(plans.configs)}
    matching = [name for name in known if hash_ and name.startswith(hash_)]
    if len(matching) > 1:
        raise UserError(
            f"run: {len(matching)} runs begin with {hash_!r}. Allowed: one of {', '.join(matching)}"
        )
    if not matching:
        listing = f"None of the {len(known)} runs of these claims at scale {plans.scale} has it."
        raise unknown_name("run", hash_, known, listing)
    place = known[matching[0]]
    uses = [
        f"{plan.claim.name}: {arm}, seed {seed}"
        for plan in plans.plans
        for arm, places in plan.arms.items()
        for seed, at in zip(plan.seeds, places, strict=True)
        if at == place
    ]
    return plans.configs[place], uses
