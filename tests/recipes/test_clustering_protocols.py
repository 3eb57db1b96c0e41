"""Clustering and self-distillation: published protocols, variants, ablations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fullrank.data.settings import PRESETS
from fullrank.errors import UserError
from fullrank.models.settings.objectives.clustering import ClusterAssignment, SwappedAssignment
from fullrank.models.settings.objectives.distillation import SelfDistillation
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.prototype_head import DINOHead
from fullrank.models.settings.target import Momentum, StopGradient
from fullrank.models.settings.views import Crops, MultiCrop
from fullrank.recipes.registry import recipe
from fullrank.recipes.training import Optimizer, Training

# The published scripts of SwAV and DeepCluster-v2: --nmb_crops 2 6 --size_crops 224 96
# --min_scale_crops 0.14 0.05 --max_scale_crops 1 0.14; 64 GPUs of 64 images; --base_lr 4.8
# --final_lr 0.0048 --wd 1e-6 --warmup_epochs 10 --epochs 800 --feat_dim 128. Their warm-up starts
# at 0.3, ours at 0. The first crops' colours are SimCLR's (paper, appendix A).
CROPS = MultiCrop(
    augment="simclr", min_scale=0.14, local_count=6, local_min_scale=0.05, local_max_scale=0.14
)
LARS = Optimizer(
    name="lars",
    lr=4.8 / (4096 / 256),
    momentum=0.9,
    weight_decay=1e-6,
    schedule="cosine",
    warmup=10 / 800,
    final_lr=0.0048 / 4.8,
)

PROTOCOLS = {
    "swav": (
        CROPS,
        MLPProjector(hidden=2048, out=128, depth=2, last_norm="none"),
        NoPredictor(),
        StopGradient(),
        # --temperature 0.1 --epsilon 0.05 --sinkhorn_iterations 3 --nmb_prototypes 3000
        # --queue_length 0 --freeze_prototypes_niters 313
        SwappedAssignment(
            prototypes=3000,
            temperature=0.1,
            epsilon=0.05,
            iterations=3,
            trained=True,
            frozen_steps=313,
            queue=0,
        ),
        Training(4096, 800, LARS, "resnet50"),
    ),
    # The authors' script for 4 GPUs of 64 images: --queue_length 3840 --epoch_queue_starts 15
    # --base_lr 0.6 --final_lr 0.0006 --freeze_prototypes_niters 5005 --warmup_epochs 0.
    "swav/batch-256": (
        CROPS,
        MLPProjector(hidden=2048, out=128, depth=2, last_norm="none"),
        NoPredictor(),
        StopGradient(),
        SwappedAssignment(frozen_steps=5005, queue=3840, queue_start=15 / 400),
        Training(256, 400, replace(LARS, lr=0.6, warmup=0.0), "resnet50"),
    ),
    "deepcluster": (
        CROPS,
        MLPProjector(hidden=2048, out=128, depth=2, last_norm="none"),
        NoPredictor(),
        StopGradient(),
        # --temperature 0.1 --nmb_prototypes 3000 3000 3000; 10 iterations of k-means
        ClusterAssignment(prototypes=3000, heads=3, temperature=0.1, iterations=10),
        Training(4096, 800, LARS, "resnet50"),
    ),
    # ViT-S/16 for 300 epochs on 16 GPUs of 64 images, as the published README says: the defaults
    # with --teacher_temp 0.07 --warmup_teacher_temp_epochs 30 --norm_last_layer false. The paper,
    # sec. 3.2: AdamW, lr 0.0005 x batch / 256, 10 epochs of warm-up, decay 0.04 to 0.4 on a
    # cosine, T_s 0.1, T_t 0.04 to 0.07 in 30 epochs. Defaults: --min_lr 1e-6 --clip_grad 3.0
    # --freeze_last_layer 1 --momentum_teacher 0.996 --out_dim 65536 --global_crops_scale 0.4 1
    # --local_crops_number 8 --local_crops_scale 0.05 0.4.
    "dino": (
        MultiCrop(
            augment="dino",
            min_scale=0.4,
            local_count=8,
            local_min_scale=0.05,
            local_max_scale=0.4,
        ),
        DINOHead(
            hidden=2048,
            bottleneck=256,
            out=65536,
            depth=3,
            batch_norm=False,
            trained_scale=True,
            frozen=1 / 300,
        ),
        NoPredictor(),
        Momentum(tau=0.996, schedule="cosine"),
        SelfDistillation(
            student_temperature=0.1,
            teacher_temperature=0.07,
            first_teacher_temperature=0.04,
            teacher_warmup=30 / 300,
            centring=True,
            centre_momentum=0.9,
        ),
        Training(
            1024,
            300,
            Optimizer(
                name="adamw",
                lr=5e-4,
                weight_decay=0.04,
                final_weight_decay=0.4,
                decay_norm_and_bias=False,
                schedule="cosine",
                warmup=10 / 300,
                final_lr=1e-6 / 0.002,
                clip_gradient=3.0,
            ),
            "timm/vit_small_patch16_224",
        ),
    ),
}
FIELDS = ("views", "projector", "predictor", "target", "objective", "training")


@pytest.mark.parametrize(
    ("name", "field", "expected"),
    [(n, f, v) for n, values in PROTOCOLS.items() for f, v in zip(FIELDS, values, strict=True)],
    ids=[f"{n}-{f}" for n in PROTOCOLS for f in FIELDS],
)
def test_the_published_protocol(name, field, expected):
    assert getattr(recipe(name).preset("paper"), field) == expected


def test_dinos_views_are_drawn_as_byols_but_for_the_small_crops():
    first, second, small = PRESETS["dino"]
    assert (first.blur, second.blur, small.blur) == (1.0, 0.1, 0.5)
    assert (first.solarise, second.solarise, small.solarise) == (0.0, 0.2, 0.0)
    for dino, byol in zip((first, second), PRESETS["byol"], strict=True):
        assert replace(dino, scale=byol.scale) == byol
        assert dino.scale == (0.4, 1.0)


def test_swavs_prototypes_can_all_be_filled_in_every_published_form():
    for name in ("swav", "swav/batch-256", "deepcluster"):
        whole = recipe(name)
        whole.check(whole.training.batch_size)


REMOVED = {
    "swav/without-equipartition": {
        "equal shares of the images for all prototypes",
    },
    "swav/fixed-prototypes": set(),
    "swav/without-multi-crop": set(),
    "deepcluster/without-multi-crop": set(),
    "dino/without-centring": {"centring: no output can take all images"},
    "dino/without-sharpening": {"sharpening: outputs cannot all be alike"},
    "dino/without-momentum": {"momentum target"},
    "dino/without-multi-crop": set(),
}


@pytest.mark.parametrize("preset", ["paper", "small"])
@pytest.mark.parametrize("name", REMOVED)
def test_an_ablation_removes_what_it_says_and_nothing_else(name, preset):
    base = recipe(name.partition("/")[0])
    ablated = recipe(name).preset(preset)
    ablated.check(ablated.training.batch_size)
    gone = {p.mechanism for p in base.prevents} - {p.mechanism for p in ablated.standing()}
    assert gone == REMOVED[name]
    if preset == "paper" and "multi-crop" in name:
        assert type(ablated.views) is Crops and ablated.views.count == 2


def test_every_ablation_is_tried():
    names = [f"{n}/{a.name}" for n in ("swav", "deepcluster", "dino") for a in recipe(n).ablations]
    assert sorted(names) == sorted(REMOVED)


@pytest.mark.parametrize("preset", ["paper", "small"])
def test_what_an_ablation_sets(preset):
    def part(name, field):
        return getattr(recipe(name).preset(preset), field)

    assert part("swav/without-equipartition", "objective").iterations == 0
    assert not part("swav/fixed-prototypes", "objective").trained
    assert not part("dino/without-centring", "objective").centring
    warm = part("dino/without-sharpening", "objective")
    assert warm.teacher_temperature == warm.first_teacher_temperature == warm.student_temperature
    assert part("dino/without-momentum", "target") == StopGradient()


@pytest.mark.parametrize("name", ["swav", "deepcluster", "dino"])
def test_a_small_batch_fills_what_the_small_preset_has(name):
    small = recipe(name).preset("small")
    small.check(64 if name == "swav" else small.training.batch_size)


def test_more_prototypes_than_a_batch_can_fill_are_refused():
    small = recipe("swav").preset("small")
    many = replace(small, objective=replace(small.objective, prototypes=5000))
    with pytest.raises(UserError, match=r"prototypes: 5000 .*at most 256.*images of a batch"):
        many.check(256)
    many.check(5000)
