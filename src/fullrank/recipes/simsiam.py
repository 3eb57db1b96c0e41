"""SimSiam: a predictor and a stop-gradient, nothing else."""

from fullrank.models.settings.objectives.directions import Cosine
from fullrank.models.settings.objectives.gradient_parts import PredictorGradient
from fullrank.models.settings.predictor import (
    BiasPredictor,
    LinearPredictor,
    MLPPredictor,
    NoPredictor,
    SymmetricLinearPredictor,
)
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Online, StopGradient
from fullrank.models.settings.views import Crops
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe, Variant
from fullrank.recipes.training import Optimizer, Training

RECIPE = Recipe(
    name="simsiam",
    title="SimSiam",
    family="asymmetric",
    paper=Paper(
        "Chen and He", 2021, "Exploring Simple Siamese Representation Learning", "2011.10566"
    ),
    equations=(
        "z_i = projector(backbone(view_i)),  p_i = predictor(z_i)",
        "L = D(p_1, stop(z_2)) / 2 + D(p_2, stop(z_1)) / 2,  D(p, z) = -cos(p, z)   (Eqs. 1-4)",
    ),
    prevents=(
        Prevents(
            "stop-gradient together with the predictor",
            "complete",
            (
                "target=stop-gradient|momentum",
                "predictor=mlp|linear|bias",
                "objective.keep!=none",
            ),
        ),
        Prevents(
            "predictor behind a stop-gradient",
            "dimensional",
            (
                "target=stop-gradient|momentum",
                "predictor=mlp|linear",
                "objective.keep!=none|centre",
            ),
        ),
    ),
    views=Crops(augment="mocov2"),
    projector=MLPProjector(hidden=2048, out=2048, depth=3, last_norm="batch"),
    predictor=MLPPredictor(hidden=512),
    target=StopGradient(),
    objective=Cosine(),
    training=Training(
        batch_size=512,
        epochs=100,
        optimizer=Optimizer(
            name="sgd",
            lr=0.05,
            momentum=0.9,
            weight_decay=1e-4,
            schedule="cosine",
            predictor_schedule="constant",
        ),
    ),
    small={
        "views": Crops(),
        "projector": MLPProjector(hidden=256, out=128, depth=2, last_norm="batch"),
        "predictor": MLPPredictor(hidden=64),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(lr=0.2, weight_decay=5e-4, warmup=0.1),
        ),
    },
    variants=(
        Variant(
            "linear",
            "the predictor is one matrix (Tian et al. 2021)",
            changes={"predictor": LinearPredictor()},
            small={"optimizer": {"predictor_lr": 10.0}},
        ),
    ),
    ablations=(
        Ablation(
            "without-stop-gradient",
            "gradients flow through both sides",
            changes={"target": Online()},
            predicts="collapses: the loss goes to -1, 0.1% on ImageNet (sec. 4.1); behind an "
            "output batch norm the embedding keeps one direction",
            collapse="complete",
        ),
        Ablation(
            "without-predictor",
            "the embedding is its own prediction",
            changes={"predictor": NoPredictor()},
            predicts="does not work: 0.1% on ImageNet (sec. 4.2); behind an output batch norm the "
            "embedding keeps one direction",
            collapse="complete",
        ),
        Ablation(
            "bias-predictor",
            "the predictor only adds a bias",
            changes={"predictor": BiasPredictor()},
            predicts="a bias suffices against complete collapse, by taking the centre out of the "
            "gradient (Zhang et al. 2022)",
        ),
        Ablation(
            "symmetric-predictor",
            "the predictor is one symmetric matrix",
            changes={"predictor": SymmetricLinearPredictor()},
            predicts="collapses without an average (Tian et al. 2021; replicated with two layers "
            "by Hoeppe et al. 2022: 20.3 against 79.4 on CIFAR-10)",
            collapse="complete",
        ),
        Ablation(
            "gradient-none",
            "without the extra gradient G_e = Z_b - P_b: two predictions are compared",
            changes={"objective": PredictorGradient(keep="none")},
            predicts="collapses: without G_e a predictor on both sides is as none (Zhang et al. "
            "2022); behind an output batch norm the embedding keeps one direction",
            collapse="complete",
        ),
        Ablation(
            "gradient-centre",
            "of the extra gradient G_e = Z_b - P_b its mean over the batch only",
            changes={"objective": PredictorGradient(keep="centre")},
            predicts="no collapse: the centre of G_e points against that of the predictions, which "
            "takes the centre out; what decorrelates is gone (Zhang et al. 2022)",
        ),
        Ablation(
            "gradient-residual",
            "the extra gradient G_e = Z_b - P_b without its mean over the batch",
            changes={"objective": PredictorGradient(keep="residual")},
            predicts="no collapse: the residual of G_e decorrelates the dimensions, which suffices "
            "(Zhang et al. 2022)",
        ),
        Ablation(
            "gradient-both",
            "the extra gradient G_e = Z_b - P_b in both parts: SimSiam, written with it",
            changes={"objective": PredictorGradient(keep="both")},
            predicts="no collapse: both parts together are SimSiam's own gradient (Zhang et al. "
            "2022)",
        ),
    ),
)
