"""NNCLR: the positive is the nearest image remembered, not another view."""

from fullrank.models.settings.nearest_neighbor import NearestNeighbor
from fullrank.models.settings.objectives.contrastive import InfoNCE
from fullrank.models.settings.objectives.directions import Cosine
from fullrank.models.settings.predictor import MLPPredictor, NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import StopGradient
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe
from fullrank.recipes.training import Optimizer, Training

RECIPE = Recipe(
    name="nnclr",
    title="NNCLR",
    family="contrastive",
    paper=Paper(
        "Dwibedi et al.",
        2021,
        "With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning of Visual "
        "Representations",
        "2104.14548",
    ),
    equations=(
        "z_i = projector(backbone(view_i)),  p_i = predictor(z_i)",
        "NN(z) = the q in the support set Q with the largest cos(z, q)   (Eq. 4)",
        "l(z, p) = -log exp(cos(NN(z), p+)/T) / sum over the batch of exp(cos(NN(z), p)/T)   "
        "(Eq. 3)",
        "L = l(z_1, p_2)/2 + l(z_2, p_1)/2;  then z_1 enters Q in place of the oldest",
    ),
    prevents=(Prevents("negatives in the batch", "complete", ("objective=info-nce",)),),
    views=Crops(augment="simclr"),
    projector=MLPProjector(hidden=2048, out=256, depth=3, last_norm="batch-affine"),
    predictor=MLPPredictor(hidden=4096),
    target=NearestNeighbor(support=98304),
    objective=InfoNCE(temperature=0.1, anchor="target"),
    training=Training(
        batch_size=4096,
        epochs=1000,
        optimizer=Optimizer(
            name="lars",
            lr=0.3,
            momentum=0.9,
            weight_decay=1e-6,
            decay_norm_and_bias=False,
            schedule="cosine",
            warmup=0.01,
        ),
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2, last_norm="batch-affine"),
        "predictor": MLPPredictor(hidden=256),
        "target": NearestNeighbor(support=4096),
        "objective": InfoNCE(temperature=0.2, anchor="target"),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.4, weight_decay=5e-4, warmup=0.1),
        ),
    },
    ablations=(
        Ablation(
            "without-neighbors",
            "the other view itself is the positive",
            {"target": StopGradient()},
            predicts="no collapse, less accuracy: 71.7 % linear accuracy on ImageNet instead of "
            "75.6 % (Dwibedi et al. 2021)",
        ),
        Ablation(
            "without-negatives",
            "the cosine of neighbour and embedding only, without a predictor",
            {"objective": Cosine(), "predictor": NoPredictor()},
            predicts="collapse: what pulls embeddings together is left and nothing that pushes "
            "them apart (Wang and Isola 2020)",
            collapse="complete",
        ),
    ),
)
