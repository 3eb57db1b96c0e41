from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.clusters import (
    assignment_information,
    prototypes_used,
    teacher_entropy,
    teacher_student_kl,
)
from fullrank.randomness import generator

K = 12


def soft(key: str, n: int = 50) -> Tensor:
    logits = torch.randn(n, K, generator=generator(0, key), dtype=torch.float64) * 2
    return logits.softmax(1)


def test_equal_to_scipy() -> None:
    p, q = soft("teacher"), soft("student")
    assert teacher_entropy(p) == pytest.approx(entropy(p.numpy(), axis=1).mean())
    assert teacher_student_kl(p, q) == pytest.approx(entropy(p.numpy(), q.numpy(), axis=1).mean())
    information = entropy(p.mean(0).numpy()) - entropy(p.numpy(), axis=1).mean()
    assert assignment_information(p) == pytest.approx(information)
    # It is the mean divergence of each image's assignment from the mean one.
    mean = p.mean(0).expand_as(p)
    assert assignment_information(p) == pytest.approx(teacher_student_kl(p, mean))


def test_shares_of_log_k() -> None:
    p, q = soft("teacher"), soft("student")
    assert teacher_entropy(p, normalised=True) == pytest.approx(teacher_entropy(p) / math.log(K))
    kl = teacher_student_kl(p, q, normalised=True)
    assert kl == pytest.approx(teacher_student_kl(p, q) / math.log(K))
    shared = assignment_information(p, normalised=True)
    assert shared == pytest.approx(assignment_information(p) / math.log(K))
    assert prototypes_used(p, normalised=True) == prototypes_used(p) / K
    alone = torch.ones(5, 1)
    assert teacher_entropy(alone, normalised=True) == 0
    assert assignment_information(alone, normalised=True) == 0
    assert prototypes_used(alone, normalised=True) == 1


def test_both_collapses_of_prototypes_carry_no_information() -> None:
    one, alike = torch.eye(K)[3].repeat(40, 1), torch.full((40, K), 1 / K)
    assert teacher_entropy(one) == 0
    assert teacher_entropy(alike) == pytest.approx(math.log(K))
    for p in (one, alike):
        assert assignment_information(p) == pytest.approx(0, abs=1e-12)
        assert teacher_student_kl(p, p) == 0
        assert prototypes_used(p) == 1


def test_sure_and_equal_shares_carry_log_k() -> None:
    p = torch.eye(K).repeat(5, 1)
    assert teacher_entropy(p) == 0
    assert assignment_information(p) == pytest.approx(math.log(K))
    assert prototypes_used(p) == K


def test_hard_assignments_are_one_hot_probabilities() -> None:
    hard = torch.randint(0, K - 2, (30,), generator=generator(0, "hard"))
    p = torch.nn.functional.one_hot(hard, K).float()
    assert assignment_information(hard, K) == pytest.approx(assignment_information(p))
    assert assignment_information(hard, K) == pytest.approx(mutual_info_score(hard, hard))
    assert prototypes_used(hard, K) == prototypes_used(p) == len(np.unique(hard))


def test_a_student_that_rules_out_what_the_teacher_says_is_infinitely_far() -> None:
    assert teacher_student_kl(torch.eye(2), torch.eye(2).flip(0)) == math.inf


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_renormalised(dtype: torch.dtype) -> None:
    p = soft("teacher").to(dtype)
    assert teacher_entropy(p) == pytest.approx(teacher_entropy(soft("teacher")), rel=5e-3)


def test_bad_input_is_refused() -> None:
    for bad in (soft("teacher") * 2, soft("teacher") - 0.1, soft("teacher") * torch.nan):
        with pytest.raises(UserError, match="not probabilities"):
            teacher_entropy(bad)
    with pytest.raises(UserError, match="both must be the same"):
        teacher_student_kl(soft("teacher"), soft("student")[:1])
    with pytest.raises(UserError, match="at least one row"):
        teacher_entropy(torch.ones(0, 3))
    with pytest.raises(UserError, match=r"^k: None given"):
        prototypes_used(torch.tensor([0, 1]))
    with pytest.raises(UserError, match=r"^k: 3 given; the probabilities have 12 columns"):
        prototypes_used(soft("teacher"), 3)
    with pytest.raises(UserError, match="0 to 5 given; allowed: 0 to 4"):
        assignment_information(torch.tensor([0, 5]), 5)
    with pytest.raises(UserError, match="none given"):
        prototypes_used(torch.zeros(0, dtype=torch.int64), 5)
