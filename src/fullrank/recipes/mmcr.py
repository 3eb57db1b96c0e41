"""MMCR: make the images' centroids long and orthogonal."""

from fullrank.models.settings.objectives.directions import NormalisedMSE
from fullrank.models.settings.objectives.volume import NuclearNorm
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Momentum, Online
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe, Variant
from fullrank.recipes.training import Optimizer, Training

RECIPE = Recipe(
    name="mmcr",
    title="MMCR",
    family="redundancy reduction",
    paper=Paper(
        "Yerxa et al.",
        2023,
        "Learning Efficient Coding of Natural Images with Maximum Manifold Capacity "
        "Representations",
        "2303.03307",
    ),
    equations=(
        "u_i = z_i/|z_i|,  u'_i the same by the averaged weights",
        "c = (mean_i u_i + mean_i u'_i) / 2   for each image",
        "L = -||C||_*,  the sum of singular values of the centroids c of the batch",
    ),
    prevents=(
        Prevents("nuclear norm of the centroids", "complete", ("objective=nuclear-norm",)),
        Prevents("nuclear norm of the centroids", "dimensional", ("objective=nuclear-norm",)),
    ),
    views=Crops(count=8, augment="byol"),
    projector=MLPProjector(hidden=8192, out=512, depth=3, last_bias=False),
    predictor=NoPredictor(),
    target=Momentum(tau=0.99, schedule="constant"),
    objective=NuclearNorm(),
    training=Training(
        batch_size=2048,
        epochs=100,
        optimizer=Optimizer(
            name="lars",
            lr=0.8,
            momentum=0.9,
            weight_decay=1e-6,
            decay_norm_and_bias=False,
            schedule="cosine",
            warmup=0.1,
            final_lr=0.001,
        ),
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.02, weight_decay=5e-4, warmup=0.1),
        ),
    },
    variants=(
        Variant("two-views", "two views an image", changes={"views": {"count": 2}}),
        Variant(
            "online",
            "without a momentum target, as the published code trains on CIFAR-10 and STL-10",
            changes={"target": Online()},
        ),
    ),
    ablations=(
        Ablation(
            "without-nuclear-norm",
            "the views are brought together, and nothing keeps the images apart",
            changes={"target": Online(), "objective": NormalisedMSE()},
            predicts="one centroid for all images: agreement alone has no reason to keep them "
            "apart (Yerxa et al. 2023)",
            collapse="complete",
        ),
    ),
)
