"""Contrastive recipes and the centre penalty against their papers' stated values."""

from __future__ import annotations

import pytest

from fullrank.data.settings import PRESETS
from fullrank.recipes.registry import recipe

# What each paper, or its official code, states. lr: per 256 images.
STATED = {
    # Chen et al. 2020: secs. 2.1, 2.2, B.1; batch 4096, 100 epochs, LARS 0.3 per 256, 1e-6.
    "simclr": {
        "views.augment": "simclr",
        "projector.hidden": 2048,
        "projector.out": 128,
        "projector.depth": 2,
        "predictor.kind": "none",
        "target.kind": "online",
        "objective.temperature": 0.1,
        "training.batch_size": 4096,
        "training.epochs": 100,
        "optimizer.name": "lars",
        "optimizer.lr": 0.3,
        "optimizer.weight_decay": 1e-6,
        "optimizer.warmup": 0.1,
    },
    # github.com/facebookresearch/moco, main_moco.py: defaults with --mlp --moco-t 0.2 --aug-plus
    # --cos.
    "mocov2": {
        "views.augment": "mocov2",
        "projector.hidden": 2048,
        "projector.out": 128,
        "projector.depth": 2,
        "projector.hidden_norm": False,
        "projector.last_norm": "none",
        "predictor.kind": "none",
        "target.kind": "momentum",
        "target.tau": 0.999,
        "target.schedule": "constant",
        "objective.queue": 65536,
        "objective.temperature": 0.2,
        "objective.symmetric": False,
        "training.batch_size": 256,
        "training.epochs": 200,
        "optimizer.name": "sgd",
        "optimizer.lr": 0.03,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 1e-4,
        "optimizer.schedule": "cosine",
        "optimizer.warmup": 0.0,
        "training.backbone": "resnet50",
    },
    # github.com/facebookresearch/moco-v3, CONFIG.md (ResNet-50, 300 epochs), main_moco.py and
    # MoCo_ResNet in moco/builder.py.
    "mocov3": {
        "views.augment": "byol",
        "views.min_scale": 0.2,
        "projector.hidden": 4096,
        "projector.out": 256,
        "projector.depth": 2,
        "projector.last_norm": "batch",
        "predictor.hidden": 4096,
        "predictor.depth": 2,
        "predictor.last_bias": False,
        "target.kind": "momentum",
        "target.tau": 0.99,
        "target.schedule": "cosine",
        "objective.temperature": 1.0,
        "objective.rescaled": True,
        "training.batch_size": 4096,
        "training.epochs": 300,
        "optimizer.name": "lars",
        "optimizer.lr": 0.3,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 1e-6,
        "optimizer.decay_norm_and_bias": False,
        "optimizer.schedule": "cosine",
        "optimizer.warmup": 10 / 300,
        "training.backbone": "resnet50",
    },
    # Dwibedi et al. 2021, secs. 3.3 and 4.1: support of 98304, T 0.1, 3-layer projector
    # 2048-2048-256 with batch norm, 2-layer predictor of 4096, batch 4096, LARS 0.3 per 256.
    "nnclr": {
        "projector.hidden": 2048,
        "projector.out": 256,
        "projector.depth": 3,
        "projector.last_norm": "batch-affine",
        "predictor.hidden": 4096,
        "predictor.depth": 2,
        "target.kind": "nearest-neighbor",
        "target.support": 98304,
        "objective.kind": "info-nce",
        "objective.anchor": "target",
        "objective.temperature": 0.1,
        "training.batch_size": 4096,
        "training.epochs": 1000,
        "optimizer.name": "lars",
        "optimizer.lr": 0.3,
        "optimizer.warmup": 0.01,
    },
    # Yeh et al. 2022: abstract (256 images, 200 epochs); T 0.1 over a 128-dimensional embedding.
    "dcl": {
        "views.augment": "simclr",
        "projector.out": 128,
        "objective.kind": "decoupled-nt-xent",
        "objective.temperature": 0.1,
        "objective.sigma": None,
        "training.batch_size": 256,
        "training.epochs": 200,
    },
    # github.com/facebookresearch/directclr, main.py and utils.py: rate 4.8 at 4096 images.
    "directclr": {
        "views.augment": "byol",
        "projector.kind": "sub-vector",
        "projector.dims": 360,
        "predictor.kind": "none",
        "target.kind": "online",
        "objective.kind": "info-nce",
        "objective.temperature": 0.1,
        "objective.anchor": "prediction",
        "training.batch_size": 4096,
        "training.epochs": 100,
        "optimizer.name": "lars",
        "optimizer.lr": 4.8 * 256 / 4096,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 1e-6,
        "optimizer.decay_norm_and_bias": False,
        "optimizer.warmup": 0.1,
        "optimizer.final_lr": 0.001,
        "training.backbone": "resnet50",
    },
    # Schroff et al. 2015, sec. 3.2: 0.2 in squared distances of unit vectors, 2 - 2 cos each.
    "triplet": {
        "objective.kind": "triplet",
        "objective.margin": 0.2 / 2,
        "objective.negatives": "all",
        "target.kind": "online",
        "predictor.kind": "none",
    },
    # github.com/SsnL/align_uniform, examples/stl10: main.py and the head of encoder.py.
    "align-uniform": {
        "views.augment": "align-uniform",
        "projector.hidden": 4096,
        "projector.out": 128,
        "projector.depth": 3,
        "objective.alignment": 1.0,
        "objective.uniformity": 1.0,
        "objective.alpha": 2.0,
        "objective.t": 2.0,
        "training.batch_size": 768,
        "training.epochs": 200,
        "optimizer.name": "sgd",
        "optimizer.lr": 0.12,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 1e-4,
    },
    # Jha et al. 2024: alignment without predictor or stopped gradient, and the centre's length.
    "centre-penalty": {
        "objective.kind": "centre-penalty",
        "target.kind": "online",
        "predictor.kind": "none",
    },
}


def value_of(of, path):
    first, name = path.split(".")
    part = of.training.optimizer if first == "optimizer" else getattr(of, first)
    return getattr(part, name)


@pytest.mark.parametrize(
    ("name", "path", "stated"),
    [(name, path, value) for name, values in STATED.items() for path, value in values.items()],
)
def test_the_paper_preset_is_what_is_stated(name, path, stated):
    assert value_of(recipe(name), path) == pytest.approx(stated)


def test_the_augmentation_of_wang_and_isola():
    (views,) = PRESETS["align-uniform"]  # examples/stl10/main.py
    assert (views.size, views.scale, views.flip) == (64, (0.08, 1.0), 0.5)
    assert (views.jitter, views.jitter_p) == ((0.4, 0.4, 0.4, 0.4), 1.0)
    assert (views.grey, views.blur, views.solarise) == (0.2, 0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "path", "stated"),
    [
        ("dcl/weighted", "objective.sigma", 0.5),
        ("mocov2/symmetric", "objective.symmetric", True),
        ("triplet/one-negative", "objective.negatives", "next"),
        # Zhang et al. 2022: the gradient of the negative is there for every triplet.
        ("triplet/without-margin", "objective.margin", None),
        # github.com/SsnL/moco_align_uniform, README.md.
        ("align-uniform/imagenet", "objective.alignment", 3.0),
        ("align-uniform/imagenet", "objective.t", 3.0),
        ("simclr/without-negatives", "objective.kind", "cosine"),
        ("simclr/without-projector", "projector.kind", "none"),
        ("simclr/linear-projector", "projector.depth", 1),
        ("mocov2/without-negatives", "objective.kind", "cosine"),
        ("mocov2/without-momentum", "target.kind", "stop-gradient"),
        ("mocov3/without-predictor", "predictor.kind", "none"),
        ("mocov3/without-negatives", "objective.kind", "cosine"),
        ("nnclr/without-neighbors", "target.kind", "stop-gradient"),
        ("nnclr/without-negatives", "objective.kind", "cosine"),
        ("nnclr/without-negatives", "predictor.kind", "none"),
        ("dcl/coupled", "objective.kind", "nt-xent"),
        ("dcl/without-negatives", "objective.kind", "cosine"),
        ("directclr/without-sub-vector", "projector.kind", "none"),
        ("directclr/without-negatives", "objective.kind", "cosine"),
        ("triplet/without-negatives", "objective.kind", "cosine"),
        ("triplet/gradient-none", "objective.keep", "none"),
        ("triplet/gradient-centre", "objective.keep", "centre"),
        ("triplet/gradient-residual", "objective.keep", "residual"),
        ("triplet/gradient-both", "objective.keep", "both"),
        ("align-uniform/alignment-only", "objective.uniformity", 0.0),
        ("centre-penalty/alignment-only", "objective.penalty", 0.0),
    ],
)
def test_variants_and_ablations_change_what_they_say(name, path, stated):
    changed = recipe(name)
    for preset in ("paper", "small"):
        under = changed.preset(preset)
        assert value_of(under, path) == stated
        under.check(256, features=2048)


@pytest.mark.parametrize("name", list(STATED))
def test_what_an_ablation_takes_away_no_longer_stands(name):
    whole = recipe(name)
    for ablation in whole.ablations:
        if ablation.collapse is None:
            continue
        for preset in ("paper", "small"):
            left = recipe(f"{name}/{ablation.name}").preset(preset).standing()
            assert ablation.collapse not in {p.collapse for p in left}, ablation.name


@pytest.mark.parametrize("name", ["mocov2", "nnclr"])
def test_a_memory_smaller_than_a_batch_is_refused(name):
    from fullrank.errors import UserError

    with pytest.raises(UserError, match=r"(queue|support): \d+ .*the 1000000 images of a batch"):
        recipe(name).check(1_000_000)
