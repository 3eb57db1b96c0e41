"""The settings of a method's parts: frozen dataclasses that import no torch."""

from collections.abc import Mapping

from fullrank.models.settings import predictor, projector, target, views
from fullrank.models.settings.objectives import OBJECTIVES
from fullrank.models.settings.part import Part


def _by_kind(*families: tuple[type[Part], ...]) -> Mapping[str, type[Part]]:
    return {part.kind: part for parts in families for part in parts}


FIELDS: Mapping[str, Mapping[str, type[Part]]] = {
    "views": _by_kind(views.PARTS),
    "projector": _by_kind(projector.PARTS),
    "predictor": _by_kind(predictor.PARTS),
    "target": _by_kind(target.PARTS),
    "objective": OBJECTIVES,
}
"""The five fields of a method, each with the kinds of part it takes."""

__all__ = ["FIELDS", "Part"]
