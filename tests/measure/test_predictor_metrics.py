from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.predictor import commutator_norm, eigenspace_alignment, symmetry
from fullrank.randomness import generator


def normal(*shape: int, key: str) -> Tensor:
    return torch.randn(*shape, generator=generator(0, "predictor", key), dtype=torch.float64)


def basis(d: int = 8, key: str = "basis") -> Tensor:
    return torch.linalg.qr(normal(d, d, key=key)).Q


def of(vectors: Tensor, values: Tensor) -> Tensor:
    return vectors @ values.to(vectors.dtype).diag() @ vectors.T


DECAY = torch.arange(1, 9, dtype=torch.float64) ** -1.0


def test_what_shares_eigenvectors_is_aligned_whatever_the_eigenvalues() -> None:
    q = basis()
    predictor = of(q, normal(8, key="values"))  # some negative: a reflection keeps the line
    found = eigenspace_alignment(predictor, of(q, DECAY))
    assert found.eigenvalues.tolist() == pytest.approx(DECAY.tolist())
    assert found.cosines.tolist() == pytest.approx([1] * 8)
    assert found.weighted == pytest.approx(1)
    assert commutator_norm(predictor, of(q, DECAY)) == pytest.approx(0, abs=1e-14)
    assert symmetry(predictor) == pytest.approx(1)


def test_cosines_are_those_of_single_eigenvectors() -> None:
    predictor, second_moment = normal(8, 8, key="W"), of(basis(), DECAY)
    found = eigenspace_alignment(predictor, second_moment)
    s, v = torch.linalg.eigh(second_moment)
    expected = torch.cosine_similarity(predictor @ v, v, dim=0).abs()
    assert found.cosines.tolist() == pytest.approx(expected.flip(0).tolist())
    assert found.weighted == pytest.approx(float((s * expected).sum() / s.sum()))
    # A predictor acts on columns: its transpose is another one.
    assert eigenspace_alignment(predictor.T, second_moment).weighted != pytest.approx(
        found.weighted
    )


def test_equal_eigenvalues_have_no_vectors_of_their_own() -> None:
    """Any basis of an eigenspace is as good: the cosine must not depend on which one comes out."""
    q = basis()
    values = torch.tensor([4.0, 2.0, 2.0, 2.0, 1.0, 0.0, 0.0, 0.0])
    predictor = normal(8, 8, key="W")
    block = q[:, 1:4]
    moved = predictor @ block
    expected = float((block.T @ moved).norm() / moved.norm())
    for seed in range(3):
        jitter = 1e-12 * normal(8, 8, key=f"jitter {seed}")  # picks the basis, and nothing else
        found = eigenspace_alignment(predictor, of(q, values) + jitter + jitter.T)
        assert found.cosines[1:4].tolist() == pytest.approx([expected] * 3)
        assert len(set(found.cosines[5:].tolist())) == 1
    rotated = q.clone()
    rotated[:, 1:4] = block @ basis(3, key="inside")
    again = eigenspace_alignment(predictor, of(rotated, values))
    assert again.weighted == pytest.approx(found.weighted)


def test_a_predictor_that_mixes_within_an_eigenspace_keeps_it() -> None:
    q = basis()
    values = torch.tensor([2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    inside = torch.block_diag(normal(3, 3, key="inside"), normal(5, 5, key="outside"))
    predictor = q @ inside @ q.T
    found = eigenspace_alignment(predictor, of(q, values))
    assert found.cosines.tolist() == pytest.approx([1] * 8)
    assert commutator_norm(predictor, of(q, values)) == pytest.approx(0, abs=1e-14)


def test_an_unrelated_predictor_reads_one_over_the_root_of_the_width() -> None:
    d = 400
    second_moment = of(basis(d), torch.arange(1, d + 1) ** -0.5)
    found = eigenspace_alignment(normal(d, d, key="unrelated"), second_moment)
    root_mean_square = float(found.cosines.square().mean().sqrt())
    assert root_mean_square == pytest.approx(1 / math.sqrt(d), rel=0.1)
    assert symmetry(normal(d, d, key="unrelated")) == pytest.approx(1 - math.sqrt(0.5), abs=0.01)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_symmetry_is_one_minus_the_antisymmetric_share(share: float) -> None:
    a = normal(8, 8, key="a")
    even, odd = (a + a.T) / (a + a.T).norm(), (a - a.T) / (a - a.T).norm()
    predictor = math.sqrt(1 - share**2) * even + share * odd
    assert symmetry(7 * predictor) == pytest.approx(1 - share)


def test_commutator_norm_has_its_bound_and_scales_as_it_says() -> None:
    f = torch.zeros(4, 4, dtype=torch.float64)
    w = f.clone()
    f[0, 0] = w[1, 0] = 1
    assert commutator_norm(w, f) == pytest.approx(0.5)  # the most for semidefinite F
    for seed in range(5):
        predictor = normal(8, 8, key=f"W {seed}")
        second_moment = of(basis(key=f"Q {seed}"), normal(8, key=f"s {seed}").square())
        raw = commutator_norm(predictor, second_moment, relative=False)
        bracket = predictor @ second_moment - second_moment @ predictor
        assert raw == pytest.approx(float(bracket.norm()))
        found = commutator_norm(1e-3 * predictor, 1e3 * second_moment)
        expected = raw / (2 * float(predictor.norm() * second_moment.norm()))
        assert found == pytest.approx(expected)
        assert 0 < found <= 0.5


def test_rotating_both_changes_nothing() -> None:
    predictor, second_moment, q = normal(8, 8, key="W"), of(basis(), DECAY), basis(key="turn")
    turned = q @ predictor @ q.T, q @ second_moment @ q.T
    once, again = eigenspace_alignment(predictor, second_moment), eigenspace_alignment(*turned)
    assert again.cosines.tolist() == pytest.approx(once.cosines.tolist())
    assert symmetry(turned[0]) == pytest.approx(symmetry(predictor))
    assert commutator_norm(*turned) == pytest.approx(commutator_norm(predictor, second_moment))


def test_alignment_rises_along_tians_linear_dynamics() -> None:
    """Theorem 3: with a symmetric predictor ``[F, W_p]`` decays; ``σ² = 0.3``, ``η = 0.05``."""
    w = of(basis(key="W0"), torch.linspace(0.4, 0.9, 8))
    f = of(basis(key="F0"), torch.linspace(0.3, 1.0, 8))
    before = eigenspace_alignment(w, f).weighted, commutator_norm(w, f)
    for _ in range(2000):

        def anti(a: Tensor, b: Tensor) -> Tensor:
            return a @ b + b @ a

        dw = -0.65 * anti(w, f) + f - 0.05 * w
        df = -1.3 * anti(w @ w, f) + anti(w, f) - 0.1 * f
        w, f = w + 0.01 * dw, f + 0.01 * df
    after = eigenspace_alignment(w, f).weighted, commutator_norm(w, f)
    assert after[0] > before[0]
    assert after[0] == pytest.approx(1, abs=1e-2)
    assert after[1] < 1e-2 * before[1]


def test_nothing_is_nan_of_zero() -> None:
    zero, some = torch.zeros(3, 3), torch.eye(3)
    assert eigenspace_alignment(zero, some).weighted == 0
    assert eigenspace_alignment(some, zero).weighted == 0
    assert symmetry(zero) == 1
    assert commutator_norm(zero, some) == commutator_norm(some, zero) == 0


def test_what_is_no_predictor_is_refused() -> None:
    with pytest.raises(UserError, match=r"shapes \[\(3, 4\)\]"):
        inspect.unwrap(symmetry)(torch.ones(3, 4))  # without the shape checks of the tests
    with pytest.raises(UserError, match="square, of one width"):
        inspect.unwrap(commutator_norm)(torch.ones(3, 3), torch.ones(4, 4))
    with pytest.raises(UserError, match="NaN or infinite"):
        symmetry(torch.full((2, 2), math.nan))
