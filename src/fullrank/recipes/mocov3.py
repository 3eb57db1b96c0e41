"""MoCo v3: the queue gives way to a large batch, and a predictor comes in."""

from fullrank.models.settings.objectives.contrastive import InfoNCE
from fullrank.models.settings.objectives.directions import Cosine
from fullrank.models.settings.predictor import MLPPredictor, NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Momentum
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe
from fullrank.recipes.training import Optimizer, Training

# The ResNet-50 of the official code, whose predictor ends without batch norm; the vision
# transformer has a projector of three layers, T = 0.2 and AdamW.
RECIPE = Recipe(
    name="mocov3",
    title="MoCo v3",
    family="contrastive",
    paper=Paper(
        "Chen, Xie and He",
        2021,
        "An Empirical Study of Training Self-Supervised Vision Transformers",
        "2104.02057",
    ),
    equations=(
        "q_i = predictor(projector(backbone(view_i))),  k_j by the averaged weights, no predictor",
        "l(q, k) = -2T log exp(cos(q, k+)/T) / sum over the batch of exp(cos(q, k)/T)   (Eq. 1)",
        "L = l(q_1, k_2) + l(q_2, k_1)   (Alg. 1)",
    ),
    prevents=(Prevents("negatives in the batch", "complete", ("objective=info-nce",)),),
    views=Crops(augment="byol", min_scale=0.2),
    projector=MLPProjector(hidden=4096, out=256, depth=2, last_norm="batch"),
    predictor=MLPPredictor(hidden=4096, last_bias=False),
    target=Momentum(tau=0.99, schedule="cosine"),
    objective=InfoNCE(temperature=1.0, rescaled=True),
    training=Training(
        batch_size=4096,
        epochs=300,
        optimizer=Optimizer(
            name="lars",
            lr=0.3,
            momentum=0.9,
            weight_decay=1e-6,
            decay_norm_and_bias=False,
            schedule="cosine",
            warmup=10 / 300,
        ),
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2, last_norm="batch"),
        "predictor": MLPPredictor(hidden=256, last_bias=False),
        "objective": InfoNCE(temperature=0.2, rescaled=True),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.4, weight_decay=5e-4, warmup=0.1),
        ),
    },
    ablations=(
        Ablation(
            "without-predictor",
            "queries straight from the projector",
            {"predictor": NoPredictor()},
            predicts="a little less accuracy and no collapse: the negatives do without it "
            "(Chen, Xie and He 2021)",
        ),
        Ablation(
            "without-negatives",
            "the cosine of query and key only, which is BYOL",
            {"objective": Cosine()},
            predicts="no collapse: predictor and slow target prevent it by themselves, as in BYOL "
            "(Grill et al. 2020)",
        ),
    ),
)
