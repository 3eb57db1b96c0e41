"""Objectives that compare assignments to prototypes."""

from fullrank.models.settings.objective import ObjectivePart

PARTS: tuple[type[ObjectivePart], ...] = ()
