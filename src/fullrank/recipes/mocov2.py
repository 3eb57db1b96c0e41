"""MoCo v2: a slow encoder fills a queue with negatives."""

from fullrank.models.settings.objectives.contrastive import QueueInfoNCE
from fullrank.models.settings.objectives.directions import Cosine
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Momentum, StopGradient
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe, Variant
from fullrank.recipes.training import Optimizer, Training

# Batch norm is that of the global batch here; the paper shuffles the images between processes so
# that query and key of one image are not normalised together ("shuffled BN").
RECIPE = Recipe(
    name="mocov2",
    title="MoCo v2",
    family="contrastive",
    paper=Paper(
        "Chen et al.",
        2020,
        "Improved Baselines with Momentum Contrastive Learning",
        "2003.04297",
    ),
    equations=(
        "q = projector(backbone(view_1)),  k+ = the same by the averaged weights, of view_2",
        "L = -log exp(cos(q, k+)/T) / (exp(cos(q, k+)/T) + sum over the queue of exp(cos(q, k)/T))"
        "   (Eq. 1 of MoCo, 1911.05722)",
        "w' <- 0.999 w' + 0.001 w;  the keys of the batch then enter the queue   (Eq. 2)",
    ),
    prevents=(Prevents("negatives in the queue", "complete", ("objective=queue-info-nce",)),),
    views=Crops(augment="mocov2"),
    projector=MLPProjector(hidden=2048, out=128, depth=2, hidden_norm=False),
    predictor=NoPredictor(),
    target=Momentum(tau=0.999, schedule="constant"),
    objective=QueueInfoNCE(temperature=0.2, queue=65536),
    training=Training(
        batch_size=256,
        epochs=200,
        optimizer=Optimizer(
            name="sgd", lr=0.03, momentum=0.9, weight_decay=1e-4, schedule="cosine"
        ),
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2, hidden_norm=False),
        "target": Momentum(tau=0.99, schedule="constant"),
        "objective": QueueInfoNCE(temperature=0.2, queue=2048),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.4, weight_decay=5e-4, warmup=0.1),
        ),
    },
    variants=(
        Variant(
            "symmetric",
            "both views ask, and both enter the queue (He et al. ask with the first only)",
            {"objective": {"symmetric": True}},
        ),
    ),
    ablations=(
        Ablation(
            "without-negatives",
            "the cosine of query and key only",
            {"objective": Cosine()},
            predicts="collapse: a target without gradient holds nothing up unless there is a "
            "predictor (Tian et al. 2021, Theorem 2)",
            collapse="complete",
        ),
        Ablation(
            "without-momentum",
            "keys by the online network, which the queue then holds from different steps",
            {"target": StopGradient()},
            predicts="the keys in the queue disagree with each other and training fails to "
            "converge (He et al. 2020, sec. 4.1)",
        ),
    ),
)
