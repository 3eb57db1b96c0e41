"""Alignment and uniformity: what contrast does, as two terms."""

from fullrank.models.settings.objectives.contrastive import AlignUniform
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Online
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe, Variant
from fullrank.recipes.training import Optimizer, Training

# The published network for STL-10 is a small AlexNet whose last three layers are the projector
# here; a ResNet-18 stands for its convolutions. Its rate falls tenfold at the epochs 155, 170 and
# 185 of 200, for which the cosine stands.
RECIPE = Recipe(
    name="align-uniform",
    title="Alignment and uniformity",
    family="contrastive",
    paper=Paper(
        "Wang and Isola",
        2020,
        "Understanding Contrastive Representation Learning through Alignment and Uniformity on "
        "the Hypersphere",
        "2005.10242",
    ),
    equations=(
        "L_align = mean ||z_1 - z_2||^alpha,  z of length 1   (sec. 4.1.1)",
        "L_uniform(z) = log mean over k≠l of exp(-t ||z_k - z_l||²)   (sec. 4.1.2)",
        "L = L_align + (L_uniform(z_1) + L_uniform(z_2))/2,  alpha = 2, t = 2",
    ),
    prevents=(
        Prevents("uniformity", "complete", ("objective.uniformity",)),
        Prevents(
            "uniformity, which only a uniform distribution on the sphere minimises",
            "dimensional",
            ("objective.uniformity",),
        ),
    ),
    views=Crops(augment="align-uniform"),
    projector=MLPProjector(hidden=4096, out=128, depth=3),
    predictor=NoPredictor(),
    target=Online(),
    objective=AlignUniform(alignment=1, uniformity=1, alpha=2, t=2),
    training=Training(
        batch_size=768,
        epochs=200,
        optimizer=Optimizer(
            name="sgd", lr=0.12, momentum=0.9, weight_decay=1e-4, schedule="cosine"
        ),
        backbone="resnet18",
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.4, weight_decay=5e-4, warmup=0.1),
        ),
    },
    variants=(
        Variant(
            "imagenet",
            "weights and sharpness of the official code for ImageNet, without its queue",
            {"objective": {"alignment": 3.0, "uniformity": 1.0, "alpha": 2.0, "t": 3.0}},
        ),
    ),
    ablations=(
        Ablation(
            "alignment-only",
            "without the uniformity term",
            {"objective": {"uniformity": 0.0}},
            predicts="perfect alignment by collapse to a point (Wang and Isola 2020)",
            collapse="complete",
        ),
    ),
)
