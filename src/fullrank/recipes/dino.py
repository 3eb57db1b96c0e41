"""DINO: a student predicts what its own average makes of the image, centred and sharpened."""

from fullrank.models.settings.objectives.distillation import SelfDistillation
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.prototype_head import DINOHead
from fullrank.models.settings.target import Momentum, StopGradient
from fullrank.models.settings.views import Crops, MultiCrop
from fullrank.recipes.recipe import Ablation, Paper, Prevents, Recipe
from fullrank.recipes.training import Optimizer, Training

RECIPE = Recipe(
    name="dino",
    title="DINO",
    family="self-distillation",
    paper=Paper(
        "Caron et al.",
        2021,
        "Emerging Properties in Self-Supervised Vision Transformers",
        "2104.14294",
    ),
    equations=(
        "s_ik = softmax over k of z_ik / T_s   (Eq. 1)",
        "t_jk = softmax over k of (z'_jk - c_k) / T_t,  z' by the averaged weights",
        "L = mean over i≠j of -sum over k of t_jk log s_ik,  j a large crop   (Eqs. 2, 3)",
        "c <- m c + (1 - m) mean of z' over the batch,  m = 0.9   (Eq. 4)",
        "w' <- tau w' + (1 - tau) w,  tau rises from 0.996 to 1 on a cosine   (sec. 3.1)",
    ),
    prevents=(
        Prevents(
            "centring: no output can take all images",
            "cluster",
            ("objective=self-distillation", "objective.centring"),
        ),
        Prevents(
            "sharpening: outputs cannot all be alike",
            "complete",
            ("objective=self-distillation", "objective.sharpening"),
        ),
        Prevents("momentum target", "complete", ("target=momentum",)),
    ),
    views=MultiCrop(
        augment="dino", min_scale=0.4, local_count=8, local_min_scale=0.05, local_max_scale=0.4
    ),
    projector=DINOHead(hidden=2048, bottleneck=256, out=65536, trained_scale=True, frozen=1 / 300),
    predictor=NoPredictor(),
    target=Momentum(tau=0.996, schedule="cosine"),
    objective=SelfDistillation(teacher_warmup=30 / 300),
    training=Training(
        batch_size=1024,
        epochs=300,
        optimizer=Optimizer(
            name="adamw",
            lr=5e-4,
            weight_decay=0.04,
            final_weight_decay=0.4,
            decay_norm_and_bias=False,
            schedule="cosine",
            warmup=10 / 300,
            final_lr=1e-6 / (5e-4 * 1024 / 256),
            clip_gradient=3.0,
        ),
        backbone="timm/vit_small_patch16_224",
    ),
    small={
        "views": MultiCrop(local_count=1, local_min_scale=0.1, local_max_scale=0.3),
        "projector": DINOHead(
            hidden=128, bottleneck=64, out=128, depth=2, batch_norm=True, frozen=0.0
        ),
        "target": Momentum(tau=0.99),
        "objective": SelfDistillation(teacher_temperature=0.04, teacher_warmup=0.0),
        "training": Training(
            batch_size=256,
            epochs=1,
            optimizer=Optimizer(name="adamw", lr=0.002, weight_decay=0.04, warmup=0.1),
        ),
    },
    ablations=(
        Ablation(
            "without-centring",
            "targets are sharpened only",
            changes={"objective": {"centring": False}},
            predicts="one output dominates: the targets' entropy falls to 0, and their divergence "
            "from the predictions to 0 as well (sec. 5.3)",
            collapse="cluster",
        ),
        Ablation(
            "without-sharpening",
            "targets are centred only: the same temperature on both sides",
            changes={"objective": {"teacher_temperature": 0.1, "first_teacher_temperature": 0.1}},
            predicts="all outputs are alike: the targets' entropy rises to log K, and their "
            "divergence from the predictions falls to 0 (sec. 5.3)",
            collapse="complete",
        ),
        Ablation(
            "without-momentum",
            "targets by the student itself, without gradient",
            changes={"target": StopGradient()},
            predicts="it does not learn: with a copy of the student as teacher centring and "
            "sharpening are not enough (sec. 5.1 and 5.2)",
            collapse="complete",
        ),
        Ablation(
            "without-multi-crop",
            "two large crops only",
            changes={"views": Crops(augment="dino", min_scale=0.14)},
            small={"views": Crops()},
            predicts="no collapse, some points less of accuracy on ImageNet (sec. 5.1)",
        ),
    ),
)
