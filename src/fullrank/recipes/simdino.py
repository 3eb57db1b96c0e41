"""SimDINO: self-distillation held apart by the coding rate alone."""

from fullrank.models.settings.objectives.volume import CodingRate
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Momentum, StopGradient
from fullrank.models.settings.views import Crops, MultiCrop
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe, Variant
from fullrank.recipes.training import Optimizer, Training

RECIPE = Recipe(
    name="simdino",
    title="SimDINO",
    family="redundancy reduction",
    paper=Paper(
        "Wu et al.",
        2025,
        "Simplifying DINO via Coding Rate Regularization",
        "2502.10385",
    ),
    equations=(
        "u_i = z_i/|z_i|,  u'_j the same by the averaged weights, large crops j only",
        "R(U) = log det(I + d/(n 0.5) U'U) / 2,  gamma = (d + n)/(d n)",
        "L = mean over i≠j of |u_i - u'_j|²/2  -  gamma mean over large crops i of R(U_i)",
    ),
    prevents=(
        Prevents("coding rate", "complete", ("objective.rate",)),
        Prevents("coding rate", "dimensional", ("objective.rate",)),
    ),
    views=MultiCrop(augment="dino", local_count=8, local_min_scale=0.05, local_max_scale=0.4),
    projector=MLPProjector(hidden=2048, out=256, depth=3),
    predictor=NoPredictor(),
    target=Momentum(tau=0.996, schedule="cosine"),
    objective=CodingRate(epsilon=0.5),
    training=Training(
        batch_size=512,
        epochs=100,
        optimizer=Optimizer(
            name="adamw",
            lr=5e-4,
            weight_decay=0.04,
            final_weight_decay=0.4,
            decay_norm_and_bias=False,
            schedule="cosine",
            warmup=0.1,
            final_lr=0.001,
            clip_gradient=3.0,
        ),
        backbone="timm/vit_small_patch16_224",
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2),
        "target": Momentum(tau=0.99),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.4, weight_decay=5e-4, warmup=0.1),
        ),
    },
    variants=(
        Variant(
            "official",
            "the published code's default: the rate of the mean of embedding and target",
            changes={"objective": {"features": "mean"}},
        ),
    ),
    ablations=(
        Ablation(
            "without-coding-rate",
            "the online network follows its average, and nothing spreads the embeddings",
            changes={"objective": {"rate": 0.0}},
            predicts="the embedding collapses, which the coding rate is there to avoid (Wu et al. "
            "2025, abstract)",
            collapse="complete",
        ),
        Ablation(
            "without-momentum",
            "the target is the online network as a constant",
            changes={"target": StopGradient()},
            predicts="no collapse: the coding rate alone excludes it (Wu et al. 2025, abstract)",
        ),
    ),
)
