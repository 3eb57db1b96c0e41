"""Linear networks that our own training trains with SGD follow the matrix flow of the theory."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from fullrank.data.loader import Batch
from fullrank.models.joint_embedding import JointEmbedding
from fullrank.models.objectives.objective import Loss, Objective
from fullrank.models.targets import MomentumTarget, OnlineTarget, StopGradientTarget
from fullrank.recipes.training import Optimizer
from fullrank.theory.flow import integrate
from fullrank.theory.predictor_flow import (
    NetworkParameters,
    collapse_rate,
    matrix_rates,
    no_predictor_rates,
    no_stop_gradient_rates,
)
from fullrank.train.module import JointEmbeddingModule

INPUTS, OUTPUTS, NOISE = 20, 8, 0.4
BATCH, RATE = 512, 0.02


class HalfSquare(Objective):
    """``½ ‖p_i - t_j‖²``, mean over images and ordered pairs of views: the theory's loss."""

    def forward(self, outputs):
        distances = [(p - t).square().sum(1).mean() / 2 for p, t in outputs.ordered_pairs()]
        return Loss.of(distance=torch.stack(distances).mean())


class GaussianPairs:
    """Batches of two noisy views of standard normal vectors, in place of images."""

    steps_per_epoch = 10**9

    def batches(self, start_step: int = 0) -> Iterator[Batch]:
        gen = torch.Generator().manual_seed(start_step)
        while True:
            mean = torch.randn(BATCH, INPUTS, generator=gen)
            noises = NOISE * torch.randn(2, BATCH, INPUTS, generator=gen)
            yield Batch([mean + noise for noise in noises], torch.arange(BATCH))


class OnVectors(JointEmbeddingModule):
    """Our training, on vectors; it notes the weights on its way."""

    def train_dataloader(self):
        self.stream = GaussianPairs()
        return self.stream.batches()

    def on_train_batch_end(self, *_):
        if self.global_step % (self.total_steps // 8) == 0:
            self.track.append(weights(self.network))


def weights(network: JointEmbedding) -> list[torch.Tensor]:
    linear = [network.backbone.weight]
    if isinstance(network.predictor, nn.Linear):
        linear.append(network.predictor.weight)
    return [w.detach().double().clone() for w in linear]


def network(target: str, predictor: bool = True) -> JointEmbedding:
    gen = torch.Generator().manual_seed(3)
    backbone = nn.Linear(INPUTS, OUTPUTS, bias=False)
    guess = nn.Linear(OUTPUTS, OUTPUTS, bias=False) if predictor else nn.Identity()
    with torch.no_grad():
        backbone.weight.copy_(torch.randn(OUTPUTS, INPUTS, generator=gen) / 4)
        if predictor:
            guess.weight.copy_(
                0.3 * torch.eye(OUTPUTS) + 0.05 * torch.randn(OUTPUTS, OUTPUTS, generator=gen)
            )
    projector = nn.Identity()
    targets = {
        "online": OnlineTarget,
        "stop": StopGradientTarget,
        # Moves by β = 0.5 a unit of time.
        "momentum": lambda: MomentumTarget(backbone, projector, 1 - 0.5 * RATE, "constant"),
    }
    return JointEmbedding(backbone, projector, guess, targets[target](), HalfSquare(), OUTPUTS)


def train(
    net: JointEmbedding,
    decay: float,
    predictor_rate: float,
    length: float,
    folder,
) -> list[list[torch.Tensor]]:
    """Train for so long, in the flow's time; return the weights at nine times."""
    settings = Optimizer(
        lr=RATE * 256 / BATCH,
        momentum=0.0,
        weight_decay=decay,
        schedule="constant",
        predictor_lr=predictor_rate,
    )
    steps = round(length / RATE)
    module = OnVectors(net, {"batch_size": BATCH}, settings, steps)
    module.track = [weights(net)]
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message="GPU available but not used")
        Trainer(
            accelerator="cpu",
            max_steps=steps,
            max_epochs=-1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            logger=False,
            default_root_dir=folder,
        ).fit(module)
    return module.track


def parameters(decay: float, predictor_rate: float, **options) -> NetworkParameters:
    one = torch.eye(INPUTS, dtype=torch.float64)
    # SGD scales weight decay by the rate, also that of the predictor.
    own = decay * predictor_rate
    return NetworkParameters(one, NOISE**2 * one, decay, predictor_rate, own, **options)


def eigenvalues(w: torch.Tensor) -> torch.Tensor:
    """Of F = W Wᵀ, largest last; the data have covariance I."""
    return torch.linalg.eigvalsh(w @ w.mT)


@pytest.mark.parametrize(
    ("target", "decay", "predictor_rate", "length"),
    [
        ("stop", 0.02, 1.0, 6.0),
        pytest.param("stop", 0.02, 1.0, 24.0, marks=pytest.mark.slow),
        pytest.param("stop", 0.0, 2.0, 16.0, marks=pytest.mark.slow),
        pytest.param("momentum", 0.02, 1.0, 16.0, marks=pytest.mark.slow),
    ],
)
def test_trained_networks_follow_the_flow(target, decay, predictor_rate, length, tmp_path):
    track = train(network(target), decay, predictor_rate, length, tmp_path)
    start = tuple(w[None] for w in track[0])
    moving = {"target_rate": 0.5} if target == "momentum" else {}
    at = parameters(decay, predictor_rate, **moving)
    if moving:
        start = (*start, start[0].clone())
    flow = integrate(matrix_rates(at), start, torch.linspace(0, length, 9).double())
    for i, (w, w_p) in enumerate(track):
        expected = eigenvalues(flow.states[0][i, 0])
        assert (eigenvalues(w) / expected - 1).abs().max() < 0.05, flow.times[i]
        # Predictors are not symmetric here: compare what they do, their singular values.
        found, expected = (torch.linalg.svdvals(x) for x in (w_p, flow.states[1][i, 0]))
        assert (found / expected - 1).abs().max() < 0.05, flow.times[i]
    # The comparison is not idle: modes have grown and moved apart from where they began.
    assert (eigenvalues(track[-1][0]) / eigenvalues(track[0][0])).max() > 1.3


def test_without_stop_gradient_trained_networks_die_as_the_flow_does(tmp_path):
    # Steps of a finite size fall behind the flow by a share that grows with time: 5 % at t = 8.
    track = train(network("online"), 0.02, 1.0, 4.0, tmp_path)
    at = parameters(0.02, 1.0)
    start = tuple(w[None] for w in track[0])
    times = torch.linspace(0, 4, 9).double()
    flow = integrate(no_stop_gradient_rates(at), start, times)
    for i, (w, _) in enumerate(track):
        expected = eigenvalues(flow.states[0][i, 0])
        assert (eigenvalues(w) / expected - 1).abs().max() < 0.05, times[i]
        # Theorem 2: no slower than λ_min(X') + η.
        bound = eigenvalues(track[0][0])[-1] * math.exp(-2 * collapse_rate(at) * float(times[i]))
        assert eigenvalues(w)[-1] < 1.02 * bound
    assert eigenvalues(track[-1][0])[-1] < 0.2 * eigenvalues(track[0][0])[-1]


@pytest.mark.slow
def test_without_predictor_trained_networks_die_by_the_augmentations(tmp_path):
    track = train(network("stop", predictor=False), 0.02, 1.0, 16.0, tmp_path)
    times = torch.linspace(0, 16, 9).double()
    flow = integrate(no_predictor_rates(parameters(0.02, 1.0)), (track[0][0][None],), times)
    for (w,), expected in zip(track, flow.states[0][:, 0], strict=True):
        assert (eigenvalues(w) / eigenvalues(expected) - 1).abs().max() < 0.05
