"""BYOL: a predictor and a slowly moving target."""

from fullrank.models.settings.objectives.directions import NormalisedMSE
from fullrank.models.settings.predictor import (
    LinearPredictor,
    MLPPredictor,
    NoPredictor,
    SymmetricLinearPredictor,
)
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Momentum, Online, StopGradient
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe, Variant
from fullrank.recipes.training import Optimizer, Training

RECIPE = Recipe(
    name="byol",
    title="BYOL",
    family="asymmetric",
    paper=Paper(
        "Grill et al.",
        2020,
        "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning",
        "2006.07733",
    ),
    equations=(
        "z_i = projector(backbone(view_i)),  p_i = predictor(z_i),  z'_j by the averaged weights",
        "L = sum over i≠j of ||p_i/|p_i| - z'_j/|z'_j|||²   (Eq. 2)",
        "w' <- tau w' + (1 - tau) w,  tau rises from 0.996 to 1 on a cosine   (sec. 3.2)",
    ),
    prevents=(
        Prevents(
            "predictor together with the momentum target",
            "complete",
            ("target=momentum|stop-gradient", "predictor=mlp|linear|symmetric-linear"),
        ),
        Prevents(
            "predictor against a target without gradient",
            "dimensional",
            ("target=momentum|stop-gradient", "predictor=mlp|linear|symmetric-linear"),
        ),
    ),
    views=Crops(augment="byol"),
    projector=MLPProjector(hidden=4096, out=256, depth=2),
    predictor=MLPPredictor(hidden=4096),
    target=Momentum(tau=0.996, schedule="cosine"),
    objective=NormalisedMSE(),
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
        "predictor": MLPPredictor(hidden=256),
        "target": Momentum(tau=0.99),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.1, weight_decay=5e-4, warmup=0.1),
        ),
    },
    variants=(
        Variant(
            "linear",
            "the predictor is one matrix (Tian et al. 2021)",
            changes={"predictor": LinearPredictor()},
            small={"optimizer": {"lr": 0.2, "predictor_lr": 10.0}},
        ),
        Variant(
            "symmetric-linear",
            "the predictor is one symmetric matrix, which the average keeps from collapse (Tian et "
            "al. 2021)",
            changes={"predictor": SymmetricLinearPredictor()},
            small={"optimizer": {"lr": 0.2, "predictor_lr": 10.0}},
        ),
    ),
    ablations=(
        Ablation(
            "without-predictor",
            "the embedding is its own prediction",
            changes={"predictor": NoPredictor()},
            predicts="collapses: every eigenvalue of F decays (Tian et al. 2021, theorem 2)",
            collapse="complete",
        ),
        Ablation(
            "without-stop-gradient",
            "gradients flow through both sides, and there is no average",
            changes={"target": Online()},
            predicts="collapses completely (Tian et al. 2021, theorem 2)",
            collapse="complete",
        ),
        Ablation(
            "without-momentum",
            "the target is the online network, as a constant",
            changes={"target": StopGradient()},
            predicts="need not collapse: what is left is SimSiam (Chen and He 2021)",
        ),
    ),
)
