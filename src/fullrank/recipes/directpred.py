"""DirectPred: the predictor is set from the second moment of what it predicts from."""

from fullrank.models.settings.closed_form import ClosedFormPredictor
from fullrank.models.settings.objectives.directions import NormalisedMSE
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Momentum, Online, StopGradient
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe, Variant
from fullrank.recipes.training import Optimizer, Training

SMALL = {
    "views": Crops(),
    "projector": MLPProjector(hidden=256, out=128, depth=2),
    "target": Momentum(tau=0.99),
    "training": Training(
        batch_size=256,
        epochs=1,
        optimizer=Optimizer(lr=0.2, weight_decay=5e-4, warmup=0.1),
    ),
}

RECIPE = Recipe(
    name="directpred",
    title="DirectPred",
    family="asymmetric",
    paper=Paper(
        "Tian, Chen and Ganguli",
        2021,
        "Understanding Self-Supervised Learning Dynamics without Contrastive Pairs",
        "2102.06810",
    ),
    equations=(
        "F <- rho F + (1 - rho) E[z z'] over all views of the batch   (Eq. 19)",
        "F = Q diag(s) Q',  p_j = sqrt(s_j) + epsilon max(s),  W_p = Q diag(p) Q'   (Eq. 18)",
        "L = sum over i≠j of ||W_p z_i/|W_p z_i| - z'_j/|z'_j|||², z' by the averaged weights",
    ),
    prevents=(
        Prevents(
            "predictor set from F against a target without gradient",
            "complete",
            ("target=momentum|stop-gradient", "predictor=closed-form"),
        ),
        Prevents(
            "eigenvalues of the predictor that grow with those of F",
            "dimensional",
            ("target=momentum|stop-gradient", "predictor=closed-form", "predictor.exponent"),
        ),
    ),
    views=Crops(augment="byol"),
    projector=MLPProjector(hidden=4096, out=256, depth=2),
    predictor=ClosedFormPredictor(rho=0.3, exponent=0.5, epsilon=0.1, normalised=False),
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
        **SMALL,
        # With eigenvalues as they are, epsilon weighs the more the longer the embeddings are; with
        # 0.1, the embedding's rank falls to the edge of collapse in one epoch.
        "predictor": ClosedFormPredictor(rho=0.3, exponent=0.5, epsilon=0.01),
    },
    variants=(
        Variant(
            "official",
            "the authors' code on STL-10: normalised eigenvalues, epsilon 0.01, floor 1e-4",
            changes={
                "views": Crops(augment="simclr"),
                "projector": MLPProjector(hidden=512, out=128, depth=2),
                "predictor": ClosedFormPredictor(rho=0.3, epsilon=0.01, floor=1e-4),
                "target": Momentum(tau=0.996, schedule="constant"),
                "training": Training(
                    batch_size=128,
                    epochs=100,
                    optimizer=Optimizer(
                        lr=0.06, momentum=0.9, weight_decay=4e-4, schedule="constant"
                    ),
                    backbone="resnet18",
                ),
            },
            small=SMALL,
        ),
        Variant(
            "hybrid",
            "set every 5 steps, trained by gradient in between, as in the authors' freq=5",
            changes={"predictor": {"frequency": 5}},
        ),
        Variant(
            "fmi",
            "Halvagal et al. 2023: F over hundreds of steps, no epsilon, no lag",
            changes={
                "predictor": ClosedFormPredictor(
                    rho=0.998, epsilon=0.0, epsilon_inside=True, lag=0, start="zero"
                ),
                "target": Momentum(tau=0.99, schedule="cosine"),
                "training": Training(
                    batch_size=4096,
                    epochs=100,
                    optimizer=Optimizer(
                        name="lars",
                        lr=0.45,
                        momentum=0.9,
                        weight_decay=1e-5,
                        decay_norm_and_bias=False,
                        schedule="cosine",
                        warmup=0.1,
                    ),
                ),
            },
            small=SMALL,
        ),
    ),
    ablations=(
        Ablation(
            "without-predictor",
            "the embedding is its own prediction",
            changes={"predictor": NoPredictor()},
            predicts="all eigenvalues of F decay to zero: complete collapse (sec. 3, theorem 2)",
            collapse="complete",
        ),
        Ablation(
            "without-stop-gradient",
            "gradients flow through both sides, and there is no average",
            changes={"target": Online()},
            predicts="all eigenvalues of F decay to zero: complete collapse (theorem 2)",
            collapse="complete",
        ),
        Ablation(
            "without-momentum",
            "the target is the online network, as a constant",
            changes={"target": StopGradient()},
            predicts="learns, and less well than with the average (replicated by Hoeppe et al. "
            "2022 on CIFAR-10)",
        ),
    ),
)
