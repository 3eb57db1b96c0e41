"""LeJEPA: match the embedding's distribution with an isotropic Gaussian."""

from fullrank.models.settings.objectives.distribution import SIGReg
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Online
from fullrank.models.settings.views import Crops, MultiCrop
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe, Variant
from fullrank.recipes.training import Optimizer, Training

RECIPE = Recipe(
    name="lejepa",
    title="LeJEPA",
    family="distribution matching",
    paper=Paper(
        "Balestriero and LeCun",
        2025,
        "LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics",
        "2511.08544",
    ),
    equations=(
        "m = mean of z_j over the large crops j,  s = mean over all views i of |z_i - m|² / d",
        "T(x) = n ∫ |mean_k exp(i t x_k) - exp(-t²/2)|² exp(-t²/2) dt",
        "L = 0.95 s + 0.05 mean over views i and directions a of T(z_i a)",
    ),
    prevents=(
        Prevents("Gaussian along random directions", "complete", ("objective.weight",)),
        Prevents("Gaussian along random directions", "dimensional", ("objective.weight",)),
    ),
    views=MultiCrop(
        augment="byol",
        min_scale=0.3,
        blur=0.5,
        solarise=0.2,
        local_count=6,
        local_size=98,
        local_min_scale=0.05,
        local_max_scale=0.3,
    ),
    projector=MLPProjector(hidden=2048, out=128, depth=3),
    predictor=NoPredictor(),
    target=Online(),
    objective=SIGReg(weight=0.05, directions=1024, knots=17, t_max=5.0),
    training=Training(
        batch_size=256,
        epochs=100,
        optimizer=Optimizer(
            name="adamw",
            lr=5e-4,
            weight_decay=5e-4,
            schedule="cosine",
            warmup=0.01,
            final_lr=0.001,
        ),
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2),
        "objective": SIGReg(weight=0.05, directions=256),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.05, weight_decay=5e-4, warmup=0.1),
        ),
    },
    variants=(
        Variant(
            "library",
            "the published library's quadrature: 17 knots in [0, 3], each for both signs",
            changes={"objective": {"t_max": 3.0, "half": True}},
        ),
        Variant(
            "minimal",
            "the published minimal example: ViT-S/8 on Imagenette, four crops, 256 directions",
            changes={
                "views": Crops(count=4, augment="simclr", solarise=0.2),
                "projector": {"out": 16},
                "objective": {"weight": 0.02, "directions": 256, "t_max": 3.0, "half": True},
                "training": {"epochs": 800, "backbone": "timm/vit_small_patch8_224"},
                "optimizer": {"lr": 2e-3, "weight_decay": 0.05, "warmup": 0.00125},
            },
            small={
                "views": Crops(),
                "training": {"epochs": 1, "backbone": "resnet50"},
                "optimizer": {"lr": 0.05, "weight_decay": 5e-4, "warmup": 0.1},
            },
        ),
    ),
    ablations=(
        Ablation(
            "without-sigreg",
            "the views are brought together, and nothing spreads the embeddings",
            changes={"objective": {"weight": 0.0}},
            predicts="the embedding collapses, which SIGReg replaces all heuristics against "
            "(Balestriero and LeCun 2025, abstract)",
            collapse="complete",
        ),
    ),
)
