"""Asymmetric methods: published protocols, field by field, and what their ablations take out."""

from __future__ import annotations

import pytest

from fullrank.models.settings.closed_form import ClosedFormPredictor, RegressionPredictor
from fullrank.models.settings.objectives.directions import (
    CentredCosine,
    Cosine,
    Isotropic,
    NormalisedMSE,
)
from fullrank.models.settings.objectives.gradient_parts import PredictorGradient
from fullrank.models.settings.predictor import (
    BiasPredictor,
    LinearPredictor,
    NoPredictor,
    SymmetricLinearPredictor,
)
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.spectral_filter import FilteredStopGradient, SpectralFilter
from fullrank.models.settings.target import Momentum, Online, StopGradient
from fullrank.recipes.registry import recipe, recipes

NAMES = "byol simsiam directpred directset directcopy isoloss closed-form rdm symsimsiam".split()


def optimizer(name):
    return recipe(name).training.optimizer


def test_directpred_is_byols_protocol_with_the_papers_predictor():
    # Tian et al. 2021: ImageNet by BYOL's protocol, 300 epochs; Eqs. 18-19 with rho 0.3, eps 0.1.
    ours, byol = recipe("directpred"), recipe("byol")
    for field in ("views", "projector", "target", "objective"):
        assert getattr(ours, field) == getattr(byol, field)
    assert ours.training.optimizer == byol.training.optimizer
    assert (ours.training.batch_size, ours.training.epochs) == (4096, 300)
    assert ours.predictor == ClosedFormPredictor(
        rho=0.3, exponent=0.5, epsilon=0.1, normalised=False, relative=True, lag=1, frequency=1
    )


def test_directpred_as_in_the_authors_code():
    # luckmatters, ssl/real-dataset: README's command (dyn_lambda 0.3, dyn_eps 0.01, freq 1,
    # boost_scale: eigenvalues over the largest, clamped at 1e-4) over config/byol_config.yaml.
    ours = recipe("directpred/official")
    assert ours.predictor == ClosedFormPredictor(
        rho=0.3, exponent=0.5, epsilon=0.01, floor=1e-4, normalised=True, lag=1, frequency=1
    )
    assert ours.projector == MLPProjector(hidden=512, out=128, depth=2)
    assert ours.target == Momentum(tau=0.996, schedule="constant")
    assert ours.training.backbone == "resnet18"
    assert (ours.training.batch_size, ours.training.epochs) == (128, 100)
    found = ours.training.optimizer
    assert (found.name, found.momentum, found.weight_decay) == ("sgd", 0.9, 4e-4)
    assert found.schedule == "constant"
    assert found.lr * 128 / 256 == pytest.approx(0.03)
    assert recipe("directpred/hybrid").predictor.frequency == 5


@pytest.mark.parametrize("name", ["directpred/fmi", "isoloss"])
def test_the_other_labs_protocol(name):
    # fmi-basel/implicit-var-reg, scripts/pretrain/imagenet/{directpred,isoloss}.yaml: dp_tau 0.998,
    # dp_alpha 0.5, eps_iso 0, tau 0.99 to 1, LARS 0.45 per 256 images, wd 1e-5, 64 x 4 x 16 images.
    ours = recipe(name)
    assert ours.predictor == ClosedFormPredictor(
        rho=0.998, exponent=0.5, epsilon=0.0, epsilon_inside=True, lag=0, start="zero"
    )
    assert ours.projector == MLPProjector(hidden=4096, out=256, depth=2)
    assert ours.target == Momentum(tau=0.99, schedule="cosine")
    assert (ours.training.batch_size, ours.training.epochs) == (64 * 4 * 16, 100)
    assert ours.training.backbone == "resnet50"
    found = ours.training.optimizer
    assert (found.name, found.lr, found.weight_decay) == ("lars", 0.45, 1e-5)
    assert not found.decay_norm_and_bias


def test_isoloss_and_its_forms():
    assert recipe("isoloss").objective == Isotropic("cosine")
    assert recipe("isoloss/euclidean").objective == Isotropic("euclidean")
    # README of the same: DirectCopy is dp_alpha 1, eps_iso 0.25.
    copied = recipe("isoloss/isocopy").predictor
    assert (copied.exponent, copied.epsilon) == (1.0, 0.25)
    # scripts/pretrain/cifar/isoloss-noema.yaml; run_experiments.sh sets the weight decay.
    alone = recipe("isoloss/without-momentum")
    assert (alone.target, alone.predictor.rho) == (StopGradient(), 0.5)
    assert (alone.training.batch_size, alone.training.epochs) == (256, 1000)
    assert (alone.training.backbone, alone.training.optimizer.name) == ("resnet18", "sgd")
    assert (alone.training.optimizer.lr, alone.training.optimizer.weight_decay) == (0.1, 1e-4)


def test_directset_and_directcopy():
    assert recipe("directset").predictor.exponent == 0.5
    assert recipe("directset/alpha-1").predictor.exponent == 1.0
    assert recipe("directset/alpha-2").predictor.exponent == 2.0
    # Wang et al. 2021: W_p = F / |F|_2 + epsilon I; 0.25 as in implicit-var-reg's README.
    copied = recipe("directcopy").predictor
    assert (copied.exponent, copied.epsilon, copied.normalised) == (1.0, 0.25, True)
    # luckmatters: F as it is, epsilon as it is.
    official = recipe("directcopy/official").predictor
    assert not official.normalised
    assert not official.relative
    for name in ("directset", "directcopy"):  # trained by the same code as DirectPred
        theirs = recipe("directpred/official")
        assert recipe(name).training == theirs.training
        assert recipe(name).projector == theirs.projector
        assert recipe(name).target == theirs.target


def test_closed_form_byol_is_byol_but_for_its_predictor():
    ours, byol = recipe("closed-form"), recipe("byol")
    for field in ("views", "projector", "target", "objective"):
        assert getattr(ours, field) == getattr(byol, field)
    assert isinstance(ours.predictor, RegressionPredictor)
    projection = recipe("closed-form/projection").predictor
    assert (projection.exponent, projection.epsilon) == (0.0, 0.0)


def test_rdm_is_simsiams_protocol_with_a_filter():
    # Rank-Differential-Mechanism, imagenet: batch 512 and the defaults of SimSiam's code.
    ours, simsiam = recipe("rdm"), recipe("simsiam")
    for field in ("views", "projector", "target", "objective"):
        assert getattr(ours, field) == getattr(simsiam, field)
    assert ours.predictor == SpectralFilter("power", sigma=1.0)
    assert (ours.training.batch_size, ours.training.epochs) == (512, 100)
    found = ours.training.optimizer
    assert (found.name, found.lr, found.weight_decay) == ("sgd", 0.05, 1e-4)
    for function in ("log", "log-plus-one", "log-square-plus-one"):  # log, log_1, log_2
        assert recipe(f"rdm/{function}").predictor.function == function
    for name, sigma in (("target", -1.0), ("target-half", -0.5)):
        form = recipe(f"rdm/{name}")
        assert (form.predictor, form.target) == (NoPredictor(), FilteredStopGradient(sigma))
    assert recipe("rdm/byol").target.kind == "momentum"


def test_symsimsiam_is_symmetric():
    ours = recipe("symsimsiam")
    assert (ours.predictor, ours.target) == (NoPredictor(), Online())
    assert ours.objective == CentredCosine()
    assert recipe("symsimsiam/without-centring").objective == Cosine()
    # Zhuo et al. 2023: centring leaves dimensional collapse.
    assert {p.collapse for p in ours.prevents} == {"complete"}


def test_linear_forms_have_one_matrix():
    for name in ("byol", "simsiam"):
        whole, linear = recipe(name), recipe(f"{name}/linear")
        assert linear.predictor == LinearPredictor(bias=False)
        assert linear.target == whole.target
        assert linear.training == whole.training
    assert recipe("byol/symmetric-linear").predictor == SymmetricLinearPredictor()


EXPECTED = {
    "without-predictor": ("predictor", NoPredictor()),
    "without-filter": ("predictor", NoPredictor()),
    "without-stop-gradient": ("target", Online()),
    "without-momentum": ("target", StopGradient()),
    "without-centring": ("objective", Cosine()),
    "bias-predictor": ("predictor", BiasPredictor()),
    "symmetric-predictor": ("predictor", SymmetricLinearPredictor()),
    "gradient-none": ("objective", PredictorGradient("none")),
    "gradient-centre": ("objective", PredictorGradient("centre")),
    "gradient-residual": ("objective", PredictorGradient("residual")),
    "gradient-both": ("objective", PredictorGradient("both")),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("preset", ["paper", "small"])
def test_ablations_take_out_what_they_say(name, preset):
    whole = recipes()[name].preset(preset)
    for ablation in recipes()[name].ablations:
        ablated = recipe(f"{name}/{ablation.name}").preset(preset)
        ablated.check(ablated.training.batch_size, 128)
        if ablation.name == "without-weight-decay":
            assert ablated.training.optimizer.weight_decay == 0
            assert whole.training.optimizer.weight_decay > 0
            continue
        field, part = EXPECTED[ablation.name]
        assert getattr(ablated, field) == part
        assert getattr(whole, field) != part
        gone = {p.collapse for p in whole.prevents} - {p.collapse for p in ablated.standing()}
        assert (ablation.collapse in gone) == (ablation.collapse is not None)


@pytest.mark.parametrize("name", NAMES)
def test_variants_keep_every_mechanism_and_suit_small_images(name):
    for variant in recipes()[name].variants:
        form = recipe(f"{name}/{variant.name}")
        form.check(form.training.batch_size, 2048)
        assert form.standing() == list(form.prevents)
        small = form.preset("small")
        assert small.standing() == list(small.prevents)
        assert (small.training.batch_size, small.training.epochs) == (256, 1)
        assert small.views.augment == "auto"
        assert isinstance(small.objective, NormalisedMSE | Cosine | Isotropic)
