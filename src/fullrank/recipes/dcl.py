"""DCL: contrast without the positive among the negatives."""

from fullrank.models.settings.objectives.contrastive import DecoupledNTXent, NTXent
from fullrank.models.settings.objectives.directions import Cosine
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Online
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe, Variant
from fullrank.recipes.training import Optimizer, Training

# The abstract states batch and epochs; rate and decay are those of MoCo, in steps of 256 images.
RECIPE = Recipe(
    name="dcl",
    title="Decoupled contrastive learning",
    family="contrastive",
    paper=Paper("Yeh et al.", 2022, "Decoupled Contrastive Learning", "2110.06848"),
    equations=(
        "l(i, j) = -cos(z_i, z_j)/T + log sum over k≠i, j of exp(cos(z_i, z_k)/T)   (L_DC)",
        "weighted: -w_i cos(z_i, z_j)/T + ...,  w_i = 2 - exp(cos_i/sigma) / mean exp(cos/sigma)   "
        "(L_DCW)",
        "L = mean of l over both orders of the N positive pairs among 2N views",
    ),
    prevents=(Prevents("negatives", "complete", ("objective=decoupled-nt-xent",)),),
    views=Crops(augment="simclr"),
    projector=MLPProjector(hidden=2048, out=128, depth=2),
    predictor=NoPredictor(),
    target=Online(),
    objective=DecoupledNTXent(temperature=0.1),
    training=Training(
        batch_size=256,
        epochs=200,
        optimizer=Optimizer(
            name="sgd", lr=0.03, momentum=0.9, weight_decay=1e-4, schedule="cosine"
        ),
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2),
        "objective": DecoupledNTXent(temperature=0.2),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.4, weight_decay=5e-4, warmup=0.1),
        ),
    },
    variants=(
        Variant(
            "weighted",
            "DCLW: positives weighted by a negative von Mises-Fisher density",
            {"objective": {"sigma": 0.5}},
        ),
    ),
    ablations=(
        Ablation(
            "coupled",
            "with the positive in the denominator, which is SimCLR's loss",
            {"objective": NTXent(temperature=0.1)},
            {"objective": NTXent(temperature=0.2)},
            predicts="no collapse, less accuracy in small batches: 6.4 points less on ImageNet at "
            "256 images (Yeh et al. 2022)",
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
