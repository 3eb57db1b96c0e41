"""RDM: a spectral filter makes the rank of the two sides differ."""

from fullrank.models.settings.objectives.directions import Cosine
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.spectral_filter import FilteredStopGradient, SpectralFilter
from fullrank.models.settings.target import Momentum, StopGradient
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe, Variant
from fullrank.recipes.training import Optimizer, Training


def _on_the_target(sigma: float) -> dict[str, object]:
    needs = ("target=filtered-stop-gradient",)
    return {
        "predictor": NoPredictor(),
        "target": FilteredStopGradient(sigma),
        "prevents": (
            Prevents("high-pass filter on the target side", "complete", needs),
            Prevents("high-pass filter on the target side", "dimensional", needs),
        ),
    }


RECIPE = Recipe(
    name="rdm",
    title="RDM-SimSiam",
    family="asymmetric",
    paper=Paper(
        "Zhuo, Wang, Ma and Wang",
        2023,
        "Towards a Unified Theoretical Understanding of Non-contrastive Learning via Rank "
        "Differential Mechanism",
        "2303.02387",
    ),
    equations=(
        "Z = U diag(s) V', the embeddings of a view's batch",
        "p = V diag(s^sigma) V' z on the online side, or t = U diag(s^(1+sigma)) V' on the other",
        "L = mean over i≠j of -cos(p_i, sg(z_j))",
        "effective rank (targets) > effective rank (predictions) raises that of both",
    ),
    prevents=(
        Prevents(
            "low-pass filter on the online side",
            "complete",
            ("target=stop-gradient|momentum", "predictor=spectral-filter"),
        ),
        Prevents(
            "low-pass filter on the online side",
            "dimensional",
            ("target=stop-gradient|momentum", "predictor=spectral-filter"),
        ),
    ),
    views=Crops(augment="mocov2"),
    projector=MLPProjector(hidden=2048, out=2048, depth=3, last_norm="batch"),
    predictor=SpectralFilter(sigma=1.0),
    target=StopGradient(),
    objective=Cosine(),
    training=Training(
        batch_size=512,
        epochs=100,
        optimizer=Optimizer(
            name="sgd", lr=0.05, momentum=0.9, weight_decay=1e-4, schedule="cosine"
        ),
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2, last_norm="batch"),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.2, weight_decay=5e-4, warmup=0.1),
        ),
    },
    variants=(
        Variant("log", "g(s) = log s", changes={"predictor": {"function": "log"}}),
        Variant(
            "log-plus-one",
            "g(s) = log(s + 1)",
            changes={"predictor": {"function": "log-plus-one"}},
        ),
        Variant(
            "log-square-plus-one",
            "g(s) = log(s² + 1)",
            changes={"predictor": {"function": "log-square-plus-one"}},
        ),
        Variant("target", "whitened targets, no predictor", changes=_on_the_target(-1.0)),
        Variant(
            "target-half", "targets whitened half way, no predictor", changes=_on_the_target(-0.5)
        ),
        Variant(
            "byol",
            "with an averaged target: RDM-BYOL",
            changes={"target": Momentum(tau=0.99, schedule="cosine")},
        ),
    ),
    ablations=(
        Ablation(
            "without-filter",
            "the embedding is its own prediction",
            changes={"predictor": NoPredictor()},
            predicts="no rank difference is left, and nothing that raises the rank: SimSiam "
            "without its predictor, which does not work",
            collapse="complete",
        ),
    ),
)
