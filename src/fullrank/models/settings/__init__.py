"""The settings of a method's parts: frozen dataclasses that import no torch."""

from collections.abc import Mapping

from fullrank.models.settings import (
    closed_form,
    nearest_neighbor,
    predictor,
    projector,
    prototype_head,
    spectral_filter,
    sub_vector,
    target,
    views,
)
from fullrank.models.settings.objectives import OBJECTIVES
from fullrank.models.settings.part import Part


def _by_kind(*families: tuple[type[Part], ...]) -> Mapping[str, type[Part]]:
    return {part.kind: part for parts in families for part in parts}


FIELDS: Mapping[str, Mapping[str, type[Part]]] = {
    "views": _by_kind(views.PARTS),
    "projector": _by_kind(projector.PARTS, sub_vector.PARTS, prototype_head.PARTS),
    "predictor": _by_kind(predictor.PARTS, closed_form.PARTS, spectral_filter.PREDICTORS),
    "target": _by_kind(target.PARTS, nearest_neighbor.PARTS, spectral_filter.TARGETS),
    "objective": OBJECTIVES,
}
"""The five fields of a method, each with the kinds of part it takes."""

__all__ = ["FIELDS", "Part"]
