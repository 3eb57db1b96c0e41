"""Every verb of the command line as one function of the same name and arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fullrank.errors import UserError, unknown_name

if TYPE_CHECKING:
    from fullrank.audit.verb import Announce, Audits
    from fullrank.experiments.progress import Progress
    from fullrank.experiments.reproduce import Reproduction
    from fullrank.experiments.reproduction import Judged
    from fullrank.experiments.sweep import Sweep, Watch
    from fullrank.experiments.verb import Explanation, ShowTheory
    from fullrank.recipes.recipe import Recipe
    from fullrank.train.encoder import Encoder
    from fullrank.train.run import Run


def train(
    recipe: str | Mapping[str, Any] | Recipe = "simsiam",
    *,
    data: str | Mapping[str, Any] = "fashion-mnist",
    backbone: str | Mapping[str, Any] | None = None,
    preset: str | None = None,
    resume: str | Path | None = None,
    **options: Any,
) -> Run:
    """Train a published method from scratch, with vital signs, a verdict and a report.

    ``train("simsiam", data="digits", backbone={"name": "conv4", "width": 8}, preset="small",
    steps=200)`` is the command ``fullrank train simsiam --data digits --backbone conv4
    --backbone.width 8 --preset small --steps 200``.

    Args:
        recipe: name of a recipe, or a mapping that replaces fields:
            ``{"name": "simsiam", "predictor": "none"}``, or a ``Recipe`` made from a known one.
        data: name of a data set, or a mapping of its settings.
        backbone: name of a backbone, or a mapping of its settings; by default ``conv4``.
        preset: ``small`` (for small images on a processor), or ``paper``: the published protocol,
            with the published backbone unless another is given. Without a preset everything but
            the backbone is as published. A ``Recipe`` brings its own.
        resume: folder of an interrupted run to go on with; everything else then comes from there.
        **options: any other setting by its name, nested (``optimizer={"lr": 0.1}``).

    Returns:
        The run: its folder, its status and its verdict. ``report.html`` is in the folder.

    Raises:
        UserError: a setting is unknown or not allowed, or data or device are not there.
    """
    from fullrank.recipes.recipe import Recipe
    from fullrank.train.folder import config_of
    from fullrank.train.resolve import flatten, resolve
    from fullrank.train.run import run

    if resume is not None:
        folder = Path(resume)
        return _reported(run(config_of(folder), resume=folder))
    given: dict[str, Any] = {"data": data}
    if backbone is not None:
        given["backbone"] = backbone
    if isinstance(recipe, Recipe):
        if preset is not None:
            raise UserError(
                f"preset: {preset!r} given with a Recipe, which has its own. "
                f"Allowed: none, and recipe.preset({preset!r})."
            )
        given |= {"recipe": recipe.to_dict(), **recipe.training.to_dict()}
        if options.keys() & {"steps", "epochs"}:
            del given["epochs"]
    else:
        given["recipe"] = recipe
        if preset is not None:
            given["preset"] = preset
    merged = dict(flatten(given)) | dict(flatten(options))
    return _reported(run(resolve(merged)))


def _reported(done: Run) -> Run:
    """Draw the report of a run that reached a verdict."""
    if done.verdict is not None and done.status == "finished":
        report(done.folder)
    return done


def report(*runs: str | Path, out: str | Path | None = None) -> Path:
    """Draw one or several runs, an explanation, or a sweep, as one self-contained HTML page.

    Args:
        *runs: run folders, several of which are overlaid; or the folder of one explanation, or of
            one sweep.
        out: the page's path; by default ``report.html`` in the first run folder, or
            ``explanation.html`` beside the explanation, or ``sweep.html`` beside the sweep.

    Returns:
        The page's path.

    Raises:
        UserError: a folder is none of these, or an explanation or a sweep is among several.
    """
    from fullrank.report.explanation_page import is_explanation, write_explanation
    from fullrank.report.page import report as draw
    from fullrank.report.sweep_page import is_sweep, write_sweep

    for what, is_one, write in (
        ("an explanation", is_explanation, write_explanation),
        ("a sweep", is_sweep, write_sweep),
    ):
        found = [folder for folder in runs if is_one(folder)]
        if found and len(runs) > 1:
            one = what.split()[1]
            raise UserError(
                f"runs: {found[0]} is {what}, given with others. Allowed: run folders, or one "
                f"{one}."
            )
        if found:
            return write(found[0], out)
    return draw(list(runs), out)


def explain(
    recipe: str = "simsiam",
    *,
    data: str | Mapping[str, Any] = "fashion-mnist",
    scale: str = "cpu",
    quick: bool = False,
    theory: bool = False,
    phases: Sequence[tuple[str, str]] | None = None,
    seeds: int | Sequence[int] | None = None,
    workers: int | None = None,
    out: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    show_theory: ShowTheory | None = None,
) -> Explanation:
    """Say what holds a method up: theory first, then each of its mechanisms removed in turn.

    Finished runs are found under ``runs/``, not repeated. Whatever ends this early loses nothing:
    the same call goes on where it stopped.

    Args:
        recipe: name of a recipe.
        data: name of a data set, or a mapping of its settings.
        scale: ``cpu`` (small networks, minutes) or ``paper`` (the published protocol).
        quick: the recipe and its main effects only, one seed.
        theory: what theory says only; nothing is trained.
        phases: pairs of parameters of the theory (``fullrank.theory.phase.AXES``) to draw phase
            diagrams of; by default those that matter to the recipe.
        seeds: of the runs of every cell, or how many: 0, 1, …; by default three, quick one.
        workers: runs at a time, each on one thread; by default one a core.
        out: folder of the explanation; by default ``explanations/RECIPE``, with the name of the
            data set behind it where that is not the default.
        progress: is told after every run where things stand.
        show_theory: is given theory's statements before anything is trained.

    Returns:
        The folder, what ``explanation.json`` in it holds, and the page.

    Raises:
        UserError: a name is not known (the nearest are given), a number is not allowed, or a
            folder cannot be written.
    """
    from fullrank.experiments.verb import Explanation, explain
    from fullrank.report.explanation_page import write_explanation

    folder, found = explain(
        recipe,
        data=data,
        scale=scale,
        quick=quick,
        theory=theory,
        phases=phases,
        seeds=seeds,
        workers=workers,
        out=out,
        progress=progress,
        show_theory=show_theory,
    )
    return Explanation(folder, found, write_explanation(folder))


def reproduce(
    *papers: str,
    claims: Sequence[str] | None = None,
    scale: str = "cpu",
    seeds: int | Sequence[int] | None = None,
    workers: int | None = None,
    engine: str = "auto",
    ray: str | None = None,
    gpus: float = 0.0,
    runs: str | Path = "runs",
    out: str | Path | None = None,
    evidence: str | Path | None = None,
    table: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    judged: Judged | None = None,
) -> Reproduction:
    """Judge the claims of papers, each by a criterion that was fixed before its runs.

    Finished runs are found in the store, not repeated. Whatever ends this early loses nothing:
    the same call goes on where it stopped.

    Args:
        *papers: names of papers (``fullrank reproduce --list``), or ``all``.
        claims: names of claims; by default all of these papers.
        scale: ``cpu`` (small networks, minutes) or ``paper`` (the published protocol).
        seeds: of the runs of every condition, or how many: 0, 1, …; by default each claim's own.
        workers: runs at a time; by default one a core.
        engine: what carries the runs out: ``ray``, ``pool``, or ``auto``: Ray if it is installed.
        ray: address of a Ray cluster; None is this machine.
        gpus: GPUs a run, or the share of one that it has, for Ray.
        runs: the run store, where finished runs are found.
        out: folder of the results; by default ``reproductions``.
        evidence: folder for small Markdown pages with figures, and ``claims.json``; none by
            default.
        table: Markdown file that has the table of all claims between its markers; needs
            ``evidence``.
        progress: is told after every run where things stand.
        judged: is told after every claim.

    Returns:
        The folder, what the papers' files in it hold, and the pages.

    Raises:
        UserError: a name is not known (the nearest are given), a number is not allowed, labels are
            missing for a claim that probes, or a folder cannot be written.
    """
    from fullrank.experiments.reproduce import Reproduction, default_folder, reproduce
    from fullrank.report.claims_table import check_table, write_table
    from fullrank.report.reproduction_markdown import check_drawing, read_claims, write_evidence
    from fullrank.report.reproduction_page import write_reproduction

    if table is not None:
        if evidence is None:
            raise UserError("table: given without evidence, whose claims it shows. Give both.")
        check_table(Path(table))
    if evidence is not None:
        check_drawing()
        read_claims(Path(evidence))  # damaged, it is refused before there is anything to lose
    folder = Path(out) if out is not None else default_folder(scale)

    names: set[str] = set()

    def drawn(paper: Mapping[str, Any], claim: Mapping[str, Any]) -> None:
        names.add(str(claim["name"]))
        write_reproduction(paper, folder / f"{paper['paper']}.html")
        if judged is not None:
            judged(paper, claim)

    folder, found = reproduce(
        papers,
        claims=claims,
        scale=scale,
        seeds=seeds,
        workers=workers,
        engine=engine,
        ray=ray,
        gpus=gpus,
        runs=runs,
        out=folder,
        progress=progress,
        judged=drawn,
    )
    pages = [folder / f"{paper}.html" for paper in found]
    if evidence is not None:
        pages += write_evidence(found, Path(evidence))
        if table is not None:
            write_table(Path(table), Path(evidence))
    return Reproduction(folder, found, tuple(pages), frozenset(names))


def sweep(
    grid: str | Path | Mapping[str, Any],
    *,
    runs: str | Path = "runs",
    workers: int | None = None,
    engine: str = "auto",
    ray: str | None = None,
    gpus: float = 0,
    out: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    watch: Watch | None = None,
) -> Sweep:
    """Run every point of a grid of settings, with every seed.

    Finished runs are found in the store, interrupted ones gone on with, failed ones named. Whatever
    ends this early loses at most what came after each run's last checkpoint: the same call goes on.

    Args:
        grid: path of a grid file (YAML), or what one holds: ``base``, ``grid``, ``sets``, ``seeds``
            (:func:`fullrank.experiments.grid.read_grid`).
        runs: the run store.
        workers: runs at a time, each on its share of the cores; by default one a core.
        engine: ``ray``, ``pool`` (processes of this machine), or ``auto``: Ray if it is installed.
        ray: address of a Ray cluster, whose machines share the store's disk; by default Ray runs on
            this machine.
        gpus: share of a GPU that each run has, for Ray.
        out: folder of the results; by default ``sweeps/NAME`` of the grid's file, for a mapping
            ``sweeps/grid-HASH``.
        progress: is told after every run where things stand.
        watch: is shown all runs about once a second.

    Returns:
        The folder, what ``sweep.json`` in it holds, the page, and the Parquet file.

    Raises:
        UserError: the grid is empty, has an unknown setting (the nearest are given) or a value that
            is not allowed; the cluster does not answer; or a folder cannot be written. All before
            anything is trained.
    """
    from fullrank.experiments.sweep import Sweep, sweep
    from fullrank.experiments.sweep_table import results_in
    from fullrank.report.sweep_page import write_sweep

    folder, found = sweep(
        grid,
        runs=runs,
        workers=workers,
        engine=engine,
        ray=ray,
        gpus=gpus,
        out=out,
        progress=progress,
        watch=watch,
    )
    return Sweep(folder, found, write_sweep(folder), results_in(folder))


def audit(
    *what: str | Path,
    out: str | Path | None = None,
    reference: str | None = None,
    rank_by: str = "rankme",
    drift: bool = False,
    convergence: bool = False,
    sample: int = 4096,
    precision: str = "auto",
    alpha_range: tuple[int, int] = (3, 100),
    lidar_delta: float = 1e-4,
    lidar_relative: bool = False,
    announce: Announce | None = None,
    **options: Any,
) -> Audits:
    """Measure what exists already: vital signs, every metric, a verdict, a ranking of several.

    ``audit("features.npy", labels="labels.npy").audits[0].verdict`` is the command
    ``fullrank audit features.npy --labels labels.npy``.

    Args:
        *what: embedding files, run folders, checkpoints, ``timm/NAME``, ``torchvision/NAME``,
            ``hf:REPO``, ``module:factory``.
        out: an HTML page to draw; none by default.
        reference: what to compare with in place of a model's untrained twin.
        rank_by: the label-free criterion that several are ranked by.
        drift: compare the layers of every later WHAT with the first one's, image by image.
        convergence: show how each value moves with the number of images.
        sample: rows drawn at random for what needs pairs; 0 leaves these metrics out.
        precision: of the products of a file's rows: ``auto``, ``float32`` or ``float64``.
        alpha_range: eigenvalues that α-ReQ is fitted to, counted from 0, the last left out.
        lidar_delta: added to LiDAR's within-image covariance.
        lidar_relative: whether that is a share of the mean within-image variance.
        announce: is told what is being done, a line at a time.
        **options: how to read and show it: any field of ``fullrank.audit.subject.Options``.

    Returns:
        What was found; ``to_dict()`` is what ``--json`` prints.

    Raises:
        AuditError: a ``UserError`` (``fullrank.audit.unfinished``): of several, some could not be
            measured, or the ranking, a drift, the page could not be made. What was found is in its
            ``audits``, and what could not be done in ``audits.failures``.
        AuditInterrupted: a ``KeyboardInterrupt`` after something was measured: in its ``audits``.
        UserError: there is nothing to audit, an option is not known or not allowed, or the only
            one cannot be read as asked.
    """
    from fullrank.audit.subject import Options
    from fullrank.audit.unfinished import AuditError, AuditInterrupted, Failure
    from fullrank.audit.verb import audit as measure
    from fullrank.measure.table import Conventions

    known = {field.name for field in fields(Options)}
    for name in options:
        if name not in known:
            raise unknown_name("option", name, known)
    if out is not None:
        from fullrank.report.document import check_writable

        check_writable(Path(out))
    try:
        audits = measure(
            [str(one) for one in what],
            Options(**options),
            conventions=Conventions(
                alpha_range=(alpha_range[0], alpha_range[1]),
                lidar_delta=lidar_delta,
                lidar_relative=lidar_relative,
            ),
            reference=reference,
            rank_by=rank_by,
            drift=drift,
            convergence_too=convergence,
            sample=sample,
            precision=precision,
            announce=announce,
        )
    except (AuditError, AuditInterrupted) as unfinished:
        if out is not None and unfinished.audits.audits:
            _page(unfinished.audits, out)
        raise
    if out is not None:
        try:
            _page(audits, out)
        except UserError as error:
            audits.failures.append(Failure(None, str(error)))
            raise AuditError(audits) from error
    return audits


def _page(audits: Audits, out: str | Path) -> None:
    from fullrank.report.audit_page import write_audit

    write_audit(audits, out)


def load_encoder(folder: str | Path) -> Encoder:
    """Load the trained backbone of a run folder.

    ``load_encoder("runs/one")(images)`` gives the representation of uint8 images ``(n, c, h, w)``.

    Args:
        folder: of a finished run.

    Raises:
        UserError: the folder has no encoder.
    """
    from fullrank.train.encoder import load_encoder as load

    return load(folder)
