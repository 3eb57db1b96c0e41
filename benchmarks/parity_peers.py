"""Every peer's metrics, each beside fullrank's value under the peer's convention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fullrank.measure import spectrum
from fullrank.measure.intrinsic_dimension import dimension_of, twonn
from fullrank.measure.lidar import lidar
from fullrank.measure.moments import MomentState, moments_of
from fullrank.measure.spectra import spectra_of
from fullrank.measure.uniformity import uniformity
from parity_data import SINGLE, Data, Row, Sets


def reptrix_rows(sets: Sets) -> Iterator[Row]:
    from reptrix.alpha import get_alpha
    from reptrix.lidar import get_lidar
    from reptrix.rankme import get_rankme

    for data in (sets.isotropic, sets.offset, *sets.golden):
        yield Row(
            *("rankme", data, "get_rankme", float(get_rankme(data.x))),
            "Takes the entropy of the eigenvalues (squared singular values) of centred features; "
            "the paper's is of uncentred singular values.",
            float(spectrum.rankme(data.lambda_)),
        )
    for data in (sets.offset, *sets.golden):
        yield Row(
            *("alpha_req", data, "get_alpha", float(get_alpha(data.x)[0])),
            "Fits eigenvalues 10 to 99 (from 0); the authors of α-ReQ fit 3 to 99.",
            _alpha(data, 10, 100),
        )
    fit = np.arange(10, 100)
    first, second = (float(get_alpha(sets.offset.x, fit_range=fit)[0]) for _ in range(2))
    assert first != second
    yield Row(
        *("alpha_req", sets.offset, "get_alpha, same `fit_range` again", second),
        "Adds 1 to the caller's `fit_range` in place: the second call fits 11 to 100.",
        _alpha(sets.offset, 11, 101),
    )
    data, delta = sets.images, 1e-6
    n, q = data.state.count, data.state.views
    plain = lidar(data.state, delta / q)
    yield Row(
        *("lidar", data, "get_lidar", float(get_lidar(torch.stack(data.views, 1), n, q))),
        f"Runs a PCA over the LDA matrix, which centres it and squares its spectrum (without: "
        f"{plain:.4g}); adds δ = 1e-6 to a within-image scatter that is not divided by q.",
        _entropy_of_pca(data.state, delta / q),
    )


def _alpha(data: Data, start: int, end: int) -> float:
    found = spectrum.alpha_req(data.spectra.sigma, (start, end))
    assert found is not None
    return float(found)


def _entropy_of_pca(state: MomentState, delta: float) -> float:
    """RankMe of the eigenvalues of a PCA over the rows of LiDAR's matrix."""
    assert state.within is not None and state.between is not None
    lambda_, vectors = torch.linalg.eigh(state.within / state.rows)
    root = (vectors / (lambda_ + delta).sqrt()) @ vectors.T
    matrix = root @ (state.between / state.count) @ root
    return float(spectrum.rankme(moments_of(matrix).singular_values.square()))


def stable_pretraining_rows(sets: Sets) -> Iterator[Row]:
    from loguru import logger
    from stable_pretraining.callbacks.lidar import LiDAR
    from stable_pretraining.callbacks.queues import OrderedQueue
    from stable_pretraining.callbacks.rankme import RankMe

    logger.remove()
    logged: dict[str, float] = {}
    trainer = SimpleNamespace(global_rank=0)
    module = SimpleNamespace(log=lambda name, value, **_: logged.update({name: float(value)}))

    def called(callback: Any, queue: Tensor) -> float:
        callback._target_queue = SimpleNamespace(data=queue.float())  # its queue is float32
        callback.on_validation_batch_end(trainer, module, {}, {}, 0)
        return logged[callback.name]

    for data in (sets.isotropic, sets.offset, sets.line, *sets.golden):
        n, d = data.x.shape
        yield Row(
            *("rankme", data, "RankMe", called(RankMe("rankme", "x", n, d), data.x)),
            "Adds 1e-5 to each share; the paper adds 1e-7. Both uncentred.",
            float(spectrum.rankme(data.spectra.uncentred, 1e-5)),
            SINGLE,
        )
    data = sets.isotropic
    queue = OrderedQueue(100, data.x.shape[1], torch.float32)
    for batch in data.x.float().split(250):
        kept = queue.append(batch)
    yield Row(
        *("rankme", data, "RankMe, queue of 100", called(RankMe("rankme", "x", 100, 64), kept)),
        "Sees the last 100 rows alone: few rows read low.",
        float(spectrum.rankme(spectra_of(moments_of(data.x[-100:])).uncentred, 1e-5)),
        SINGLE,
    )
    data, delta = sets.images, 1e-4
    n, q, d = data.state.count, data.state.views, data.state.dim
    shares = "Divides the within-image scatter by q - 1 before it adds δ; ε = 1e-8."
    grouped = torch.stack(data.views, 1).flatten(0, 1)
    yield Row(
        *("lidar", data, "LiDAR, told of 400 images in order"),
        called(LiDAR("lidar", "x", n * q, d, n_classes=n, samples_per_class=q), grouped),
        shares,
        lidar(data.state, delta * (q - 1) / q, epsilon=0.0),
        SINGLE,
    )
    yield Row(
        *("lidar", data, "LiDAR, default 100 classes"),
        called(LiDAR("lidar", "x", n * q, d), grouped),
        f"Uses the first 100 images only, so that it cannot exceed 99. {shares}",
        lidar(moments_of(*(view[:100] for view in data.views)), delta * 0.9, epsilon=0.0),
        SINGLE,
    )
    by_view = torch.cat(data.views)
    groups = by_view.reshape(n, q, d).unbind(1)
    yield Row(
        *("lidar", data, "LiDAR, queue of one view after the other"),
        called(LiDAR("lidar", "x", n * q, d, n_classes=n, samples_per_class=q), by_view),
        "Takes 10 rows in a row for one image's views, and its methods queue `cat([view1, view2])`:"
        " groups of 10 different images, whose LiDAR is near the hard rank whatever the features.",
        lidar(moments_of(*groups), delta * 0.9, epsilon=0.0),
        SINGLE,
    )


def lightly_rows(sets: Sets) -> Iterator[Row]:
    from lightly.loss.hypersphere_loss import HypersphereLoss
    from lightly.utils.debug import std_of_l2_normalized

    for data in (sets.isotropic, sets.offset, *sets.golden):
        n, d = data.x.shape
        yield Row(
            *("normalised_std", data, "std_of_l2_normalized", float(std_of_l2_normalized(data.x))),
            "Not multiplied by √d, so that healthy is 1/√d; n - 1 in the variance.",
            data.value("normalised_std") * (n / (n - 1) / d) ** 0.5,
        )
    for data in (sets.isotropic, sets.offset):
        default, sharp = (float(HypersphereLoss(t=t)(data.x, data.x)) for t in (1.0, 2.0))
        yield Row("uniformity", data, "HypersphereLoss(t=2), equal views", sharp)
        yield Row(
            *("uniformity", data, "HypersphereLoss(), equal views", default),
            "t = 1 by default; the paper's and fullrank's is 2.",
            uniformity(data.x, t=1.0),
        )
    one, two = sets.pair.views
    yield Row(
        "alignment", sets.pair, "HypersphereLoss(lam=0)", float(HypersphereLoss(lam=0)(one, two))
    )


def scikit_dimension_rows(sets: Sets) -> Iterator[Row]:
    from skdim.id import TwoNN, lPCA
    from sklearn.neighbors import NearestNeighbors

    for data in (sets.isotropic, sets.offset, *sets.golden):
        found = float(lPCA(ver="participation_ratio").fit(data.x.numpy()).dimension_)
        yield Row("participation_ratio", data, "lPCA(ver='participation_ratio')", found)
    for data in (sets.plane, sets.isotropic):
        x = data.x.numpy()
        yield Row("twonn", data, "TwoNN(method='linear')", float(TwoNN().fit(x).dimension_))
        kept = int(len(x) * 0.9)
        yield Row(
            *("twonn", data, "TwoNN(method='mle')", float(TwoNN(method="mle").fit(x).dimension_)),
            "Maximum likelihood, (k - 1)/k of fullrank's `method='likelihood'` of the k ratios "
            "kept, which takes its bias off; the published estimate is the line.",
            twonn(data.x, method="likelihood").value * (kept - 1) / kept,
        )
    data = sets.doubled
    found = float(TwoNN().fit(data.x.numpy()).dimension_)
    yield Row(
        *("twonn", data, "TwoNN(method='linear')", found),
        "Leaves out all copies of a row that occurs twice; fullrank leaves out all but one, and "
        "takes no copy for a neighbour. A row nearest to both copies has the ratio 1 in the peer.",
        dimension_of(_ratios_among_copies(data.x)),
    )
    data = sets.doubled_wide
    found = float(TwoNN().fit(data.x.numpy()).dimension_)
    near = torch.from_numpy(NearestNeighbors(n_neighbors=2).fit(data.x.numpy()).kneighbors()[0])
    yield Row(
        *("twonn", data, "TwoNN(method='linear')", found),
        "Above 15 dimensions its neighbours come from inner products, which leave about 1e-8 "
        "between copies: many are not recognised, and have ratios of about 1e7.",
        dimension_of((near[:, 1] / near[:, 0]).log()),
    )


def _ratios_among_copies(x: Tensor) -> Tensor:
    """Logarithms of r_2 / r_1 where a copy counts as a neighbour, of the rows without copies."""
    near = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").sort(1).values[:, 1:3]
    return (near[:, 1] / near[:, 0])[near[:, 0] > 0].log()


def scikit_learn_rows(sets: Sets) -> Iterator[Row]:
    from sklearn.cross_decomposition import CCA
    from sklearn.decomposition import PCA

    for data in (sets.isotropic, sets.offset, *sets.golden):
        lambda_ = PCA().fit(data.x.numpy()).explained_variance_
        ratio = lambda_.sum() ** 2 / (lambda_**2).sum()
        yield Row("participation_ratio", data, "PCA, (Σλ)² / Σλ²", float(ratio))
        yield Row("stable_rank", data, "PCA, Σλ / λ_1", float(lambda_.sum() / lambda_[0]))
    data = sets.pair
    one, two = (view.numpy() for view in data.views)
    cca = CCA(n_components=8, max_iter=20_000, tol=1e-14)
    scores = cca.fit(one, two).transform(one, two)
    found = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(*(s.T for s in scores), strict=True)])
    yield Row("canonical_correlation", data, "CCA(8), mean correlation", float(found))


def scipy_rows(sets: Sets) -> Iterator[Row]:
    from scipy.linalg import svdvals
    from scipy.spatial.distance import pdist
    from scipy.special import hyp0f1
    from scipy.stats import entropy

    for data in (sets.isotropic, sets.offset, *sets.golden):
        x = data.x.numpy()
        whole, sigma = svdvals(x), svdvals(x - x.mean(0))
        shares = whole / whole.sum() + 1e-7
        rank = float(np.exp(-(shares * np.log(shares)).sum()))
        yield Row("rankme", data, "svdvals, exp entropy of σ / Σσ + 1e-7", rank)
        yield Row("effective_rank", data, "svdvals, stats.entropy", float(np.exp(entropy(sigma))))
    x = sets.isotropic.x.numpy()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    found = float(np.log(np.exp(-2 * pdist(unit, "sqeuclidean")).mean()))
    yield Row("uniformity", sets.isotropic, "spatial.distance.pdist", found)
    gap = found + 4 - float(np.log(hyp0f1(x.shape[1] / 2, 4)))
    yield Row("uniformity_gap", sets.isotropic, "pdist, special.hyp0f1", gap)


def numpy_rows(sets: Sets) -> Iterator[Row]:
    for data in (sets.isotropic, sets.offset, *sets.golden):
        x = data.x.numpy() - data.x.numpy().mean(0)
        sigma = np.linalg.svd(x, compute_uv=False)
        rank = int(np.linalg.matrix_rank(x, tol=1e-6 * sigma[0]))
        yield Row("hard_rank", data, "linalg.matrix_rank, tol=1e-6 σ_1", rank)
        yield Row("cev_auc", data, "svd, cumsum", float((sigma.cumsum() / sigma.sum()).mean()))
        j = np.arange(4, min(len(sigma), 100) + 1)
        line = np.polyfit(np.log(j), 2 * np.log(sigma[j - 1]), 1, w=j**-0.5)
        yield Row("alpha_req", data, "svd, polyfit(w=j^-½)", float(-line[0]))
    for data in (sets.isotropic, sets.offset):
        condition = float(np.linalg.cond(data.x.numpy() - data.x.numpy().mean(0)))
        yield Row("condition_number", data, "linalg.cond", condition)
        u = np.linalg.svd(data.x.numpy(), full_matrices=False)[0]
        leverage = float((u**2).sum(1).max() * len(u) / u.shape[1])
        yield Row("coherence", data, "svd, largest leverage", leverage)


def torchmetrics_rows(sets: Sets) -> Iterator[Row]:
    from torchmetrics.functional import pairwise_cosine_similarity

    for data in (sets.isotropic, sets.offset):
        n, d = data.x.shape
        total = float(pairwise_cosine_similarity(data.x, zero_diagonal=True).square().sum())
        found = (total / (n * (n - 1)) - 1 / d) / (1 - 1 / d)
        yield Row("self_cluster", data, "pairwise_cosine_similarity, by formula", found)


PEERS: dict[str, Callable[[Sets], Iterator[Row]]] = {
    "reptrix": reptrix_rows,
    "stable-pretraining": stable_pretraining_rows,
    "lightly": lightly_rows,
    "scikit-dimension": scikit_dimension_rows,
    "scikit-learn": scikit_learn_rows,
    "scipy": scipy_rows,
    "numpy": numpy_rows,
    "torchmetrics": torchmetrics_rows,
}
