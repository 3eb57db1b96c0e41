"""IsoLoss: DirectPred, all eigenmodes of which learn at one rate."""

from fullrank.models.settings.closed_form import ClosedFormPredictor
from fullrank.models.settings.objectives.directions import Isotropic
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Momentum, Online, StopGradient
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe, Variant
from fullrank.recipes.training import Optimizer, Training

SMALL_TRAINING = Training(
    batch_size=256,
    epochs=1,
    optimizer=Optimizer(lr=0.4, weight_decay=5e-4, warmup=0.1),
)

RECIPE = Recipe(
    name="isoloss",
    title="IsoLoss",
    family="asymmetric",
    paper=Paper(
        "Halvagal, Laborieux and Zenke",
        2023,
        "Implicit variance regularization in non-contrastive SSL",
        "2212.04858",
    ),
    equations=(
        "F <- rho F + (1 - rho) E[z z'],  W_p = Q diag((s / max(s))^alpha) Q',  p = W_p z",
        "L = -2 z_i·t_j / sg(|p_i||t_j|) + sg(p_i·t_j / (|p_i|³|t_j|)) |W_p^(1/2) z_i|²   (cosine)",
        "L = ||z_i - sg(t_j + z_i - p_i)||²   (Euclidean)",
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
    views=Crops(augment="byol"),
    projector=MLPProjector(hidden=4096, out=256, depth=2),
    predictor=ClosedFormPredictor(
        rho=0.998, exponent=0.5, epsilon=0.0, epsilon_inside=True, lag=0, start="zero"
    ),
    target=Momentum(tau=0.99, schedule="cosine"),
    objective=Isotropic("cosine"),
    training=Training(
        batch_size=4096,
        epochs=100,
        optimizer=Optimizer(
            name="lars",
            lr=0.45,
            momentum=0.9,
            weight_decay=1e-5,
            decay_norm_and_bias=False,
            schedule="cosine",
            warmup=0.1,
        ),
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2),
        "training": SMALL_TRAINING,
    },
    variants=(
        Variant(
            "euclidean",
            "of the squared distance, eigenvalues as they are",
            changes={
                "objective": Isotropic("euclidean"),
                "predictor": {"normalised": False},
            },
        ),
        Variant(
            "isocopy",
            "alpha 1, epsilon 0.25, as DirectCopy",
            changes={"predictor": {"exponent": 1.0, "epsilon": 0.25}},
        ),
        Variant(
            "without-momentum",
            "no average, F over a few steps; the paper's protocol on CIFAR-10",
            changes={
                "predictor": {"rho": 0.5},
                "target": StopGradient(),
                "training": Training(
                    batch_size=256,
                    epochs=1000,
                    optimizer=Optimizer(lr=0.1, momentum=0.9, weight_decay=1e-4, warmup=0.01),
                    backbone="resnet18",
                ),
            },
            small={"training": SMALL_TRAINING},
        ),
    ),
    ablations=(
        Ablation(
            "without-predictor",
            "the embedding is its own prediction",
            changes={"predictor": NoPredictor()},
            predicts="the pull on every eigenmode only shrinks it: collapse",
            collapse="complete",
        ),
        Ablation(
            "without-stop-gradient",
            "gradients flow through the targets, too, and there is no average",
            changes={"target": Online()},
            predicts="variance is no longer regularised: collapse",
            collapse="complete",
        ),
    ),
)
