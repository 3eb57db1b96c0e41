"""SwAV: predict the cluster of one view from another, all clusters of the same size."""

from fullrank.models.settings.objectives.clustering import SwappedAssignment
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import StopGradient
from fullrank.models.settings.views import Crops, MultiCrop
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe, Variant
from fullrank.recipes.training import Optimizer, Training

SMALL = Training(
    batch_size=256,
    epochs=1,
    optimizer=Optimizer(lr=0.4, weight_decay=5e-4, warmup=0.1),
)

RECIPE = Recipe(
    name="swav",
    title="SwAV",
    family="clustering",
    paper=Paper(
        "Caron et al.",
        2020,
        "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments",
        "2006.09882",
    ),
    equations=(
        "p_ik = softmax over k of c_k . z_i / T,  |z_i| = |c_k| = 1   (Eq. 2)",
        "Q = diag(u) exp(C'Z / epsilon) diag(v),  equal shares for all c_k   (Eqs. 3 to 5)",
        "L = mean over i≠j of -sum over k of q_jk log p_ik,  j a large crop   (Eqs. 1, 2, 6)",
    ),
    prevents=(
        Prevents(
            "equal shares of the images for all prototypes",
            "complete",
            ("objective=swapped-assignment", "objective.iterations"),
        ),
        Prevents(
            "equal shares of the images for all prototypes",
            "cluster",
            ("objective=swapped-assignment", "objective.iterations"),
        ),
    ),
    views=MultiCrop(augment="simclr", min_scale=0.14, local_count=6),
    projector=MLPProjector(hidden=2048, out=128, depth=2),
    predictor=NoPredictor(),
    target=StopGradient(),
    objective=SwappedAssignment(),
    training=Training(
        batch_size=4096,
        epochs=800,
        optimizer=Optimizer(
            name="lars",
            lr=0.3,
            momentum=0.9,
            weight_decay=1e-6,
            schedule="cosine",
            warmup=10 / 800,
            final_lr=0.001,
        ),
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2),
        "objective": SwappedAssignment(prototypes=64, frozen_steps=0),
        "training": SMALL,
    },
    variants=(
        Variant(
            "batch-256",
            "the authors' setting for small batches: a queue, 400 epochs",
            changes={
                "objective": {"queue": 3840, "queue_start": 15 / 400, "frozen_steps": 5005},
                "training": {"batch_size": 256, "epochs": 400},
                "optimizer": {"lr": 0.6, "warmup": 0.0},
            },
            small={
                "objective": {"queue": 512, "queue_start": 0.1, "frozen_steps": 0},
                "training": SMALL,
            },
        ),
    ),
    ablations=(
        Ablation(
            "without-equipartition",
            "assignments are the softmax of the scores",
            changes={"objective": {"iterations": 0}},
            predicts="every image is assigned to the same prototype: the constraint of equal "
            "shares is there to avoid this trivial solution (sec. 3.1)",
            collapse="cluster",
        ),
        Ablation(
            "fixed-prototypes",
            "prototypes stay the random directions that they start as",
            changes={"objective": {"trained": False}},
            predicts="no collapse: equal shares prevent it wherever the prototypes are (Jha et "
            "al. 2024, arXiv:2402.14957, test SwAV with fixed prototypes)",
        ),
        Ablation(
            "without-multi-crop",
            "two large crops only",
            changes={"views": Crops(augment="simclr", min_scale=0.08)},
            small={"views": Crops()},
            predicts="no collapse, 2 to 4 points less of linear accuracy on ImageNet (sec. 3.3)",
        ),
    ),
)
