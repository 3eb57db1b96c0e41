"""The options of a configuration, in groups: one dataclass of settings each.

A group's parser depends on its dataclass alone and is kept. So a grid of hundreds of points, most
of which differ in a value or two, is read without a parser for every choice of recipe and data.
"""

from __future__ import annotations

import contextlib
import copy
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any

from fullrank.errors import UserError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


@dataclass(frozen=True)
class Choice:
    """The option that chooses which settings a group has.

    Attributes:
        key: within the group, ``kind`` or ``name``.
        help: what may be chosen.
    """

    key: str
    help: str = field(compare=False)  # values are read alike whatever the text says


@dataclass(frozen=True)
class Group:
    """Some options: the fields of a dataclass.

    Attributes:
        name: what stands before the fields, dotted; "" for options without.
        settings: the dataclass; None for a choice alone.
        choice: an option that the dataclass has no field for.
        skip: fields that are no options.
    """

    name: str
    settings: type | None
    choice: Choice | None = None
    skip: frozenset[str] = frozenset()

    def dotted(self, key: str) -> str:
        """Return the whole name of an option."""
        return f"{self.name}.{key}" if self.name else key

    def add_to(self, parser: ArgumentParser, values: Mapping[str, Any]) -> None:
        """Add the options, with defaults: ``values``, and else those of the dataclass."""
        if self.choice is not None:
            name = f"--{self.dotted(self.choice.key)}"
            parser.add_argument(name, type=str, help=self.choice.help)
        if self.settings is not None:
            parser.add_class_arguments(
                self.settings, self.name or None, as_group=True, skip=set(self.skip)
            )
        parser.set_defaults({self.dotted(key): value for key, value in values.items()})

    def defaults(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what each option is where nothing is given: ``values``, or its field's default.

        As the types have it: 25 is 25.0 for a field of float, so that identities do not differ by
        where a value came from.
        """
        key = (self, repr(values))
        if key not in _SETTLED:
            if len(_SETTLED) >= 4096:
                _SETTLED.clear()
            every = _of_fields(self.settings) | dict(values)
            given = {self.dotted(k): v for k, v in every.items() if k not in self.skip}
            _SETTLED[key] = self.parse(given) if given else {}
        return copy.deepcopy(_SETTLED[key])

    def names(self) -> frozenset[str]:
        """Return the whole names of the options."""
        return option_names(_alone(self), [self])

    def nested(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values of the fields where they stand among all options."""
        found = dict(values)
        for part in reversed(self.name.split(".") if self.name else ()):
            found = {part: found}
        return found

    def parse(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Check values, by their whole names, against the types of the fields.

        Returns:
            What the group holds, by field.

        Raises:
            UserError: a value is of another type.
        """
        with parser_errors():
            parsed = _alone(self).parse_object(dict(given), defaults=False).as_dict()
        for part in self.name.split(".") if self.name else ():
            parsed = parsed[part]
        return dict(parsed)


# Defaults by group and what a recipe changes in them.
_SETTLED: dict[tuple[Group, str], dict[str, Any]] = {}


def _of_fields(settings: type | None) -> dict[str, Any]:
    """Return the defaults of the fields that have one."""
    found: dict[str, Any] = {}
    for one in fields(settings) if settings is not None else ():
        if one.default is not MISSING:
            found[one.name] = one.default
        elif one.default_factory is not MISSING:
            found[one.name] = one.default_factory()
    return found


@cache
def _alone(group: Group) -> ArgumentParser:
    """Return a parser of one group's options."""
    parser = new_parser()
    group.add_to(parser, {})
    return parser


def new_parser() -> ArgumentParser:
    """Return a parser without options."""
    from jsonargparse import ArgumentParser

    return ArgumentParser(prog="fullrank train", exit_on_error=False, add_help=False)


def option_names(parser: Any, groups: Iterable[Group]) -> frozenset[str]:
    """Return the whole names of the options of a parser of some groups."""
    options = {option for action in parser._actions for option in action.option_strings}
    # An option of a group's own name takes all of it at once.
    wholes = {"help", *(group.name for group in groups)}
    return frozenset({o.removeprefix("--") for o in options if o.startswith("--")} - wholes)


@contextlib.contextmanager
def parser_errors() -> Iterator[None]:
    """Turn what the parser refuses into a ``UserError``."""
    from jsonargparse import ArgumentError

    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    except (ArgumentError, TypeError, KeyError) as error:
        raise UserError(_in_words(str(error))) from None


def _in_words(message: str) -> str:
    """Shorten the parser's message about a value of the wrong type."""
    text = " ".join(message.removeprefix("Parser key ").split())
    named = re.match(r'"(?P<key>[\w.]+)":', text)
    given = re.search(r"(?:Got value|Given value): (?P<value>.*)$", text)
    types = re.findall(r"Expected a (?:<class '(\w+)'>|typing\.Literal(\[.*?\]))", text)
    if not (named and given and types):
        return text
    allowed = [a or "one of " + b.strip("[]") for a, b in types]
    allowed = ["none" if a == "NoneType" else a for a in allowed]
    return f"{named['key']}: {given['value']!r} is not allowed. Allowed: {' or '.join(allowed)}."
