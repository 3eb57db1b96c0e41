"""``fullrank explain``: theory first, then runs, in one folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullrank.data.settings import DataSettings, data_family
from fullrank.diagnose.theory_of import theory_of
from fullrank.errors import unknown_name
from fullrank.experiments.cells import scale_of
from fullrank.experiments.command import SCALES
from fullrank.experiments.explanation import explain_runs, seed_list, write_head
from fullrank.experiments.pool import check_workers
from fullrank.experiments.progress import Progress
from fullrank.experiments.scale import data_settings
from fullrank.recipes.registry import recipe as find_recipe
from fullrank.train.config import NOT_IDENTITY

ShowTheory = Callable[[Sequence[Mapping[str, str]]], None]

_DATA = DataSettings()
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
    settings = data_settings(data)
    at = scale_of(published, scale)
    shown = published.preset(at.preset)
    usual = default_folder(recipe, scale, quick, theory, settings)
    folder = Path(out) if out is not None else usual
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


def default_folder(
    recipe: str,
    scale: str,
    quick: bool = False,
    theory: bool = False,
    data: DataSettings = _DATA,
) -> Path:
    """Return ``explanations/RECIPE``, and what else tells explanations of a recipe apart."""
    name = recipe.replace("/", "-").replace(":", "-")
    told_apart = {"paper": scale == "paper", "theory": theory, "quick": quick and not theory}
    other = [] if theory else _other_data(data)
    parts = [name, *other, *(part for part, holds in told_apart.items() if holds)]
    return Path("explanations") / "-".join(parts)


def _other_data(data: DataSettings) -> list[str]:
    """Return the name of data other than the default, with a hash where a name is not all."""
    default, given = (
        {k: v for k, v in settings.to_dict().items() if k not in NOT_IDENTITY["data"]}
        for settings in (_DATA, data)
    )
    if given == default:
        return []
    if data_family(data.name) == data.name and given == default | {"name": data.name}:
        return [data.name]
    # Folders of images may have the same last name.
    name = Path(data.name.removeprefix("folder:")).name
    text = json.dumps(given, sort_keys=True)
    return [f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"]
