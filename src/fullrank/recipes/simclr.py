"""SimCLR: every other image of the batch is a negative."""

from fullrank.models.settings.objectives.contrastive import NTXent
from fullrank.models.settings.objectives.directions import Cosine
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector, NoProjector
from fullrank.models.settings.target import Online
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe
from fullrank.recipes.training import Optimizer, Training

RECIPE = Recipe(
    name="simclr",
    title="SimCLR",
    family="contrastive",
    paper=Paper(
        "Chen et al.",
        2020,
        "A Simple Framework for Contrastive Learning of Visual Representations",
        "2002.05709",
    ),
    equations=(
        "l(i, j) = -log exp(cos(z_i, z_j)/T) / sum over k≠i of exp(cos(z_i, z_k)/T)   (Eq. 1)",
        "L = mean of l over both orders of the N positive pairs among 2N views",
    ),
    prevents=(
        Prevents("negatives", "complete", ("objective=nt-xent",)),
        Prevents(
            "a projector, which loses rank in place of h",
            "dimensional",
            ("projector=mlp",),
        ),
    ),
    views=Crops(augment="simclr"),
    projector=MLPProjector(hidden=2048, out=128, depth=2),
    predictor=NoPredictor(),
    target=Online(),
    objective=NTXent(temperature=0.1),
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
        ),
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2),
        "objective": NTXent(temperature=0.2),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.4, weight_decay=5e-4, warmup=0.1),
        ),
    },
    ablations=(
        Ablation(
            "without-negatives",
            "the cosine of the two views only, with gradient on both sides",
            {"objective": Cosine()},
            predicts="everything collapses to a point: the loss reaches -1 at chance accuracy, as "
            "SimSiam without its stop-gradient (Chen and He 2021, sec. 4.1)",
            collapse="complete",
        ),
        Ablation(
            "without-projector",
            "the loss on the representation itself",
            {"projector": NoProjector()},
            predicts="the representation collapses dimensionally: 51.5 % linear accuracy on "
            "ImageNet instead of 66.5 % (Jing et al. 2022)",
            collapse="dimensional",
        ),
        Ablation(
            "linear-projector",
            "one linear layer as projector",
            {"projector": {"depth": 1}},
            predicts="accuracy between: 61.1 % where no projector has 51.5 % and the MLP 66.5 % "
            "(Jing et al. 2022)",
        ),
    ),
)
