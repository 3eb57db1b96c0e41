"""DirectCopy: the predictor is the second moment itself; no eigenvectors are computed."""

from fullrank.models.settings.closed_form import ClosedFormPredictor
from fullrank.models.settings.objectives.directions import NormalisedMSE
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Momentum, Online
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe, Variant
from fullrank.recipes.training import Optimizer, Training

RECIPE = Recipe(
    name="directcopy",
    title="DirectCopy",
    family="asymmetric",
    paper=Paper(
        "Wang, Chen, Du and Tian",
        2021,
        "Towards Demystifying Representation Learning with Non-contrastive Self-supervision",
        "2110.04947",
    ),
    equations=(
        "F <- rho F + (1 - rho) E[z z'] over all views of the batch",
        "W_p = F / |F|_2 + epsilon I",
        "L = sum over i≠j of ||W_p z_i/|W_p z_i| - z'_j/|z'_j|||², z' by the averaged weights",
    ),
    prevents=(
        Prevents(
            "predictor copied from F against a target without gradient",
            "complete",
            ("target=momentum|stop-gradient", "predictor=closed-form"),
        ),
        Prevents(
            "eigenvalues of the predictor that grow with those of F",
            "dimensional",
            ("target=momentum|stop-gradient", "predictor=closed-form", "predictor.exponent"),
        ),
    ),
    views=Crops(augment="simclr"),
    projector=MLPProjector(hidden=512, out=128, depth=2),
    predictor=ClosedFormPredictor(rho=0.3, exponent=1.0, epsilon=0.25),
    target=Momentum(tau=0.996, schedule="constant"),
    objective=NormalisedMSE(),
    training=Training(
        batch_size=128,
        epochs=100,
        optimizer=Optimizer(lr=0.06, momentum=0.9, weight_decay=4e-4, schedule="constant"),
        backbone="resnet18",
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2),
        "target": Momentum(tau=0.99),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.2, weight_decay=5e-4, warmup=0.1),
        ),
    },
    variants=(
        Variant(
            "official",
            "the authors' code: F as it is, epsilon as it is",
            changes={"predictor": {"normalised": False, "relative": False}},
        ),
        Variant(
            "fmi",
            "Halvagal et al. 2023: F over hundreds of steps, no lag",
            changes={"predictor": {"rho": 0.998, "lag": 0, "start": "zero"}},
        ),
    ),
    ablations=(
        Ablation(
            "without-predictor",
            "the embedding is its own prediction",
            changes={"predictor": NoPredictor()},
            predicts="all eigenvalues of F decay to zero: complete collapse (Tian et al. 2021, "
            "theorem 2)",
            collapse="complete",
        ),
        Ablation(
            "without-stop-gradient",
            "gradients flow through both sides, and there is no average",
            changes={"target": Online()},
            predicts="all eigenvalues of F decay to zero: complete collapse (Tian et al. 2021, "
            "theorem 2)",
            collapse="complete",
        ),
    ),
)
