"""The page of an explanation shows every cell, its prediction and the theory, offline and safe."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import NAMES, Chromium, browser, executable

from fullrank.diagnose.theory_of import theory_of
from fullrank.errors import UserError
from fullrank.recipes.registry import recipe
from fullrank.report.explanation_cells import HEIGHT, WIDTH, card, curve, groups, interval, tally
from fullrank.report.explanation_page import context, render_explanation, write_explanation
from fullrank.report.explanation_tracks import follow

ATTACK = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"


def about(value):
    return {"mean": value, "low": 0.9 * value, "high": 1.1 * value}


def cell(label, kind, predicted, factors=None, agreement="agrees", **more):
    spectrum = [(j + 1) ** -1.5 for j in range(32)]
    run = {"seed": 0, "folder": "runs/gone", "error": None, "embedding": {"spectrum": spectrum}}
    return {
        "id": label.replace(" ", "-"),
        "label": label,
        "factors": factors or {},
        "merged": [],
        "predicted": {"kind": predicted, "by": "Theorem 2" if predicted else None, "text": "why"},
        "runs": [run],
        "measured": {
            "kind": kind,
            "counts": {kind: 3},
            "spread": about(0.5),
            "effective_rank": about(20.0),
            "cev_auc": about(0.7),
            "knn_gain": about(0.03),
            "linear_gain": about(0.05),
        },
        "agreement": agreement,
        **more,
    }


def explanation(name="simsiam", cells=None):
    chosen = recipe(name).preset("small")
    if cells is None:
        cells = [
            cell("as published", "healthy", "healthy", published=True),
            cell("without-stop-gradient", "dimensional collapse", "complete collapse"),
        ]
        cells[1]["agreement"] = "differs"
        for target in ("stop-gradient", "momentum"):
            for norm in ("output batch norm", "no output norm"):
                factors = {"target": target, "output_norm": norm, "predictor": "linear"}
                cells.append(cell(f"linear {target} {norm}", "healthy", None, factors))
                cells[-1]["agreement"] = "no prediction"
    return {
        "recipe": name,
        "title": chosen.title,
        "paper": str(chosen.paper),
        "scale": "cpu",
        "quick": False,
        "seeds": [0, 1, 2],
        "settings": {"data": "fashion-mnist", "steps": 120},
        "environment": {"torch": "2"},
        "seconds": 600.0,
        "diagram": chosen.diagram("conv4"),
        "prevents": [{"mechanism": p.mechanism, "collapse": p.collapse} for p in chosen.standing()],
        "theory": theory_of(chosen, 128, 256),
        "cells": cells,
    }


@pytest.fixture(scope="module")
def found():
    return explanation()


def test_every_cell_is_on_the_page_once_with_its_prediction_and_agreement(found):
    page = render_explanation(found)
    for one in found["cells"]:
        assert page.count(f'id="cell-{one["id"]}"') == 1
    assert "Theorem 2" in page and "no theory speaks about it" in page
    shown = context(found)
    assert [c["label"] for c in shown["named"]] == ["as published", "without-stop-gradient"]
    assert sum(len(group["cards"]) for group in shown["groups"]) == 4
    assert shown["named"][1]["mark"] != shown["named"][0]["mark"]


def test_theory_alone_is_a_page_with_what_the_ablations_papers_predict():
    for name in ("simclr", "vicreg", "swav"):
        found = explanation(name, cells=[])
        page = render_explanation(found)
        for statement in found["theory"]["statements"]:
            assert statement["title"] in page
        for ablation in recipe(name).ablations:
            assert f"{name}/{ablation.name}" in page


@pytest.mark.parametrize("powers", [0.5, 2.0, 40.0])
def test_small_spectra_stay_in_their_box_and_fall(powers):
    drawn = curve([(j + 1) ** -powers for j in range(128)])
    points = [tuple(map(float, pair.split(","))) for pair in drawn.split()]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert [y for _, y in points] == sorted(y for _, y in points)
    assert points[0] == (0.0, 0.0) and points[-1][0] == WIDTH


def test_small_spectra_of_nothing_are_empty():
    assert curve([]) == curve([1.0]) == curve([0.0, 0.0]) == ""


def test_intervals_and_counts_are_written_as_they_are():
    assert interval({"mean": 0.5, "low": 0.4, "high": 0.6}) == "0.500 (0.400 to 0.600)"
    assert interval({"mean": 0.03, "low": None, "high": None}, 100) == "3.00"
    assert interval(None) == ""
    split = cell("x", "healthy", "healthy")
    split["measured"]["counts"] = {"healthy": 2, "complete collapse": 1}
    assert card(split)["split"] == "2 healthy, 1 complete collapse"
    assert tally([split, split]) == {"agrees": 2}
    assert groups([split]) == []


def event(step, variances, matched=None, overlap=None, until=None):
    n = len(variances)
    return {
        "step": step,
        "until": until,
        "variance": variances,
        "p": [0.1] * n,
        "expected": [math.log(2)] * n,
        "matched": matched,
        "overlap": overlap,
    }


def test_modes_are_followed_by_their_directions_not_by_their_rank():
    followed = follow(
        [
            event(0, [3.0, 2.0], until=10),
            event(10, [5.0, 4.0], matched=[1, 0], overlap=[0.9, 0.95], until=20),
            event(20, [6.0, 1.0], matched=[0, 1], overlap=[0.9, 0.1]),
        ]
    )
    assert [[point["s"] for point in track] for track in followed] == [[2.0, 5.0, 6.0], [3.0, 4.0]]
    assert followed[0][0]["expected"] == pytest.approx(4.0)
    assert followed[0][0]["until"] == 10


def test_what_is_no_explanation_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        write_explanation(tmp_path)
    (tmp_path / "explanation.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        write_explanation(tmp_path)
    (tmp_path / "explanation.json").write_text("[]")
    with pytest.raises(UserError, match="no explanation"):
        write_explanation(tmp_path)


needs_browser = pytest.mark.skipif(
    executable() is None,
    reason=f"needs a browser: install Debian's package 'chromium' (looked for {', '.join(NAMES)})",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    program = executable()
    assert program is not None
    with browser(program) as started:
        yield started


@needs_browser
def test_chromium_draws_it_at_every_width_and_runs_nothing_of_its_texts(
    chromium: Chromium, tmp_path: Path, found
):
    found = copy.deepcopy(found)
    found["cells"][0]["label"] = found["cells"][0]["predicted"]["text"] = ATTACK
    (tmp_path / "explanation.json").write_text(json.dumps(found))
    page = write_explanation(tmp_path)
    assert re.search(r"https?://(?!arxiv|www\.w3\.org|plot)", page.read_text()[:4000]) is None
    every = "[...document.querySelectorAll('[data-figure]')]"
    with chromium.open(page) as visit:
        assert visit.evaluate(f"{every}.length") >= 2
        assert visit.evaluate(f"{every}.every(p => p.querySelector('.js-line, .point, image'))")
        for width, scheme in ((1200, "light"), (390, "dark")):
            visit.show(width, scheme)
            wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
            assert visit.evaluate(wide)
        assert not visit.evaluate("'hacked' in window")
