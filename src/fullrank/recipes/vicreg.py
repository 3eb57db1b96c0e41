"""VICReg: hold each dimension's variance, remove the covariances."""

from fullrank.models.settings.objectives.redundancy import VarianceCovariance
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Online
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe
from fullrank.recipes.training import Optimizer, Training

RECIPE = Recipe(
    name="vicreg",
    title="VICReg",
    family="redundancy reduction",
    paper=Paper(
        "Bardes, Ponce and LeCun",
        2022,
        "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning",
        "2105.04906",
    ),
    equations=(
        "s = mean ||z_1 - z_2||² / d,  v(z) = mean_j relu(1 - sqrt(var z_j + 1e-4))",
        "c(z) = sum over j≠k of cov(z)_jk² / d   (Eqs. 1-4)",
        "L = 25 s + 25 (v(z_1) + v(z_2)) / 2 + (c(z_1) + c(z_2))   (Eq. 6)",
    ),
    prevents=(
        Prevents("variance hinge", "complete", ("objective.variance",)),
        Prevents("covariance penalty", "dimensional", ("objective.covariance",)),
    ),
    views=Crops(augment="byol"),
    projector=MLPProjector(hidden=8192, out=8192, depth=3, last_bias=False),
    predictor=NoPredictor(),
    target=Online(),
    objective=VarianceCovariance(invariance=25, variance=25, covariance=1),
    training=Training(
        batch_size=2048,
        epochs=1000,
        optimizer=Optimizer(
            name="lars",
            lr=0.2,
            momentum=0.9,
            weight_decay=1e-6,
            decay_norm_and_bias=False,
            schedule="cosine",
            warmup=0.01,
            final_lr=0.00125,
        ),
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.05, weight_decay=5e-4, warmup=0.1),
        ),
    },
    ablations=(
        Ablation(
            "without-variance",
            "nothing holds the standard deviations",
            changes={"objective": {"variance": 0.0}},
            predicts="the embedding shrinks to a point, where distance and covariances are zero, "
            "too (Bardes et al. 2022, sec. 4)",
            collapse="complete",
        ),
        Ablation(
            "without-covariance",
            "nothing keeps the dimensions apart",
            changes={"objective": {"covariance": 0.0}},
            predicts="no complete collapse, but dimensions that repeat each other (Bardes et al. "
            "2022, sec. 4)",
            collapse="dimensional",
        ),
        Ablation(
            "without-invariance",
            "the two terms that VCReg adds to other objectives, by themselves",
            changes={"objective": {"invariance": 0.0}},
            predicts="no collapse, but nothing of what the views have in common is learned (Bardes "
            "et al. 2022, sec. 4)",
        ),
        Ablation(
            "only-invariance",
            "positives attract, and nothing repels",
            changes={"objective": {"variance": 0.0, "covariance": 0.0}},
            predicts="the trivial solution of constant embeddings (Bardes et al. 2022, abstract)",
            collapse="complete",
        ),
    ),
)
