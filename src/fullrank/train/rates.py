"""Learning rate and weight decay: pure functions of the step, so that resuming is exact."""

from __future__ import annotations

import math

from fullrank.recipes.training import Optimizer

REFERENCE_BATCH = 256


def scaled_lr(settings: Optimizer, batch_size: int) -> float:
    """Return the highest learning rate at a global batch (linear scaling, Goyal et al. 2017)."""
    return settings.lr * batch_size / REFERENCE_BATCH


def rate_at(settings: Optimizer, step: int, total_steps: int) -> float:
    """Return the share of the highest learning rate that step ``step`` (from 0) uses."""
    warmup = round(settings.warmup * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    if settings.schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, total_steps - warmup)
    return settings.final_lr + (1 - settings.final_lr) * (1 + math.cos(math.pi * progress)) / 2


def decay_at(settings: Optimizer, step: int, total_steps: int) -> float:
    """Return the weight decay of step ``step`` (from 0), the predictor's own aside."""
    if settings.final_weight_decay is None:
        return settings.weight_decay
    share = (1 - math.cos(math.pi * step / max(1, total_steps))) / 2
    return settings.weight_decay + share * (settings.final_weight_decay - settings.weight_decay)
