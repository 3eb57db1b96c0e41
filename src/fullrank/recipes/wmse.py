"""W-MSE: bring positives together after whitening."""

from fullrank.models.settings.objectives.directions import NormalisedMSE
from fullrank.models.settings.objectives.whitening import Whitening
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Online
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe, Variant
from fullrank.recipes.training import Optimizer, Training

# The protocol of the published code for CIFAR-10; it has none for ImageNet. Its rate falls to a
# fifth 50 epochs before the end and again 25 before, which is left out here.
RECIPE = Recipe(
    name="wmse",
    title="W-MSE",
    family="redundancy reduction",
    paper=Paper(
        "Ermolov et al.",
        2021,
        "Whitening for Self-Supervised Representation Learning",
        "2007.06346",
    ),
    equations=(
        "w_i = L^-1 (z_i - mean z_i),  L L' = cov(z_i)   over each sub-batch, of each view",
        "L = mean over i≠j of 2 - 2 cos(w_i, w_j)",
    ),
    prevents=(
        Prevents("whitening", "complete", ("objective=whitening",)),
        Prevents("whitening", "dimensional", ("objective=whitening",)),
    ),
    views=Crops(augment="mocov2", grey=0.1, blur=0.0),
    projector=MLPProjector(hidden=1024, out=64, depth=2),
    predictor=NoPredictor(),
    target=Online(),
    objective=Whitening(sub_batch=128),
    training=Training(
        batch_size=512,
        epochs=1000,
        optimizer=Optimizer(
            name="adam", lr=0.0015, weight_decay=1e-6, schedule="constant", warmup=0.005
        ),
        backbone="resnet18",
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=64, depth=2),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.4, weight_decay=5e-4, warmup=0.1),
        ),
    },
    variants=(
        Variant(
            "four-views",
            "W-MSE 4: four views an image, six pairs, half the batch",
            changes={
                "views": {"count": 4},
                "training": {"batch_size": 256},
                "optimizer": {"lr": 0.003},
            },
            small={"optimizer": {"lr": 0.4}},
        ),
        Variant(
            "stl10",
            "the published protocol for STL-10 and Tiny ImageNet: larger sub-batches, four rounds",
            changes={
                "projector": {"out": 128},
                "objective": {"sub_batch": 256, "rounds": 4},
                "optimizer": {"lr": 0.001},
            },
            small={"optimizer": {"lr": 0.4}},
        ),
    ),
    ablations=(
        Ablation(
            "without-whitening",
            "positives are compared as they are",
            changes={"objective": NormalisedMSE()},
            predicts="all embeddings collapse to one point (Ermolov et al. 2021, abstract)",
            collapse="complete",
        ),
    ),
)
