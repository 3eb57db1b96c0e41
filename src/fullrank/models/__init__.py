"""Backbones, heads, predictors, targets, objectives and the module that joins them (floor 1)."""
