"""The settings of a method's parts: frozen dataclasses that import no torch."""

from collections.abc import Mapping

from fullrank.models.settings.objective import OBJECTIVES
from fullrank.models.settings.part import Part
from fullrank.models.settings.predictor import PREDICTORS
from fullrank.models.settings.projector import PROJECTORS
from fullrank.models.settings.target import TARGETS
from fullrank.models.settings.views import VIEWS

FIELDS: Mapping[str, Mapping[str, type[Part]]] = {
    "views": VIEWS,
    "projector": PROJECTORS,
    "predictor": PREDICTORS,
    "target": TARGETS,
    "objective": OBJECTIVES,
}
"""The five fields of a method, each with the kinds of part it takes."""

__all__ = ["FIELDS", "Part"]
