"""How a method is trained, as data."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from fullrank.models.settings.part import require


@dataclass(frozen=True)
class Optimizer:
    """The optimiser and its schedule.

    Args:
        name: ``sgd``, ``lars`` (You et al. 2017), ``adam`` or ``adamw``.
        lr: learning rate at a global batch of 256 images; scaled linearly with the batch.
        momentum: of sgd and lars.
        weight_decay: coefficient of L2 decay (decoupled in adamw).
        decay_norm_and_bias: whether biases and norm parameters decay; if not, lars does not
            adapt their rate either.
        schedule: ``cosine`` to ``final_lr``, or ``constant``; after the warm-up.
        warmup: share of the steps in which the rate rises linearly from zero.
        final_lr: rate at the last step as a share of the highest.
        predictor_schedule: ``scheduled`` like the rest, or ``constant`` (Chen and He 2021).
        predictor_lr: factor on the predictor's rate (alpha_p of Tian et al. 2021).
        final_weight_decay: coefficient at the last step, reached on a cosine; None keeps it.
        predictor_weight_decay: coefficient on the predictor; None is that of the rest.
        clip_gradient: largest norm of each parameter's gradient; None does not clip.
    """

    name: Literal["sgd", "lars", "adam", "adamw"] = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay_norm_and_bias: bool = True
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.0
    final_lr: float = 0.0
    predictor_schedule: Literal["scheduled", "constant"] = "scheduled"
    predictor_lr: float = 1.0
    final_weight_decay: float | None = None
    predictor_weight_decay: float | None = None
    clip_gradient: float | None = None

    def __post_init__(self) -> None:
        require(self.lr > 0, "optimizer.lr", self.lr, "a number above 0")
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        for name in ("final_weight_decay", "predictor_weight_decay"):
            value = getattr(self, name)
            require(value is None or value >= 0, f"optimizer.{name}", value, "0 or more")
        require(
            self.clip_gradient is None or self.clip_gradient > 0,
            "optimizer.clip_gradient",
            self.clip_gradient,
            "a number above 0",
        )
        require(0 <= self.warmup < 1, "optimizer.warmup", self.warmup, "a share in [0, 1)")
        require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "a number in [0, 1)")


@dataclass(frozen=True)
class Training:
    """How a method is trained.

    Args:
        batch_size: images in the global batch.
        epochs: passes over the training set.
        optimizer: optimiser and schedule.
        backbone: the published network, by the name that ``--backbone`` takes.
    """

    batch_size: int
    epochs: float
    optimizer: Optimizer
    backbone: str = "resnet50"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under the names that a configuration gives them."""
        plain = asdict(self)
        del plain["backbone"]  # a configuration gives it settings of its own
        return plain
