import math
import re

import pytest

from fullrank.experiments.cells import cells
from fullrank.experiments.factorial import Factors, merged
from fullrank.experiments.predicted import largest_noise, of_factors
from fullrank.recipes.registry import recipe, recipes

KINDS = {"healthy", "complete collapse", "dimensional collapse", "cluster collapse"}


def by_id(name):
    return {c.id: c.predicted for c in cells(name)}


def test_without_stop_gradient_or_predictor_everything_collapses():
    for factors in merged():
        if factors.constant_target and factors.predictor != "none":
            continue
        found = of_factors(factors, 0.01)
        # Behind an output batch norm no scale and no mean can be lost.
        expected = "dimensional collapse" if factors.output_norm else "complete collapse"
        assert found.kind == expected, factors
        if factors.predictor != "mlp":
            assert "Tian et al. 2021, Theorem 2" in found.by


def test_no_cell_with_predictor_and_constant_target_is_predicted_to_collapse():
    for factors in merged():
        if factors.constant_target and factors.predictor != "none":
            assert of_factors(factors, 0.01).kind in ("healthy", None)


def test_a_theory_is_silent_where_none_speaks():
    odd = of_factors(Factors("mlp", True, False, "encoder", True), 0.01)
    assert odd.kind is None and odd.by is None and "No theory" in odd.text


@pytest.mark.parametrize("name", list(recipes()))
def test_every_kind_has_its_source_and_every_cell_its_words(name):
    for cell in cells(name):
        found = cell.predicted
        assert found.kind in KINDS | {None}
        assert (found.by is None) == (found.kind is None)
        assert found.by is None or re.search(r"\b(19|20)\d\d\b", found.by), found.by
        assert found.text


def test_the_two_by_two_of_the_symmetric_predictor():
    found = by_id("byol")
    kinds = {
        "symmetric.stop-gradient": "complete collapse",
        "symmetric.momentum": "healthy",
        "symmetric.stop-gradient.rescued": "healthy",
        "linear.stop-gradient.decay-both.no-norm": "healthy",
        "linear.momentum.decay-both.no-norm": "healthy",
    }
    assert {name: found[name].kind for name in kinds} == kinds


def test_ablations_speak_for_methods_without_a_factorial():
    assert by_id("vicreg")["without-covariance"].kind == "dimensional collapse"
    assert by_id("vicreg")["without-variance"].kind == "complete collapse"
    assert by_id("vicreg")["without-invariance"].kind == "healthy"
    assert by_id("barlow-twins")["without-off-diagonal"].by == "Jha et al. 2024"
    assert by_id("wmse")["without-whitening"].by == "Ermolov et al. 2021, abstract"
    assert by_id("dino")["without-centring"].kind == "cluster collapse"
    assert by_id("simclr")["linear-projector"].kind is None
    for name in ("simclr", "swav", "dino"):
        own = next(c.predicted for c in cells(name) if c.published)
        assert own.kind == "healthy" and recipe(name).paper.authors in own.by


def test_the_largest_noise_is_where_the_fixed_points_meet():
    # tau² - 4 eta (1 + sigma²) = 0 (Tian et al. 2021, Eq. 15; checked there: eta .1 gives 1.5).
    assert largest_noise(0.1) == pytest.approx(1.5)
    for eta, tau in ((0.01, 1.0), (0.05, 0.7), (0.2, 0.9)):
        noise = largest_noise(eta, tau)
        inside = math.fsum((tau**2, -4 * eta * (1 + noise)))
        assert inside == pytest.approx(0.0, abs=1e-12)
