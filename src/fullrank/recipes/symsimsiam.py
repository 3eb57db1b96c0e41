"""SymSimSiam: two equal sides, and a centre that is taken out."""

from fullrank.models.settings.objectives.directions import CentredCosine, Cosine
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Online
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe
from fullrank.recipes.training import Optimizer, Training

RECIPE = Recipe(
    name="symsimsiam",
    title="SymSimSiam",
    family="asymmetric",
    paper=Paper(
        "Zhuo, Wang, Ma and Wang",
        2023,
        "Towards a Unified Theoretical Understanding of Non-contrastive Learning via Rank "
        "Differential Mechanism",
        "2303.02387",
    ),
    equations=(
        "u_i = z_i / |z_i|,  m = mean of u over images and views",
        "L = mean over i≠j of -(u_i - m)'(u_j - m) = |m|² - mean u_i'u_j   (sec. 3)",
    ),
    prevents=(Prevents("centring", "complete", ("objective=centred-cosine",)),),
    views=Crops(augment="mocov2"),
    projector=MLPProjector(hidden=2048, out=2048, depth=3, last_norm="batch"),
    predictor=NoPredictor(),
    target=Online(),
    objective=CentredCosine(),
    training=Training(
        batch_size=512,
        epochs=100,
        optimizer=Optimizer(
            name="sgd", lr=0.05, momentum=0.9, weight_decay=1e-4, schedule="cosine"
        ),
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
            "without-centring",
            "SimSiam without its predictor and its stop-gradient",
            changes={"objective": Cosine()},
            predicts="a constant is the minimum, and is found: complete collapse (sec. 3)",
            collapse="complete",
        ),
    ),
)
