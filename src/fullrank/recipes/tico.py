"""TiCo: bring positives together, push against the covariance of the past."""

from fullrank.models.settings.objectives.redundancy import CovarianceContrast
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Momentum, Online
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe
from fullrank.recipes.training import Optimizer, Training

RECIPE = Recipe(
    name="tico",
    title="TiCo",
    family="redundancy reduction",
    paper=Paper(
        "Zhu et al.",
        2022,
        "TiCo: Transformation Invariance and Covariance Contrast for Self-Supervised Visual "
        "Representation Learning",
        "2206.10698",
    ),
    equations=(
        "u_i = z_i/|z_i|,  u'_j the same by the averaged weights",
        "C <- 0.9 C + 0.1 mean u u'",
        "L = mean over i≠j of 1 - u_i·u'_j  +  8 mean of u_i' C u_i",
    ),
    prevents=(
        Prevents("covariance contrast", "complete", ("objective.rho",)),
        Prevents("covariance contrast", "dimensional", ("objective.rho",)),
    ),
    views=Crops(augment="byol"),
    projector=MLPProjector(hidden=4096, out=256, depth=2),
    predictor=NoPredictor(),
    target=Momentum(tau=0.99, schedule="cosine"),
    objective=CovarianceContrast(rho=8.0, beta=0.9),
    training=Training(
        batch_size=4096,
        epochs=1000,
        optimizer=Optimizer(
            name="lars",
            lr=0.2,
            momentum=0.9,
            weight_decay=1.5e-6,
            decay_norm_and_bias=False,
            schedule="cosine",
            warmup=0.01,
        ),
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
            "without-covariance",
            "positives attract, and nothing repels",
            changes={"objective": {"rho": 0.0}},
            predicts="the trivial solution of constant embeddings, which the covariance contrast "
            "is there to avoid (Zhu et al. 2022, abstract)",
            collapse="complete",
        ),
        Ablation(
            "without-momentum",
            "the target is the online network",
            changes={"target": Online()},
            predicts="no collapse: the covariance contrast alone excludes it (Zhu et al. 2022, "
            "abstract)",
        ),
    ),
)
