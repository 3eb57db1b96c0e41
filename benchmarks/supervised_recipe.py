"""Supervised cross-entropy as a recipe in a file of its own: the reference that labels give.

    fullrank train benchmarks/supervised_recipe.py:supervised --preset small

The labels are found by the index of each image, so that a run of this recipe differs from one of
any other in its loss alone.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fullrank.data.settings import DataSettings
from fullrank.data.sources import load_source
from fullrank.models.objectives.objective import Loss, Objective, Outputs
from fullrank.models.settings.objective import ObjectivePart
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import NoProjector
from fullrank.models.settings.target import Online
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Paper, Prevents, Recipe
from fullrank.recipes.training import Optimizer, Training


@dataclass(frozen=True)
class CrossEntropy(ObjectivePart):
    """Cross-entropy of a linear classifier on the representation.

    Args:
        data: name of the labelled training set.
        classes: how many there are.
    """

    kind: ClassVar[str] = "cross-entropy"

    data: str = "fashion-mnist"
    classes: int = 10

    def build(self, dim: int, images: int = 0) -> Objective:
        return CrossEntropyObjective(self.data, dim, self.classes)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return None  # that of the shares of the classes, which the data decide


class CrossEntropyObjective(Objective):
    """Mean over views of the cross-entropy of a linear classifier."""

    labels: torch.Tensor

    def __init__(self, data: str, dim: int, classes: int) -> None:
        super().__init__()
        found = load_source(DataSettings(name=data)).train.labels
        assert found is not None
        self.classifier = nn.Linear(dim, classes)
        self.register_buffer("labels", found.long(), persistent=False)

    def forward(self, outputs: Outputs) -> Loss:
        assert outputs.indices is not None
        labels = self.labels[outputs.indices]
        losses = [cross_entropy(self.classifier(h), labels) for h in outputs.features]
        return Loss.of(cross_entropy=torch.stack(losses).mean())


TRAINING = Training(256, 1, Optimizer(lr=0.2, weight_decay=5e-4, warmup=0.1), backbone="resnet18")

supervised = Recipe(
    name="supervised",
    title="Supervised",
    family="reference",
    paper=Paper("-", 2026, "no joint embedding: the labels themselves", "-"),
    equations=("L = -log softmax(V h)[y]",),
    prevents=(Prevents("labels", "complete", ("objective=cross-entropy",)),),
    views=Crops(),
    projector=NoProjector(),
    predictor=NoPredictor(),
    target=Online(),
    objective=CrossEntropy(),
    training=TRAINING,
    small={"training": TRAINING},
)
