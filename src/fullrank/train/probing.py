"""Probes of a backbone with labels: how much a frozen representation says about the classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fullrank.data.augment import prepare
from fullrank.data.settings import Augmentation
from fullrank.data.shapes import Factors
from fullrank.data.sources import Images, Source
from fullrank.measure.probe import factor_probe, knn_probe, linear_probe
from fullrank.models.joint_embedding import JointEmbedding
from fullrank.monitor.checkup import evaluating
from fullrank.randomness import generator
from fullrank.train.config import ProbeSettings


class Prober:
    """Probes networks on fixed labelled images, un-augmented, in eval mode.

    Args:
        source: the data set; probes are fitted on its training images and scored on its test
            images, both drawn with a fixed permutation where there are more than asked for.
        view: size and normalisation of the images.
        settings: sizes and kinds of the probes.
        device: where features are computed.
    """

    def __init__(
        self, source: Source, view: Augmentation, settings: ProbeSettings, device: torch.device
    ) -> None:
        self.view, self.settings, self.device = view, settings, device
        self.train = _labelled(source.train, settings.train)
        self.test = _labelled(source.test, settings.test)
        self.sets = (source.train, source.test)
        self.factors: tuple[Factors, Factors] | None = None
        if source.train.factors is not None and source.test.factors is not None:
            self.factors = (
                Factors.of(source.train.factors, self.train),
                Factors.of(source.test.factors, self.test),
            )

    @staticmethod
    def possible(source: Source) -> bool:
        """Say whether both splits have labels of two or more classes."""
        labels = [_labels(images) for images in (source.train, source.test)]
        return all(len(y) > 0 for y in labels) and len(labels[0].unique()) > 1

    def features(self, network: JointEmbedding, images: Images, chosen: Tensor) -> Tensor:
        """Return the backbone's features of some images, float32 ``(n, d)`` on the CPU."""
        parts = []
        with evaluating(network):
            for part in chosen.split(500):
                pixels = images.read(part, self.view.size).to(self.device)
                view = prepare(pixels, self.view.size, self.view.mean, self.view.std)
                parts.append(network.backbone(view).flatten(1).float().cpu())
        return torch.cat(parts)

    def __call__(self, network: JointEmbedding) -> dict[str, Any]:
        """Return kNN and linear accuracy with their 95 % intervals, and the conditions.

        Where images were made from known factors, also R² of the continuous ones.
        """
        train_x = self.features(network, self.sets[0], self.train)
        test_x = self.features(network, self.sets[1], self.test)
        data = (
            train_x,
            self.sets[0].labels_of(self.train),
            test_x,
            self.sets[1].labels_of(self.test),
        )
        k = min(self.settings.k, len(train_x))
        knn = knn_probe(*data, k=k)
        result = {
            "layer": "backbone",
            "k": k,
            "n_train": knn.n_train,
            "n_test": knn.n_test,
            "knn": knn.accuracy,
            "knn_interval": [knn.low, knn.high],
        }
        if self.settings.linear != "none":
            ridge = linear_probe(*data, kind=self.settings.linear)
            result |= {
                "linear": ridge.accuracy,
                "linear_interval": [ridge.low, ridge.high],
                "linear_kind": ridge.kind,
            }
        if self.factors is not None:
            result |= self._factors(train_x, test_x)
        return result

    def _factors(self, train_x: Tensor, test_x: Tensor) -> dict[str, Any]:
        """Return how well each factor that images were made from can be read linearly."""
        assert self.factors is not None
        train, test = self.factors
        found = factor_probe(train_x, train.continuous, test_x, test.continuous)
        named = {
            name: linear_probe(train_x, labels, test_x, test.discrete[name]).accuracy
            for name, labels in train.discrete.items()
        }
        return {"factors": found | named, "factors_r2": sum(found.values()) / len(found)}


def _labels(images: Images) -> Tensor:
    """Return the labels of all images that have one."""
    labels = images.labels_of(torch.arange(len(images)))
    return torch.empty(0, dtype=torch.int64) if labels is None else labels[labels >= 0]


def _labelled(images: Images, at_most: int) -> Tensor:
    """Return at most so many labelled images, by a fixed permutation."""
    order = torch.randperm(len(images), generator=generator(0, "probe"))
    labels = images.labels_of(order)
    if labels is None:
        return order[:0]
    return order[labels >= 0][:at_most]
