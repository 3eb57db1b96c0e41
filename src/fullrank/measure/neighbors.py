"""Nearest neighbours by cosine, in chunks: no (test, train) matrix is ever held."""

from __future__ import annotations

import torch
from jaxtyping import Integer, Real
from torch import Tensor

from fullrank.errors import UserError, unknown_name
from fullrank.measure.moments import unit_rows

CHUNK = 1024


def knn_classify(
    train_x: Real[Tensor, "n d"],
    train_y: Integer[Tensor, " n"],
    test_x: Real[Tensor, "m d"],
    *,
    k: int = 20,
    weights: str = "uniform",
    temperature: float = 0.07,
) -> Integer[Tensor, " m"]:
    """Classify each test row by its ``k`` most similar training rows (cosine).

    A row that is exactly 0 has cosine 0 to every other. Products run in the rows' own precision,
    float32 at least, also under autocast.

    Args:
        train_x: training rows (n, d).
        train_y: their classes, integers >= 0, shape (n,).
        test_x: rows to classify (m, d).
        k: how many neighbours vote; 20 as in lightly and DINO.
        weights: ``"uniform"``: one vote each, ties to the smallest class, as in scikit-learn;
            ``"similarity"``: votes weigh ``exp(cosine / temperature)``.
        temperature: of the weights; 0.07 in Wu et al.

    Returns:
        The predicted classes (m,), int64.

    Raises:
        UserError: ``k`` below 1 or above ``n``, an unknown kind of weights, a temperature that is
            not positive, negative classes.

    References:
        Wu, Xiong, Yu and Lin 2018, "Unsupervised Feature Learning via Non-Parametric Instance
        Discrimination", section 3.4.
    """
    if weights not in ("uniform", "similarity"):
        raise unknown_name("weights", weights, ["uniform", "similarity"])
    if not 1 <= k <= len(train_x):
        raise UserError(f"k: {k} given; allowed: 1 to {len(train_x)}, the training rows.")
    if not temperature > 0:
        raise UserError(f"temperature: {temperature} given; allowed: above 0.")
    if bool((train_y < 0).any()):
        raise UserError(f"train_y: class {int(train_y.min())} given; allowed: 0 and above.")
    dtype = torch.promote_types(torch.promote_types(train_x.dtype, test_x.dtype), torch.float32)
    bank, _ = unit_rows(train_x.detach().to(dtype))
    classes = int(train_y.max()) + 1
    every_class = torch.arange(classes, device=train_y.device)
    labels = train_y.to(torch.int64)
    predicted = []
    for chunk in test_x.detach().split(CHUNK):
        query, _ = unit_rows(chunk.to(dtype))
        with torch.autocast(bank.device.type, enabled=False):
            cosine, index = (query @ bank.T).topk(k, dim=1)
        # Relative to the nearest, or a small temperature overflows.
        votes = (
            ((cosine - cosine[:, :1]) / temperature).exp()
            if weights == "similarity"
            else torch.ones_like(cosine)
        )
        tally = votes.new_zeros(len(chunk), classes).scatter_add_(1, labels[index], votes)
        # argmax promises nothing about ties; here the smallest class wins.
        winners = tally == tally.amax(1, keepdim=True)
        predicted.append(torch.where(winners, every_class, classes).amin(1))
    return torch.cat(predicted) if predicted else labels.new_zeros(0)
