"""VISReg: match centre, scale and shape of the embedding's distribution one by one."""

from fullrank.models.settings.objectives.distribution import VISReg
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Online
from fullrank.models.settings.views import Crops, MultiCrop
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe
from fullrank.recipes.training import Optimizer, Training

# The published code clips the norm of the whole gradient at 1, which is left out here.
RECIPE = Recipe(
    name="visreg",
    title="VISReg",
    family="distribution matching",
    paper=Paper(
        "Wu, Balestriero and Levine",
        2026,
        "VISReg: Variance-Invariance-Sketching Regularization for JEPA training",
        "2606.02572",
    ),
    equations=(
        "m = mean of z_j over the large crops j,  s = mean over all views i of |z_i - m|² / d"
        "   (Eq. 8)",
        "scale = mean_k (1 - std z_k)²   (Eq. 1),  centre = mean_k (mean z_k)²   (Eq. 6)",
        "shape = mean over directions a of mean (sort(y a) - Phi^-1(rank/(n + 1)))²,"
        "  y = (z - mean z)/sg(std z)   (Eqs. 2-5)",
        "L = 0.1 s + 0.9 (scale + shape + centre)",
    ),
    prevents=(
        Prevents("scale term", "complete", ("objective.weight", "objective.scale")),
        Prevents("shape term", "dimensional", ("objective.weight", "objective.shape")),
    ),
    views=MultiCrop(
        count=4,
        augment="byol",
        min_scale=0.3,
        blur=0.5,
        solarise=0.2,
        local_count=6,
        local_size=96,
        local_min_scale=0.05,
        local_max_scale=0.3,
    ),
    projector=MLPProjector(hidden=2048, out=256, depth=3),
    predictor=NoPredictor(),
    target=Online(),
    objective=VISReg(weight=0.9, directions=4096),
    training=Training(
        batch_size=128,
        epochs=100,
        optimizer=Optimizer(
            name="adamw",
            lr=1.8e-3,
            weight_decay=0.05,
            decay_norm_and_bias=False,
            schedule="cosine",
            warmup=0.05,
            final_lr=0.001,
        ),
        backbone="timm/vit_base_patch16_224",
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=64, depth=2),
        "objective": VISReg(weight=0.6, directions=256),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.2, weight_decay=5e-4, warmup=0.1),
        ),
    },
    ablations=(
        Ablation(
            "without-scale",
            "nothing holds the standard deviations, which the shape term divides out",
            changes={"objective": {"scale": 0.0}},
            predicts="the embedding shrinks to a point: the gradient of the scale term is what "
            "remains at a collapse (Wu et al. 2026, abstract)",
            collapse="complete",
        ),
        Ablation(
            "without-shape",
            "nothing makes the dimensions independent",
            changes={"objective": {"shape": 0.0}},
            predicts="dimensions may repeat each other: the shape term stands for VICReg's "
            "covariance (Wu et al. 2026, abstract)",
            collapse="dimensional",
        ),
        Ablation(
            "without-centre",
            "nothing holds the mean",
            changes={"objective": {"centre": 0.0}},
            predicts="no collapse: the mean of the embeddings is free (Wu et al. 2026, Eq. 6)",
        ),
    ),
)
