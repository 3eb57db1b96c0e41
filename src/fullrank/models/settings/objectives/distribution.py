"""Objectives that match the distribution of the embedding with a given one."""

from fullrank.models.settings.objective import ObjectivePart

PARTS: tuple[type[ObjectivePart], ...] = ()
