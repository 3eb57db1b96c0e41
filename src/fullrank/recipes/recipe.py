"""A published method as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from fullrank.errors import UserError, unknown_name
from fullrank.models.settings import FIELDS, Part
from fullrank.models.settings.backbone import BackboneSettings
from fullrank.models.settings.objective import ObjectivePart
from fullrank.models.settings.part import require
from fullrank.models.settings.predictor import PredictorPart
from fullrank.models.settings.projector import ProjectorPart
from fullrank.models.settings.target import TargetPart
from fullrank.models.settings.views import Crops, MultiCrop
from fullrank.recipes.training import Training

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
            of this kind, or of one of several separated by ``|``), ``objective.covariance`` (a
            weight is not zero), or ``objective.keep!=none`` (a setting, where there is one, has
            none of these values).
    """

    mechanism: str
    collapse: Collapse
    needs: tuple[str, ...]

    def stands_in(self, recipe: "Recipe") -> bool:
        """Say whether ``recipe``, whose fields may have been replaced, has the mechanism."""
        return all(_holds(need, recipe) for need in self.needs)


def _holds(need: str, recipe: "Recipe") -> bool:
    setting, _, others = need.partition("!=")
    if others:
        field_name, _, name = setting.partition(".")
        return getattr(getattr(recipe, field_name), name, None) not in others.split("|")
    path, _, kinds = need.partition("=")
    field_name, _, weight = path.partition(".")
    part = getattr(recipe, field_name)
    if kinds:
        return part.kind in kinds.split("|")
    return bool(getattr(part, weight, 0))


@dataclass(frozen=True)
class Variant:
    """A published form of a method other than its main one.

    Args:
        name: what follows the slash: ``directpred/official``.
        summary: what differs and whose it is, in one line.
        changes: by field: a part that replaces it, or the settings in it that differ. Beside the
            five fields there are ``training`` and ``optimizer``.
        small: what differs beyond that under the preset ``small``.
    """

    name: str
    summary: str
    changes: Mapping[str, Any]
    small: Mapping[str, Any] = field(default_factory=dict)

    def applied_to(self, recipe: "Recipe", preset: str) -> "Recipe":
        """Return ``recipe``, as it is under a preset, with the changes."""
        changed = _changed(recipe, self.changes)
        return _changed(changed, self.small) if preset == "small" else changed


@dataclass(frozen=True)
class Ablation(Variant):
    """A method without one of its mechanisms.

    Args:
        predicts: what the paper says happens then.
        collapse: which kind follows, if any.
    """

    predicts: str = ""
    collapse: Collapse | None = None

    def __post_init__(self) -> None:
        require(bool(self.predicts), "predicts", self.predicts, "what the paper predicts, in words")


def _changed(recipe: "Recipe", changes: Mapping[str, Any]) -> "Recipe":
    """Return ``recipe`` with parts replaced, or settings of them."""
    for name, change in changes.items():
        if name == "optimizer":
            optimizer = replace(recipe.training.optimizer, **change)
            recipe = replace(recipe, training=replace(recipe.training, optimizer=optimizer))
        elif isinstance(change, Mapping):
            recipe = replace(recipe, **{name: replace(getattr(recipe, name), **change)})
        else:
            recipe = replace(recipe, **{name: change})
    return recipe


@dataclass(frozen=True)
class Recipe:
    """One published method: five fields, how it is trained, and what is known of it.

    ``views → backbone → projector → predictor → objective(prediction, target)``. Recipes
    compare, go to a dictionary (YAML) and back, and import no torch; ``build`` makes the module.

    Args:
        name: what the command line calls it.
        title: the method's own name.
        family: ``asymmetric``, ``contrastive``, ``clustering``, ``self-distillation``,
            ``redundancy reduction``, ``distribution matching`` or ``common stability``.
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
        variants: other published forms.
        ablations: the method without one of its mechanisms, each with what is predicted.
        chosen: the variants and ablations that this recipe is under.
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
    variants: tuple[Variant, ...] = field(default=(), compare=False)
    ablations: tuple[Ablation, ...] = field(default=(), compare=False)
    chosen: tuple[Variant, ...] = field(default=(), compare=False)

    def variant(self, name: str) -> "Recipe":
        """Return this recipe in another published form, or without one of its mechanisms.

        Args:
            name: of one of ``variants`` or ``ablations``; several are taken one after the other.

        Raises:
            UserError: there is none of this name; the nearest are given.
        """
        known = {v.name: v for v in (*self.variants, *self.ablations)}
        if name not in known:
            listing = None if known else f"{self.name} has no variants and no ablations."
            raise unknown_name(f"variant of {self.name}", name, known, listing)
        other = known[name].applied_to(self, "paper")
        return replace(other, name=f"{self.name}/{name}", chosen=(*self.chosen, known[name]))

    def preset(self, name: str) -> "Recipe":
        """Return this recipe under a preset: ``paper`` (as published) or ``small``."""
        if name == "paper":
            return self
        require(name == "small", "preset", name, "'paper' or 'small'")
        small = replace(self, **self.small)
        for variant in self.chosen:
            small = variant.applied_to(small, "small")
        return small

    def kinds(self, name: str) -> Mapping[str, type[Part]]:
        """Return the kinds of part that a field takes: all known ones, and this recipe's own."""
        own = [getattr(self, name), self.small.get(name)]
        own += [v.changes.get(name) for v in (*self.variants, *self.ablations)]
        return {**FIELDS[name], **{p.kind: type(p) for p in own if isinstance(p, Part)}}

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
        dim = self.projector.dim(features)
        assert dim is not None
        return dim

    def collapsed_loss(self, features: int, batch_size: int) -> float | None:
        """Return the loss that a constant embedding shows; None if it has none."""
        return self.objective.collapsed_loss(self.embedding_dim(features), batch_size)

    def check(self, batch_size: int, features: int | None = None) -> None:
        """Refuse what cannot work, with the reason.

        Args:
            batch_size: images in the global batch.
            features: dimension of the representation, if it is known already.

        Raises:
            UserError: the fields contradict each other or the batch size.
        """
        require(batch_size >= 1, "batch_size", batch_size, "1 or more")
        if batch_size == 1 and self.objective.couples:
            raise UserError(
                f"batch_size: 1 image cannot train {self.name}: its objective "
                f"({self.objective.describe()}) compares the images of a batch. Allowed: 2 or more."
            )
        dim = self.projector.dim(features)
        if dim == 1 and self.objective.couples:
            raise UserError(
                f"recipe.projector.out: an embedding of 1 dimension has no rank to spread for "
                f"{self.objective.describe()}. Allowed: 2 or more."
            )
        for name in FIELDS:
            getattr(self, name).check(batch_size, dim)

    def build(
        self, backbone: BackboneSettings, channels: int, size: int, images: int = 0
    ) -> "JointEmbedding":
        """Build the network that executes this recipe.

        Args:
            backbone: settings of the backbone.
            channels: channels of the images.
            size: side of the images in pixels.
            images: in the training set; 0 if the network is not to be trained.
        """
        from fullrank.models.joint_embedding import JointEmbedding

        network, features = backbone.build(channels, size)
        if isinstance(self.views, MultiCrop):
            from fullrank.models.backbones import check_size

            check_size(network, backbone.describe(), channels, self.views.small_side(size))
        projector, dim = self.projector.build(features), self.embedding_dim(features)
        return JointEmbedding(
            network,
            projector,
            self.predictor.build(dim),
            self.target.build(network, projector, dim),
            self.objective.build(dim, images),
            features,
            self.views.targets,
        )
