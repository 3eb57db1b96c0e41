"""The handwritten digits that come with scikit-learn: 8x8, grey, 1797 images."""

from __future__ import annotations

import torch

from fullrank.data.settings import DataSettings
from fullrank.data.sources import Images, Source, in_memory

TEST = 500


def load(settings: DataSettings) -> Source:
    """Load the digits, split once and for all into 1297 to train and 500 to test.

    The split is stratified by class. Pixels, 0 to 16 in scikit-learn, are scaled to 0 to 255.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = torch.from_numpy(bunch.images * (255 / 16)).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(bunch.target).long()
    train, test = (
        torch.from_numpy(part).long()
        for part in train_test_split(
            torch.arange(len(labels)).numpy(),
            test_size=TEST,
            stratify=bunch.target,
            random_state=0,
        )
    )
    return in_memory(
        settings,
        Images(images[train], labels[train]),
        Images(images[test], labels[test]),
        tuple(str(k) for k in range(10)),
    )
