"""Triplets: one positive, one negative, cosines."""

from fullrank.models.settings.objectives.contrastive import Triplet
from fullrank.models.settings.objectives.directions import Cosine
from fullrank.models.settings.objectives.gradient_parts import NegativeGradient
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Online
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe, Variant
from fullrank.recipes.training import Optimizer, Training

# How it is trained stands here as SimSiam is on CIFAR (Chen and He 2021, app. D), without the batch
# norm at the end of the projector, which would move the centre to the origin by itself.
RECIPE = Recipe(
    name="triplet",
    title="Triplet loss",
    family="contrastive",
    paper=Paper(
        "Schroff, Kalenichenko and Philbin",
        2015,
        "FaceNet: A Unified Embedding for Face Recognition and Clustering",
        "1503.03832",
    ),
    equations=(
        "l(k, l) = relu(cos(z_1k, z_2l) - cos(z_1k, z_2k) + margin): half of Eq. 3, whose squared "
        "distances are 2 - 2 cos",
        "L = mean over k and l≠k of l(k, l), and with the views exchanged: the expectation over a "
        "negative drawn at random from the batch",
    ),
    prevents=(
        Prevents(
            "negatives, whose mean is the centre of the embedding",
            "complete",
            ("objective=triplet|negative-gradient", "objective.keep!=none|residual"),
        ),
        Prevents(
            "a margin, so that only near negatives push",
            "dimensional",
            ("objective=triplet", "objective.margin"),
        ),
    ),
    views=Crops(augment="mocov2"),
    projector=MLPProjector(hidden=2048, out=2048, depth=3),
    predictor=NoPredictor(),
    target=Online(),
    objective=Triplet(margin=0.1, negatives="all"),
    training=Training(
        batch_size=256,
        epochs=200,
        optimizer=Optimizer(
            name="sgd", lr=0.03, momentum=0.9, weight_decay=5e-4, schedule="cosine"
        ),
        backbone="resnet18",
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2),
        "objective": Triplet(margin=0.5, negatives="all"),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.2, weight_decay=5e-4, warmup=0.1),
        ),
    },
    variants=(
        Variant(
            "one-negative",
            "one negative an anchor: the image with the next larger index in the batch",
            {"objective": {"negatives": "next"}},
        ),
    ),
    ablations=(
        Ablation(
            "without-margin",
            "every triplet pulls alike, however far its negative",
            {"objective": {"margin": None}},
            predicts="no complete collapse, since the mean negative is the centre; but the rest of "
            "a negative is noise that does not decorrelate (Zhang et al. 2022, 2203.16262), and "
            "the spectrum is left free",
            collapse="dimensional",
        ),
        Ablation(
            "without-negatives",
            "the cosine of the two views only, with gradient on both sides",
            {"objective": Cosine()},
            predicts="collapse: the gradient of the positive alone pulls towards the centre "
            "(Zhang et al. 2022)",
            collapse="complete",
        ),
        Ablation(
            "gradient-none",
            "one negative, no margin, and without the extra gradient G_e = -Z_n of the negative",
            {"objective": NegativeGradient(keep="none")},
            predicts="collapse: what is left pulls the two views together (Zhang et al. 2022)",
            collapse="complete",
        ),
        Ablation(
            "gradient-centre",
            "one negative, no margin, and of its gradient G_e = -Z_n the mean over the batch only",
            {"objective": NegativeGradient(keep="centre")},
            predicts="no complete collapse: the mean takes the centre out of the gradient (Zhang "
            "et al. 2022); nothing decorrelates, and the spectrum is left free",
            collapse="dimensional",
        ),
        Ablation(
            "gradient-residual",
            "one negative, no margin, and its gradient G_e = -Z_n without the mean over the batch",
            {"objective": NegativeGradient(keep="residual")},
            predicts="collapse: what is left of a negative drawn at random is noise (Zhang et al. "
            "2022)",
            collapse="complete",
        ),
        Ablation(
            "gradient-both",
            "one negative, no margin, its gradient G_e = -Z_n in both parts",
            {"objective": NegativeGradient(keep="both")},
            predicts="no complete collapse, by the mean; the residual is noise that does not "
            "decorrelate (Zhang et al. 2022), and the spectrum is left free",
            collapse="dimensional",
        ),
    ),
)
