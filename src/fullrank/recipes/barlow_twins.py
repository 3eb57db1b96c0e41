"""Barlow Twins: make the views' cross-correlation the identity."""

from fullrank.models.settings.objectives.redundancy import CrossCorrelation
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Online
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe
from fullrank.recipes.training import Optimizer, Training

RECIPE = Recipe(
    name="barlow-twins",
    title="Barlow Twins",
    family="redundancy reduction",
    paper=Paper(
        "Zbontar et al.",
        2021,
        "Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
        "2103.03230",
    ),
    equations=(
        "C = corr(z_1, z_2) over the batch   (Eq. 2)",
        "L = sum_i (1 - C_ii)² + 0.0051 sum over i≠j of C_ij²   (Eq. 1)",
    ),
    prevents=(
        Prevents(
            "standardised dimensions that must agree",
            "complete",
            ("objective=cross-correlation",),
        ),
        Prevents("off-diagonal term", "dimensional", ("objective.off_diagonal",)),
    ),
    views=Crops(augment="byol"),
    projector=MLPProjector(hidden=8192, out=8192, depth=3, last_bias=False),
    predictor=NoPredictor(),
    target=Online(),
    objective=CrossCorrelation(off_diagonal=0.0051),
    training=Training(
        batch_size=2048,
        epochs=1000,
        optimizer=Optimizer(
            name="lars",
            lr=0.2,
            momentum=0.9,
            weight_decay=1.5e-6,
            decay_norm_and_bias=False,
            schedule="cosine",
            warmup=0.01,
            final_lr=0.001,
        ),
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2),
        "objective": CrossCorrelation(off_diagonal=0.05),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(name="adamw", lr=0.004, weight_decay=0.01, warmup=0.1),
        ),
    },
    ablations=(
        Ablation(
            "without-off-diagonal",
            "only the diagonal of the cross-correlation is held",
            changes={"objective": {"off_diagonal": 0.0}},
            predicts="no complete collapse: the standardised dimensions have zero mean, which "
            "holds the centre (Jha et al. 2024); but dimensions may repeat each other",
            collapse="dimensional",
        ),
    ),
)
