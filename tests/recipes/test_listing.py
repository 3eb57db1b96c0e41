"""Recipes as text: the list, one recipe, and the difference of two."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fullrank.models.settings import FIELDS
from fullrank.models.settings.projector import MLPProjector
from fullrank.recipes.listing import as_data, compare, differences, list_recipes, show
from fullrank.recipes.recipe import Recipe
from fullrank.recipes.registry import recipe, recipes

ALL = list(recipes().values())


def test_the_list_names_every_recipe_under_its_family_once():
    lines = list_recipes().splitlines()
    for entry in ALL:
        place = [i for i, line in enumerate(lines) if line.startswith(f"  {entry.name} ")]
        assert len(place) == 1
        heading = next(line for line in reversed(lines[: place[0]]) if line[:1].strip())
        assert heading == entry.family


def test_the_list_as_data_holds_all_that_is_stated():
    listed = {entry["name"]: entry for entry in json.loads(list_recipes(as_json=True))}
    assert list(listed) == list(recipes())
    for name, entry in listed.items():
        assert set(entry["fields"]) == set(entry["small"]["fields"]) == set(FIELDS)
        assert {a["name"] for a in entry["ablations"]} == {
            a.name for a in recipes()[name].ablations
        }
        assert all(a["predicts"] for a in entry["ablations"])


@pytest.mark.parametrize("entry", ALL, ids=lambda r: r.name)
def test_one_recipe_shows_fields_equations_mechanisms_and_ablations(entry: Recipe):
    text = show(entry.name)
    for name in FIELDS:
        assert getattr(entry, name).describe() in text
    for line in (*entry.equations, *(p.mechanism for p in entry.prevents)):
        assert line in text
    assert all(f"/{v.name}" in text for v in (*entry.variants, *entry.ablations))
    assert "(taken out)" not in text


@pytest.mark.parametrize("entry", ALL, ids=lambda r: r.name)
def test_the_sides_of_the_diagram_meet(entry: Recipe):
    above, between, below = show(entry.name).splitlines()[2:5]
    assert above.index("┬") == between.index("│") == below.index("└")
    assert above.rindex("┐") == between.index("├") == below.rindex("┘")


def test_an_ablation_shows_what_was_taken_out():
    assert show("simsiam/without-predictor").count("(taken out)") == 2


def test_a_recipe_does_not_differ_from_itself():
    assert dict(differences(recipe("byol"), recipe("byol"))) == {}
    assert "*" not in compare("byol", "byol")


def test_a_difference_is_what_was_changed():
    wide = replace(recipe("simsiam"), projector=MLPProjector(2048, 4096, 3, "batch"))
    assert dict(differences(recipe("simsiam"), wide)) == {"projector.out": [2048, 4096]}


def test_a_comparison_marks_the_fields_that_differ():
    marked = [line.split()[1] for line in compare("simsiam", "byol").splitlines() if line[0] == "*"]
    expected = [f for f in FIELDS if getattr(recipe("simsiam"), f) != getattr(recipe("byol"), f)]
    assert marked == [*expected, "training"]
    found = json.loads(compare("simsiam", "byol", as_json=True))
    assert found["recipes"] == ["simsiam", "byol"]
    assert found["differences"]["projector.out"] == [2048, 256]
    assert found["differences"]["target.tau"] == [None, 0.996]


def test_the_form_of_a_recipe_under_the_small_preset_is_listed_too():
    small = as_data(recipe("byol"))["small"]
    assert small["fields"]["projector"] == recipe("byol").preset("small").projector.to_dict()
