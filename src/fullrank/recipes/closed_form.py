"""BYOL with the optimal linear predictor in closed form."""

from fullrank.models.settings.closed_form import ClosedFormPredictor, RegressionPredictor
from fullrank.models.settings.objectives.directions import NormalisedMSE
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Momentum, Online
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe, Variant
from fullrank.recipes.training import Optimizer, Training

RECIPE = Recipe(
    name="closed-form",
    title="closed-form BYOL",
    family="asymmetric",
    paper=Paper(
        "Richemond et al.",
        2023,
        "The Edge of Orthogonality: A Simple View of What Makes BYOL Tick",
        "2302.04817",
    ),
    equations=(
        "W_p = E[t z'] (E[z z'] + ridge I)^-1, the best linear prediction of targets t",
        "L = sum over i≠j of ||W_p z_i/|W_p z_i| - t_j/|t_j|||², t by the averaged weights",
    ),
    prevents=(
        Prevents(
            "optimal predictor against a target without gradient",
            "complete",
            ("target=momentum|stop-gradient", "predictor=regression|closed-form"),
        ),
        Prevents(
            "optimal predictor against a target without gradient",
            "dimensional",
            ("target=momentum|stop-gradient", "predictor=regression|closed-form"),
        ),
    ),
    views=Crops(augment="byol"),
    projector=MLPProjector(hidden=4096, out=256, depth=2),
    predictor=RegressionPredictor(rho=0.3, ridge=0.1),
    target=Momentum(tau=0.996, schedule="cosine"),
    objective=NormalisedMSE(),
    training=Training(
        batch_size=4096,
        epochs=300,
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
        # A tenth of the mean eigenvalue is little where few directions vary: W_p then is nearly the
        # identity where they do, and the embedding collapses in one epoch.
        "predictor": RegressionPredictor(rho=0.3, ridge=20.0),
        "target": Momentum(tau=0.99),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.2, weight_decay=5e-4, warmup=0.1),
        ),
    },
    variants=(
        Variant(
            "projection",
            "the orthogonal projection, which the optimal predictor is close to, on the leading "
            "eigenvectors of F",
            changes={"predictor": ClosedFormPredictor(exponent=0.0, epsilon=0.0, cut=0.01)},
        ),
    ),
    ablations=(
        Ablation(
            "without-predictor",
            "the embedding is its own prediction",
            changes={"predictor": NoPredictor()},
            predicts="collapses: the methods crucially rely on the predictor (abstract)",
            collapse="complete",
        ),
        Ablation(
            "without-stop-gradient",
            "gradients flow through both sides, and there is no average",
            changes={"target": Online()},
            predicts="collapses: the methods crucially rely on the stop-gradient (abstract)",
            collapse="complete",
        ),
    ),
)
