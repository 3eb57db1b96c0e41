"""A published method as data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from fullrank.errors import UserError
from fullrank.models.settings import FIELDS
from fullrank.models.settings.backbone import BackboneSettings
from fullrank.models.settings.objective import ObjectivePart
from fullrank.models.settings.part import require
from fullrank.models.settings.predictor import PredictorPart
from fullrank.models.settings.projector import MLPProjector, ProjectorPart
from fullrank.models.settings.target import TargetPart
from fullrank.models.settings.views import Crops

if TYPE_CHECKING:  # quoted below: whoever reads the settings' types need not import torch
    from fullrank.models.joint_embedding import JointEmbedding

Collapse = Literal["complete", "dimensional", "cluster"]


@dataclass(frozen=True)
class Paper:
    """Where a method was published."""

    authors: str
    year: int
    title: str
    arxiv: str

    def __str__(self) -> str:
        return f"{self.authors} {self.year}, {self.title}, arXiv:{self.arxiv}"


@dataclass(frozen=True)
class Prevents:
    """Which mechanism of a method prevents which kind of collapse.

    Args:
        mechanism: in words.
        collapse: the kind it prevents.
        needs: what must stand for the mechanism to be there: ``target=stop-gradient`` (a field is
            of this kind, or of one of several separated by ``|``), or ``objective.covariance`` (a
            weight is not zero).
    """

    mechanism: str
    collapse: Collapse
    needs: tuple[str, ...]

    def stands_in(self, recipe: "Recipe") -> bool:
        """Say whether ``recipe``, whose fields may have been replaced, has the mechanism."""
        return all(_holds(need, recipe) for need in self.needs)


def _holds(need: str, recipe: "Recipe") -> bool:
    path, _, kinds = need.partition("=")
    field_name, _, weight = path.partition(".")
    part = getattr(recipe, field_name)
    if kinds:
        return part.kind in kinds.split("|")
    return bool(getattr(part, weight, 0))


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

    def __post_init__(self) -> None:
        require(self.lr > 0, "optimizer.lr", self.lr, "a number above 0")
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        require(0 <= self.warmup < 1, "optimizer.warmup", self.warmup, "a share in [0, 1)")
        require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "a number in [0, 1)")


@dataclass(frozen=True)
class Training:
    """How a method is trained.

    Args:
        batch_size: images in the global batch.
        epochs: passes over the training set.
        optimizer: optimiser and schedule.
    """

    batch_size: int
    epochs: float
    optimizer: Optimizer

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under the names that a configuration gives them."""
        return asdict(self)


@dataclass(frozen=True)
class Recipe:
    """One published method: five fields, how it is trained, and what is known of it.

    ``views → backbone → projector → predictor → objective(prediction, target)``. Recipes
    compare, go to a dictionary (YAML) and back, and import no torch; ``build`` makes the module.

    Args:
        name: what the command line calls it.
        title: the method's own name.
        family: ``asymmetric``, ``contrastive`` or ``redundancy reduction``.
        paper: where it was published.
        equations: the loss in this code's names, one line each.
        prevents: which mechanism prevents which collapse.
        views: how positives are made.
        projector: head h → z.
        predictor: head z → p on the online side.
        target: what the other side is.
        objective: how p and target are compared, and what spreads them.
        training: as published, on ImageNet.
        small: fields and training that suit small images and a processor, by their names.
    """

    name: str
    title: str
    family: str
    paper: Paper
    equations: tuple[str, ...]
    prevents: tuple[Prevents, ...]
    views: Crops
    projector: ProjectorPart
    predictor: PredictorPart
    target: TargetPart
    objective: ObjectivePart
    training: Training = field(compare=False)
    small: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def preset(self, name: str) -> "Recipe":
        """Return this recipe under a preset: ``paper`` (as published) or ``small``."""
        if name == "paper":
            return self
        require(name == "small", "preset", name, "'paper' or 'small'")
        return replace(self, **self.small)

    def to_dict(self) -> dict[str, Any]:
        """Return name and fields as plain values."""
        return {"name": self.name} | {f: getattr(self, f).to_dict() for f in FIELDS}

    def standing(self) -> list[Prevents]:
        """Return the mechanisms against collapse that the fields, as they are, still have."""
        return [p for p in self.prevents if p.stands_in(self)]

    def diagram(self, backbone: str) -> list[str]:
        """Return views, backbone, projector, predictor, target and objective in words."""
        words = {name: getattr(self, name).describe() for name in FIELDS}
        return [words["views"], backbone, *(words[f] for f in list(FIELDS)[1:])]

    def embedding_dim(self, features: int) -> int:
        """Return the dimension of the embedding over a backbone of ``features`` dimensions."""
        return self.projector.out if isinstance(self.projector, MLPProjector) else features

    def collapsed_loss(self, features: int, batch_size: int) -> float:
        """Return the loss that a constant embedding shows."""
        return self.objective.collapsed_loss(self.embedding_dim(features), batch_size)

    def check(self, batch_size: int) -> None:
        """Refuse what cannot work, with the reason.

        Raises:
            UserError: the fields contradict each other or the batch size.
        """
        require(batch_size >= 1, "batch_size", batch_size, "1 or more")
        if batch_size == 1 and self.objective.couples:
            raise UserError(
                f"batch_size: 1 image cannot train {self.name}: its objective "
                f"({self.objective.describe()}) compares the images of a batch. Allowed: 2 or more."
            )
        moves = getattr(self.target, "schedule", None) == "constant"
        if moves and getattr(self.target, "tau", None) == 1.0:
            raise UserError(
                "recipe.target.tau: 1.0 with a constant schedule never moves the target from the "
                "random network it starts as. Allowed: below 1, or schedule 'cosine'."
            )
        if getattr(self.projector, "out", None) == 1 and getattr(self.objective, "couples", False):
            raise UserError(
                f"recipe.projector.out: an embedding of 1 dimension has no rank to spread for "
                f"{self.objective.describe()}. Allowed: 2 or more."
            )

    def build(self, backbone: BackboneSettings, channels: int, size: int) -> "JointEmbedding":
        """Build the network that executes this recipe.

        Args:
            backbone: settings of the backbone.
            channels: channels of the images.
            size: side of the images in pixels.
        """
        from fullrank.models.joint_embedding import JointEmbedding

        network, features = backbone.build(channels, size)
        projector, dim = self.projector.build(features)
        return JointEmbedding(
            network,
            projector,
            self.predictor.build(dim),
            self.target.build(network, projector),
            self.objective.build(),
            features,
        )
