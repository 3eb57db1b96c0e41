"""Optimisers: which parameters have which rate and decay, and how these are set at every step."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fullrank.models.joint_embedding import JointEmbedding
from fullrank.recipes.training import Optimizer
from fullrank.train.rates import decay_at, rate_at, scaled_lr


def build_optimizer(
    network: JointEmbedding, settings: Optimizer, batch_size: int
) -> torch.optim.Optimizer:
    """Build the optimiser of a network.

    Every parameter group carries ``peak_lr``, its highest rate, ``constant``, whether it keeps
    that rate, and ``predictor``, whether it holds the predictor.
    """
    lr = scaled_lr(settings, batch_size)
    predictor = {id(p) for p in network.predictor.parameters()}
    plain = set() if settings.decay_norm_and_bias else _norms_and_biases(network)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            key = (id(parameter) in predictor, id(parameter) in plain)
            groups.setdefault(key, []).append(parameter)
    peak = {False: lr, True: lr * settings.predictor_lr}
    described: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": peak[of_predictor],
            "peak_lr": peak[of_predictor],
            "predictor": of_predictor,
            "constant": of_predictor and settings.predictor_schedule == "constant",
            "weight_decay": 0.0 if undecayed else _decay(settings, of_predictor),
        }
        for (of_predictor, undecayed), parameters in groups.items()
    ]
    if settings.name == "sgd":
        return torch.optim.SGD(described, lr=lr, momentum=settings.momentum)
    if settings.name == "lars":
        from timm.optim import Lars

        # Groups without decay are not adapted: always_adapt is off.
        return Lars(described, lr=lr, momentum=settings.momentum, trust_coeff=0.001)
    if settings.name == "adam":
        return torch.optim.Adam(described, lr=lr)
    return torch.optim.AdamW(described, lr=lr)


def _decay(settings: Optimizer, of_predictor: bool) -> float:
    own = settings.predictor_weight_decay
    return settings.weight_decay if own is None or not of_predictor else own


def clip_gradients(network: nn.Module, largest: float | None) -> None:
    """Scale down every parameter's gradient whose norm is above ``largest``; None changes nothing.

    Parameter by parameter, as in DINO's published training.
    """
    if largest is None:
        return
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    norms = torch._foreach_norm(gradients)
    scales = [torch.clamp(largest / (norm + 1e-6), max=1.0) for norm in norms]
    torch._foreach_mul_(gradients, scales)


def _norms_and_biases(network: nn.Module) -> set[int]:
    return {id(p) for p in network.parameters() if p.ndim <= 1}


def set_rates(
    optimizer: torch.optim.Optimizer, settings: Optimizer, step: int, total_steps: int
) -> float:
    """Set every group's rate and decay for step ``step`` (from 0); return the encoder's rate."""
    share = rate_at(settings, step, total_steps)
    decay = decay_at(settings, step, total_steps)
    for group in optimizer.param_groups:
        own = group["predictor"] and settings.predictor_weight_decay is not None
        if group["weight_decay"] > 0 and not own and settings.final_weight_decay is not None:
            group["weight_decay"] = decay
        group["lr"] = group["peak_lr"] * (1.0 if group["constant"] else share)
    return float(next(g["lr"] for g in optimizer.param_groups if not g["predictor"]))
