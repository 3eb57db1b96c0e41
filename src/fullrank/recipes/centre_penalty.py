"""The centre penalty: align the views, hold the centre at the origin."""

from fullrank.models.settings.objectives.stability import CentrePenalty
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Online
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe
from fullrank.recipes.training import Optimizer, Training

# The paper trains on 100 classes of ImageNet; how stands here as SimSiam is trained, without the
# batch norm at the end of the projector, which would move the centre to the origin by itself.
# Only the first moment is held: two antipodal points satisfy it. It stands against complete
# collapse, and leaves the spectrum free.
RECIPE = Recipe(
    name="centre-penalty",
    title="Centre penalty",
    family="common stability",
    paper=Paper(
        "Jha et al.",
        2024,
        "The Common Stability Mechanism behind most Self-Supervised Learning Approaches",
        "2402.14957",
    ),
    equations=(
        "s = mean over images and views of z / |z|",
        "L = -mean cos(z_1, z_2) + lambda ||s||²   (L_Simple, in this form)",
    ),
    prevents=(Prevents("centre held at the origin", "complete", ("objective.penalty",)),),
    views=Crops(augment="mocov2"),
    projector=MLPProjector(hidden=2048, out=2048, depth=3),
    predictor=NoPredictor(),
    target=Online(),
    objective=CentrePenalty(penalty=1.0),
    training=Training(
        batch_size=256,
        epochs=200,
        optimizer=Optimizer(
            name="sgd", lr=0.05, momentum=0.9, weight_decay=1e-4, schedule="cosine"
        ),
        backbone="resnet18",
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.2, weight_decay=5e-4, warmup=0.1),
        ),
    },
    ablations=(
        Ablation(
            "alignment-only",
            "without the penalty: the negative control",
            {"objective": {"penalty": 0.0}},
            predicts="complete collapse: the centre reaches length 1, the loss -1 "
            "(Jha et al. 2024; Chen and He 2021, sec. 4.1)",
            collapse="complete",
        ),
    ),
)
