"""SimSiam: a predictor and a stop-gradient, nothing else."""

from fullrank.models.settings.objectives.directions import Cosine
from fullrank.models.settings.predictor import MLPPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import StopGradient
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Paper, Prevents, Recipe
from fullrank.recipes.training import Optimizer, Training

RECIPE = Recipe(
    name="simsiam",
    title="SimSiam",
    family="asymmetric",
    paper=Paper(
        "Chen and He", 2021, "Exploring Simple Siamese Representation Learning", "2011.10566"
    ),
    equations=(
        "z_i = projector(backbone(view_i)),  p_i = predictor(z_i)",
        "L = D(p_1, stop(z_2)) / 2 + D(p_2, stop(z_1)) / 2,  D(p, z) = -cos(p, z)   (Eqs. 1-4)",
    ),
    prevents=(
        Prevents(
            "stop-gradient together with the predictor",
            "complete",
            ("target=stop-gradient|momentum", "predictor=mlp|linear"),
        ),
        Prevents(
            "predictor behind a stop-gradient",
            "dimensional",
            ("target=stop-gradient|momentum", "predictor=mlp|linear"),
        ),
    ),
    views=Crops(augment="mocov2"),
    projector=MLPProjector(hidden=2048, out=2048, depth=3, last_norm="batch"),
    predictor=MLPPredictor(hidden=512),
    target=StopGradient(),
    objective=Cosine(),
    training=Training(
        batch_size=512,
        epochs=100,
        optimizer=Optimizer(
            name="sgd",
            lr=0.05,
            momentum=0.9,
            weight_decay=1e-4,
            schedule="cosine",
            predictor_schedule="constant",
        ),
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2, last_norm="batch"),
        "predictor": MLPPredictor(hidden=64),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.2, weight_decay=5e-4, warmup=0.1),
        ),
    },
)
