"""FroSSL: minimise the Frobenius norm of each view's correlation matrix."""

from fullrank.models.settings.objectives.redundancy import FrobeniusEntropy
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Online
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe
from fullrank.recipes.training import Optimizer, Training

# The published code adapts LARS by 0.02 of a layer's norm and clips the rate, here it is 0.001
# without clipping, as for the other methods.
RECIPE = Recipe(
    name="frossl",
    title="FroSSL",
    family="redundancy reduction",
    paper=Paper(
        "Skean et al.",
        2024,
        "FroSSL: Frobenius Norm Minimization for Efficient Multiview Self-Supervised Learning",
        "2310.02903",
    ),
    equations=(
        "s_i = z_i, each dimension standardised over the batch,  R_i = s_i' s_i / tr",
        "L = sum_i log ||R_i||_F²  +  2 sum_i mean (s_i - mean_j s_j)²",
    ),
    prevents=(
        Prevents("log Frobenius norm", "complete", ("objective.frobenius",)),
        Prevents("log Frobenius norm", "dimensional", ("objective.frobenius",)),
    ),
    views=Crops(augment="byol"),
    projector=MLPProjector(hidden=2048, out=1024, depth=3),
    predictor=NoPredictor(),
    target=Online(),
    objective=FrobeniusEntropy(invariance=2.0),
    training=Training(
        batch_size=512,
        epochs=100,
        optimizer=Optimizer(
            name="lars",
            lr=0.3,
            momentum=0.9,
            weight_decay=1e-4,
            decay_norm_and_bias=False,
            schedule="cosine",
            warmup=0.1,
        ),
        backbone="resnet18",
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.2, weight_decay=5e-4, warmup=0.1),
        ),
    },
    ablations=(
        Ablation(
            "without-frobenius",
            "standardised views are brought together, and nothing spreads them",
            changes={"objective": {"frobenius": 0.0}},
            predicts="the embedding collapses, which minimising the norm is there to avoid (Skean "
            "et al. 2024, abstract)",
            collapse="complete",
        ),
    ),
)
