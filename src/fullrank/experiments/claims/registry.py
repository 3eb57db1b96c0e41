"""The papers whose claims are programs, by name; a paper's module is imported when it is asked."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from fullrank.errors import UserError, unknown_name
from fullrank.experiments.claims.claim import Claim, Paper

# In the order in which pages and tables show them.
NAMES = (
    "tian2021",
    "li2022",
    "jha2024",
    "jing2022",
    "directset2021",
    "isoloss2023",
    "zhang2022",
    "duality2022",
    "mechanisms",
)
ALL = "all"


def names() -> list[str]:
    """Return the names of the papers that there are."""
    return [name for name in NAMES if importlib.util.find_spec(_module(name)) is not None]


def paper(name: str) -> Paper:
    """Return a paper's claims.

    Args:
        name: of a paper that there is, or the path of a Python file that ends in ``PAPER = …``.

    Raises:
        UserError: no paper has that name, or the file holds none.
    """
    if name.endswith(".py"):
        return _from_file(Path(name).resolve())
    if name not in names():
        raise unknown_name("paper", name, [*names(), ALL])
    found = importlib.import_module(_module(name)).PAPER
    assert isinstance(found, Paper)
    return found


def papers(asked: Sequence[str]) -> list[Paper]:
    """Return papers by their names, each once; ``all`` stands for every one.

    Raises:
        UserError: none is asked for, or no paper has one of the names.
    """
    if not asked:
        raise UserError(f"paper: none given. Allowed: {', '.join([*names(), ALL])}.")
    wanted = [each for name in asked for each in (names() if name == ALL else [name])]
    return [paper(name) for name in dict.fromkeys(wanted)]


def selected(found: Sequence[Paper], claims: Sequence[str] | None) -> list[tuple[Paper, Claim]]:
    """Return claims of papers, in order.

    Args:
        found: the papers.
        claims: names, as ``paper/short-name`` or the short name alone; None for all.

    Raises:
        UserError: no claim has one of the names.
    """
    pairs = [(each, claim) for each in found for claim in each.claims]
    if claims is None:
        return pairs
    known = {name for _, claim in pairs for name in (claim.name, short_name(claim.name))}
    for name in claims:
        if name not in known:
            raise unknown_name("claim", name, sorted(c.name for _, c in pairs))
    return [(p, c) for p, c in pairs if c.name in claims or short_name(c.name) in claims]


def _from_file(path: Path) -> Paper:
    """Run a Python file and return its ``PAPER``."""
    if not path.is_file():
        raise UserError(f"paper: there is no file {path}.")
    # By its whole path: two files called claims.py are two modules.
    name = f"fullrank_paper_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"paper: {path} fails: {type(error).__name__}: {error}.") from error
    found = getattr(module, "PAPER", None)
    if not isinstance(found, Paper):
        raise UserError(
            f"paper: {path} has no PAPER. Allowed: a file that defines one, a "
            "fullrank.experiments.claims.claim.Paper."
        )
    return found


def short_name(name: str) -> str:
    """Return what a claim is called within its paper."""
    return name.rsplit("/", 1)[-1]


def _module(name: str) -> str:
    return f"fullrank.experiments.claims.{name}"
