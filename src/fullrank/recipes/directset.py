"""DirectSet: DirectPred with any power of the second moment."""

from fullrank.models.settings.closed_form import ClosedFormPredictor
from fullrank.models.settings.objectives.directions import NormalisedMSE
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Momentum, Online
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe, Variant
from fullrank.recipes.training import Optimizer, Training

RECIPE = Recipe(
    name="directset",
    title="DirectSet",
    family="asymmetric",
    paper=Paper(
        "Wang, Chen, Du and Tian",
        2021,
        "Towards Demystifying Representation Learning with Non-contrastive Self-supervision",
        "2110.04947",
    ),
    equations=(
        "F <- rho F + (1 - rho) E[z z'] over all views of the batch",
        "W_p = (F / max(s))^alpha + epsilon I, s the eigenvalues of F",
        "a feature lives on if its variance under augmentation is below 1/(4 eta) - 1, eta the "
        "weight decay, that of the feature being 1",
    ),
    prevents=(
        Prevents(
            "predictor set from F against a target without gradient",
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
    predictor=ClosedFormPredictor(rho=0.3, exponent=0.5, epsilon=0.1),
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
        "predictor": ClosedFormPredictor(rho=0.3, exponent=0.5, epsilon=0.01),
        "target": Momentum(tau=0.99),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.2, weight_decay=5e-4, warmup=0.1),
        ),
    },
    variants=(
        Variant("alpha-1", "W_p = F + epsilon I", changes={"predictor": {"exponent": 1.0}}),
        Variant("alpha-2", "W_p = F² + epsilon I", changes={"predictor": {"exponent": 2.0}}),
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
        Ablation(
            "without-weight-decay",
            "the threshold on the variance under augmentation is gone",
            changes={"optimizer": {"weight_decay": 0.0}},
            predicts="features of any variance under augmentation live on: more of them",
        ),
    ),
)
