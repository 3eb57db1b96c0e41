"""DirectCLR: contrast on a part of the representation, without a projector."""

from fullrank.models.settings.objectives.contrastive import InfoNCE
from fullrank.models.settings.objectives.directions import Cosine
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import NoProjector
from fullrank.models.settings.sub_vector import SubVector
from fullrank.models.settings.target import Online
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe
from fullrank.recipes.training import Optimizer, Training

RECIPE = Recipe(
    name="directclr",
    title="DirectCLR",
    family="contrastive",
    paper=Paper(
        "Jing et al.",
        2022,
        "Understanding Dimensional Collapse in Contrastive Self-supervised Learning",
        "2110.09348",
    ),
    equations=(
        "z = h[0:d0];  the rest of h is trained through the last residual connection   (sec. 6)",
        "l(z, z') = -log exp(cos(z_k, z'_k)/T) / sum over l of exp(cos(z_k, z'_l)/T)",
        "L = l(z_1, z_2)/2 + l(z_2, z_1)/2",
    ),
    prevents=(
        Prevents("negatives in the batch", "complete", ("objective=info-nce",)),
        Prevents(
            "a loss that sees a sub-vector, so that the rest of h keeps its rank",
            "dimensional",
            ("projector=sub-vector",),
        ),
    ),
    views=Crops(augment="byol"),
    projector=SubVector(dims=360),
    predictor=NoPredictor(),
    target=Online(),
    objective=InfoNCE(temperature=0.1),
    training=Training(
        batch_size=4096,
        epochs=100,
        optimizer=Optimizer(
            name="lars",
            lr=0.3,
            momentum=0.9,
            weight_decay=1e-6,
            decay_norm_and_bias=False,
            schedule="cosine",
            warmup=0.1,
            final_lr=0.001,
        ),
    ),
    # The network for small images has no residual connection: what is outside the sub-vector
    # stays a random function of the trained layer below, and the sub-vector is therefore larger.
    small={
        "views": Crops(),
        "projector": SubVector(dims=None, share=0.5),
        "objective": InfoNCE(temperature=0.2),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.4, weight_decay=5e-4, warmup=0.1),
        ),
    },
    ablations=(
        Ablation(
            "without-sub-vector",
            "the loss on the whole representation",
            {"projector": NoProjector()},
            predicts="the representation collapses dimensionally: 51.5 % linear accuracy on "
            "ImageNet instead of 62.7 % (Jing et al. 2022)",
            collapse="dimensional",
        ),
        Ablation(
            "without-negatives",
            "the cosine of the two views only, with gradient on both sides",
            {"objective": Cosine()},
            predicts="everything collapses to a point, as SimSiam without its stop-gradient "
            "(Chen and He 2021, sec. 4.1)",
            collapse="complete",
        ),
    ),
)
