"""``fullrank reproduce``: the claims of papers, judged, in one folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullrank.experiments.engine import choose_engine
from fullrank.experiments.pool import check_workers
from fullrank.experiments.progress import Progress
from fullrank.experiments.reproduction import Judged, planned, reproduce_claims


@dataclass(frozen=True)
class Reproduction:
    """The claims of papers on disk.

    Attributes:
        folder: where ``PAPER.json`` and ``PAPER.html`` are.
        found: by paper, what ``PAPER.json`` holds.
        pages: the pages, HTML first, then those of the evidence.
        judged: names of the claims that this call judged.
    """

    folder: Path
    found: dict[str, dict[str, Any]]
    pages: tuple[Path, ...]
    judged: frozenset[str]

    @property
    def failed(self) -> list[str]:
        """Names of claims judged here that lack something: runs or judges failed."""
        claims = [claim for paper in self.found.values() for claim in paper["claims"]]
        reasons = {str(claim["name"]): claim["reason"] for claim in claims}
        return [name for name, reason in reasons.items() if reason and name in self.judged]


def reproduce(
    asked: Sequence[str],
    *,
    claims: Sequence[str] | None = None,
    scale: str = "cpu",
    seeds: int | Sequence[int] | None = None,
    workers: int | None = None,
    engine: str = "auto",
    ray: str | None = None,
    gpus: float = 0.0,
    out: str | Path | None = None,
    runs: str | Path = "runs",
    progress: Callable[[Progress], None] | None = None,
    judged: Judged | None = None,
) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Judge the claims of papers; see :func:`fullrank.reproduce`.

    Returns:
        The folder, and what its files hold, by paper.
    """
    chosen = choose_engine(engine, ray, gpus)
    if workers is not None:
        check_workers(workers)
    plans = planned(asked, claims=claims, scale=scale, seeds=seeds)
    folder = Path(out) if out is not None else default_folder(scale)
    found = reproduce_claims(
        plans,
        out=folder,
        runs=Path(runs),
        workers=workers,
        engine=chosen,
        ray=ray,
        gpus=gpus,
        progress=progress,
        judged=judged,
    )
    return folder, found


def default_folder(scale: str) -> Path:
    """Return ``reproductions``, or for the published protocols ``reproductions-paper``."""
    return Path("reproductions" if scale == "cpu" else f"reproductions-{scale}")
