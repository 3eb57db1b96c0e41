"""Options read group by group are those that one parser of all of them reads."""

from __future__ import annotations

import pytest

from fullrank.data.stream_settings import STREAMS
from fullrank.recipes.registry import recipes
from fullrank.train.resolve import Chosen, resolve, resolve_command_line


@pytest.mark.parametrize("preset", ["paper", "small"])
@pytest.mark.parametrize("name", list(recipes()))
def test_groups_have_the_defaults_of_the_parser_of_all(name, preset):
    chosen = Chosen.of({"recipe.name": name, "preset": preset})
    expected = chosen.parser().parse_object({}).as_dict()
    for group, values in chosen.groups().items():
        there = expected
        for part in group.name.split(".") if group.name else ():
            there = there[part]
        found = group.defaults(values)
        assert found.items() <= there.items(), group.name
        # 1 and 1.0 are equal, and are not the same in a file, of which an identity is the hash.
        assert repr(found) == repr({key: there[key] for key in found}), group.name
    names = {name for group in chosen.groups() for name in group.names()}
    assert names == {key for key, value in _leaves(expected)}


def _leaves(values, before=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


GIVEN = [
    {"optimizer.lr": 1, "checkup.size": 64, "probe.train": 100, "steps": 5, "precision": "32"},
    {"data.name": "shapes", "data.size": 24, "data.label": "shape", "data.limit": 500},
    {"backbone.name": "resnet18", "backbone.stem": "cifar", "epochs": 2},
    {"recipe.projector.hidden": 32, "recipe.views.size": 16, "batch_size": 64, "threads": 1},
    *({"data.stream.kind": kind} for kind in STREAMS),
]


@pytest.mark.parametrize("given", GIVEN, ids=lambda given: next(iter(given.items())))
@pytest.mark.parametrize("name", ["simsiam", "byol", "vicreg"])
def test_keywords_are_read_as_the_command_line_is(name, given):
    keywords = resolve({"recipe.name": name, "preset": "small"} | given)
    line = [name, "--preset=small", *(f"--{key}={value}" for key, value in given.items())]
    assert keywords == resolve_command_line(line)
    assert keywords.identity() == resolve_command_line(line).identity()


def test_what_is_returned_may_be_changed():
    group, values = next(iter(Chosen.of({}).groups().items()))
    group.defaults(values).clear()
    assert group.defaults(values)
