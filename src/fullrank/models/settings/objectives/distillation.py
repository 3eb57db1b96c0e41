"""Objectives by which a student learns from its own average."""

from fullrank.models.settings.objective import ObjectivePart

PARTS: tuple[type[ObjectivePart], ...] = ()
