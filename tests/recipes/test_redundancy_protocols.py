"""Redundancy reduction and distribution matching: published protocols, variants, ablations."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from fullrank.errors import UserError
from fullrank.models.settings.objectives.directions import NormalisedMSE
from fullrank.models.settings.objectives.distribution import SIGReg, VISReg
from fullrank.models.settings.objectives.redundancy import (
    CovarianceContrast,
    CrossCorrelation,
    FrobeniusEntropy,
    VarianceCovariance,
)
from fullrank.models.settings.objectives.volume import CodingRate, NuclearNorm
from fullrank.models.settings.objectives.whitening import Whitening
from fullrank.models.settings.predictor import NoPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.target import Momentum, Online, StopGradient
from fullrank.models.settings.views import Crops, MultiCrop
from fullrank.recipes.registry import recipe
from fullrank.recipes.training import Optimizer, Training

NAMES = (
    "barlow-twins",
    "vicreg",
    "wmse",
    "tico",
    "mmcr",
    "frossl",
    "simdino",
    "lejepa",
    "visreg",
)

# LARS as in the published code of Barlow Twins, VICReg and MMCR: no decay and no adaptation of
# norms and biases, momentum 0.9.
LARS = {"name": "lars", "momentum": 0.9, "decay_norm_and_bias": False, "schedule": "cosine"}

PROTOCOLS = {
    # The command that the published code's README gives for CIFAR-10: --epoch 1000 --lr 3e-3
    # --emb 64 --w_size 128, and the defaults of its configuration: batch 512, Adam, L2 1e-6, 500
    # steps of warm-up of 97,000; augmentation: the paper's sec. 4.
    "wmse": (
        Crops(augment="mocov2", grey=0.1, blur=0.0),
        MLPProjector(hidden=1024, out=64, depth=2),
        Online(),
        Whitening(sub_batch=128, rounds=1, epsilon=0.0, normalise=True),
        Training(
            512,
            1000,
            Optimizer("adam", lr=3e-3 / 2, weight_decay=1e-6, schedule="constant", warmup=0.005),
            "resnet18",
        ),
    ),
    # rho, beta, head and BYOL's augmentation and optimiser: lightly's benchmark, after the paper.
    "tico": (
        Crops(augment="byol"),
        MLPProjector(hidden=4096, out=256, depth=2),
        Momentum(tau=0.99, schedule="cosine"),
        CovarianceContrast(rho=8.0, beta=0.9),
        Training(4096, 1000, Optimizer(**LARS, lr=0.2, weight_decay=1.5e-6, warmup=0.01)),
    ),
    # The defaults of the published pretrain_imagenet.py and train.py: batch 2048, 8 views, lr 0.8
    # per 256, tau 0.99, 100 epochs, 10 of warm-up, 1e-3 of the rate at the end, 8192-8192-512.
    "mmcr": (
        Crops(count=8, augment="byol"),
        MLPProjector(hidden=8192, out=512, depth=3, last_bias=False),
        Momentum(tau=0.99, schedule="constant"),
        NuclearNorm(),
        Training(
            2048,
            100,
            Optimizer(**LARS, lr=0.8, weight_decay=1e-6, warmup=0.1, final_lr=0.001),
        ),
    ),
    # scripts/pretrain/imagenet/frossl.yaml of the published code: two devices of 256 images.
    "frossl": (
        Crops(augment="byol"),
        MLPProjector(hidden=2048, out=1024, depth=3),
        Online(),
        FrobeniusEntropy(frobenius=1.0, invariance=2.0),
        Training(512, 100, Optimizer(**LARS, lr=0.3, weight_decay=1e-4, warmup=0.1), "resnet18"),
    ),
    # The defaults of the published main_dino.py: z_dim 256, eps 0.5, lr 5e-4 per 256 to 1e-6,
    # decay 0.04 to 0.4, clip 3, 10 of 100 epochs of warm-up, crops (0.4, 1) and 8 of (0.05, 0.4).
    "simdino": (
        MultiCrop(augment="dino", local_count=8, local_min_scale=0.05, local_max_scale=0.4),
        MLPProjector(hidden=2048, out=256, depth=3),
        Momentum(tau=0.996, schedule="cosine"),
        CodingRate(rate=1.0, epsilon=0.5, features="online"),
        Training(
            512,
            100,
            Optimizer(
                "adamw",
                lr=5e-4,
                weight_decay=0.04,
                final_weight_decay=0.4,
                decay_norm_and_bias=False,
                warmup=0.1,
                final_lr=1e-6 / (5e-4 * 512 / 256),
                clip_gradient=3.0,
            ),
            "timm/vit_small_patch16_224",
        ),
    ),
    # "GOTO hyperparameters" of the published README: 2 views (0.3, 1) and 6 of 98 pixels
    # (0.05, 0.3), blur 0.5, solarise 0.2, AdamW 5e-4, decay 5e-4 for ResNets, lr/1000 at the end.
    "lejepa": (
        MultiCrop(
            count=2,
            augment="byol",
            min_scale=0.3,
            blur=0.5,
            solarise=0.2,
            local_count=6,
            local_size=98,
            local_min_scale=0.05,
            local_max_scale=0.3,
        ),
        MLPProjector(hidden=2048, out=128, depth=3),
        Online(),
        SIGReg(weight=0.05, directions=1024, knots=17, t_max=5.0, half=False),
        Training(
            256,
            100,
            Optimizer("adamw", lr=5e-4, weight_decay=5e-4, warmup=0.01, final_lr=0.001),
            "resnet50",
        ),
    ),
    # configs/default.yaml, configs/loss/visreg.yaml and train.py of the published code, on 8
    # devices of 16 images as in its README: 4 views and 6 of 96 pixels, lr 9e-4, 5 of 100 epochs.
    "visreg": (
        MultiCrop(
            count=4,
            augment="byol",
            min_scale=0.3,
            blur=0.5,
            solarise=0.2,
            local_count=6,
            local_size=96,
            local_min_scale=0.05,
            local_max_scale=0.3,
        ),
        MLPProjector(hidden=2048, out=256, depth=3),
        Online(),
        VISReg(weight=0.9, scale=1.0, shape=1.0, centre=1.0, directions=4096),
        Training(
            128,
            100,
            Optimizer(
                "adamw",
                lr=9e-4 * 256 / 128,
                weight_decay=0.05,
                decay_norm_and_bias=False,
                warmup=0.05,
                final_lr=0.001,
            ),
            "timm/vit_base_patch16_224",
        ),
    ),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_published_protocol_field_by_field(name):
    views, projector, target, objective, training = PROTOCOLS[name]
    found = recipe(name).preset("paper")
    assert found.views == views
    assert found.projector == projector
    assert found.predictor == NoPredictor()
    assert found.target == target
    assert found.objective == objective
    given, expected = asdict(found.training), asdict(training)
    assert given.pop("optimizer") == pytest.approx(expected.pop("optimizer"))
    assert given == expected


def test_the_published_protocols_of_barlow_twins_and_vicreg():
    # Zbontar et al. 2021, sec. 2.2 and the published main.py; Bardes et al. 2022, sec. 4.2.
    for name, objective, decay in (
        ("barlow-twins", CrossCorrelation(0.0051), 1.5e-6),
        ("vicreg", VarianceCovariance(25, 25, 1, 1, 1e-4), 1e-6),
    ):
        found = recipe(name)
        assert found.objective == objective
        assert found.projector == MLPProjector(8192, 8192, 3, last_bias=False)
        assert found.training.optimizer.weight_decay == decay
        assert (found.training.batch_size, found.training.epochs) == (2048, 1000)


# Each with the objective that it comes down to, and the mechanisms that then stand.
ABLATIONS = {
    "barlow-twins/without-off-diagonal": (CrossCorrelation(0.0), ["complete"]),
    "vicreg/without-variance": (VarianceCovariance(variance=0), ["dimensional"]),
    "vicreg/without-covariance": (VarianceCovariance(covariance=0), ["complete"]),
    "vicreg/without-invariance": (VarianceCovariance(invariance=0), ["complete", "dimensional"]),
    "vicreg/only-invariance": (VarianceCovariance(variance=0, covariance=0), []),
    "wmse/without-whitening": (NormalisedMSE(), []),
    "tico/without-covariance": (CovarianceContrast(rho=0), []),
    "tico/without-momentum": (CovarianceContrast(), ["complete", "dimensional"]),
    "mmcr/without-nuclear-norm": (NormalisedMSE(), []),
    "frossl/without-frobenius": (FrobeniusEntropy(0.0, 2.0), []),
    "simdino/without-coding-rate": (CodingRate(rate=0), []),
    "simdino/without-momentum": (CodingRate(), ["complete", "dimensional"]),
    "lejepa/without-sigreg": (SIGReg(weight=0), []),
    "visreg/without-scale": (VISReg(scale=0), ["dimensional"]),
    "visreg/without-shape": (VISReg(shape=0), ["complete"]),
    "visreg/without-centre": (VISReg(centre=0), ["complete", "dimensional"]),
}


def test_no_ablation_is_left_out():
    found = {f"{name}/{a.name}" for name in NAMES for a in recipe(name).ablations}
    assert found == set(ABLATIONS)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_removes_what_it_says_and_nothing_else(name):
    objective, standing = ABLATIONS[name]
    base = recipe(name.split("/")[0])
    paper, small = recipe(name), recipe(name).preset("small")
    assert paper.objective == objective
    assert type(small.objective) is type(objective)
    for found in (paper, small):
        assert sorted(p.collapse for p in found.standing()) == standing
        found.check(found.training.batch_size, 2048)
    assert (paper.views, paper.projector) == (base.views, base.projector)
    ablation = paper.chosen[-1]
    assert "et al." in ablation.predicts or " and " in ablation.predicts
    if ablation.collapse in ("complete", "dimensional"):
        assert ablation.collapse not in standing


def test_ablations_of_the_target():
    assert recipe("tico/without-momentum").target == Online()
    assert recipe("simdino/without-momentum").target == StopGradient()
    assert recipe("mmcr/online").target == Online()


def test_variants_are_the_other_published_forms():
    # README of the published code of W-MSE: W-MSE 4 (--num_samples 4 --bs 256) and STL-10
    # (--lr 2e-3 --emb 128 --w_size 256 --w_iter 4); lr is per 256 images here.
    four = recipe("wmse/four-views")
    assert four.views.count == 4
    assert (four.training.batch_size, four.training.optimizer.lr) == (256, 3e-3)
    stl10 = recipe("wmse/stl10")
    assert stl10.projector.out == 128
    assert (stl10.objective.sub_batch, stl10.objective.rounds) == (256, 4)
    assert stl10.training.optimizer.lr == 2e-3 * 256 / 512
    # main_dino.py of the published code of SimDINO: --expa_type 1.
    assert recipe("simdino/official").objective == CodingRate(features="mean")
    # The library's EppsPulley and the minimal example of LeJEPA: 17 knots in [0, 3], 256
    # directions, --lamb 0.02 --V 4 --proj_dim 16 --lr 2e-3 --bs 256 --epochs 800.
    assert recipe("lejepa/library").objective == SIGReg(t_max=3.0, half=True)
    minimal = recipe("lejepa/minimal")
    assert minimal.objective == SIGReg(weight=0.02, directions=256, t_max=3.0, half=True)
    assert minimal.views == Crops(count=4, augment="simclr", solarise=0.2)
    assert minimal.projector == MLPProjector(hidden=2048, out=16, depth=3)
    assert (minimal.training.batch_size, minimal.training.epochs) == (256, 800)
    assert (minimal.training.optimizer.lr, minimal.training.optimizer.weight_decay) == (2e-3, 0.05)
    assert recipe("mmcr/two-views").views.count == 2


@pytest.mark.parametrize("name", NAMES)
def test_variants_hold_on_small_images(name):
    whole = recipe(name)
    for variant in whole.variants:
        small = whole.variant(variant.name).preset("small")
        small.check(small.training.batch_size, 128)
        assert small.training.batch_size <= 256
        assert small.training.epochs <= 1
        assert small.training.optimizer.name == whole.preset("small").training.optimizer.name
        assert small.standing() == list(whole.prevents)


def test_a_batch_too_small_for_the_whitening_is_refused_by_the_recipe():
    with pytest.raises(UserError, match=r"batch_size: 64 images.*Allowed: 128 or more"):
        recipe("wmse").check(64)
    wide = replace(recipe("wmse"), projector=MLPProjector(out=128))
    with pytest.raises(UserError, match=r"recipe\.objective\.sub_batch: 128.*of 128"):
        wide.check(256)
