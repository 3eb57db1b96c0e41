"""``fullrank explain``: theory first, then runs, in one folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullrank.diagnose.theory_of import theory_of
from fullrank.errors import unknown_name
from fullrank.experiments.cells import scale_of
from fullrank.experiments.command import SCALES
from fullrank.experiments.explanation import explain_runs, seed_list, write_head
from fullrank.experiments.pool import check_workers
from fullrank.experiments.progress import Progress
from fullrank.experiments.scale import data_settings
from fullrank.recipes.registry import recipe as find_recipe

ShowTheory = Callable[[Sequence[Mapping[str, str]]], None]

QUICK = (
    "the recipe and its main effects only, one seed: what differs between two cells may be chance. "
    "Without --quick every cell has three seeds."
)


@dataclass(frozen=True)
class Explanation:
    """An explanation on disk.

    Attributes:
        folder: where ``explanation.json`` and the page are.
        found: what ``explanation.json`` holds.
        page: the page.
    """

    folder: Path
    found: dict[str, Any]
    page: Path


def explain(
    recipe: str,
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
) -> tuple[Path, dict[str, Any]]:
    """Explain a recipe; see :func:`fullrank.explain`.

    Returns:
        The folder, and what its ``explanation.json`` holds.
    """
    if scale not in SCALES:
        raise unknown_name("scale", scale, SCALES)
    published = find_recipe(recipe)
    check_workers(workers)
    seed_list(seeds)
    data_settings(data)
    at = scale_of(published, scale)
    shown = published.preset(at.preset)
    folder = Path(out) if out is not None else default_folder(recipe, scale, quick, theory)
    features = at.feature_dim(published)
    said = theory_of(shown, features, at.batch_size or shown.training.batch_size, phases)
    if show_theory is not None:
        show_theory([*said["statements"], *(said["ablations"] if theory else ())])
    head = {
        "diagram": shown.diagram(at.describe_backbone(published)),
        "prevents": [{"mechanism": p.mechanism, "collapse": p.collapse} for p in shown.standing()],
        "theory": said,
        "quick_note": QUICK if quick and not theory else "",
    }
    if theory:
        return folder, write_head(shown, head, folder)
    found = explain_runs(
        recipe,
        data=data,
        quick=quick,
        seeds=seeds,
        workers=workers,
        out=folder,
        progress=progress,
        scale=at,
        head=head,
    )
    return folder, found


def default_folder(recipe: str, scale: str, quick: bool = False, theory: bool = False) -> Path:
    """Return ``explanations/RECIPE``, and what else tells explanations of a recipe apart."""
    name = recipe.replace("/", "-").replace(":", "-")
    told_apart = {"paper": scale == "paper", "theory": theory, "quick": quick and not theory}
    parts = [name, *(part for part, holds in told_apart.items() if holds)]
    return Path("explanations") / "-".join(parts)
