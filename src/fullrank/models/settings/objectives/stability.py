"""Objectives that hold the centre of the embedding still."""

from fullrank.models.settings.objective import ObjectivePart

PARTS: tuple[type[ObjectivePart], ...] = ()
