"""From what a user gave (a command line, keywords, YAML) to a resolved configuration.

Which options exist depends on choices: ``--recipe.predictor.hidden`` is there if the predictor is
an MLP. The choices are read first, from all sources; then a parser is made for exactly these
options, typed by the settings' dataclasses, with the chosen recipe's values as defaults.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from fullrank.data.settings import DataSettings, data_family
from fullrank.data.stream_settings import IID, STREAMS, stream_of
from fullrank.errors import UserError, unknown_name
from fullrank.models.settings import FIELDS, Part
from fullrank.models.settings.backbone import backbone_type
from fullrank.recipes.recipe import Recipe
from fullrank.recipes.registry import recipe as find_recipe
from fullrank.recipes.training import Optimizer
from fullrank.train.config import CheckupSettings, Config, ProbeSettings, RunSettings
from fullrank.train.options import Choice, Group, new_parser, option_names, parser_errors

# Groups that a plain word chooses a member of, and the key that the word is short for.
CHOICES = {
    "recipe": "name",
    **{f"recipe.{f}": "kind" for f in FIELDS},
    "data": "name",
    "data.stream": "kind",
    "backbone": "name",
}
DEFAULTS = {"recipe.name": "simsiam", "data.name": "fashion-mnist", "backbone.name": "conv4"}


def flatten(given: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values; ``{"data": "digits"}`` gives ``("data.name", "digits")``."""
    for key, value in given.items():
        dotted = prefix + str(key)
        if isinstance(value, Mapping):
            yield from flatten(value, dotted + ".")
        elif dotted in CHOICES:
            yield f"{dotted}.{CHOICES[dotted]}", value
        else:
            yield dotted, str(value) if isinstance(value, Path) else value


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a configuration file; errors name the file."""
    try:
        given = yaml.safe_load(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"config: {path} cannot be read ({error.strerror}).") from error
    except yaml.YAMLError as error:
        raise UserError(f"config: {path} is not valid YAML: {error}.") from error
    if not isinstance(given, dict):
        raise UserError(f"config: {path} holds {type(given).__name__}. Allowed: a mapping of keys.")
    return given


@dataclass(frozen=True)
class Chosen:
    """The members of all groups, with the values that stand before the user's own."""

    recipe: Recipe
    parts: dict[str, Part]
    data: DataSettings
    backbone_name: str
    backbone: Any

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Chosen:
        """Read the choices from dotted keys.

        Raises:
            UserError: a name is not known.
        """
        picked = DEFAULTS | {k: v for k, v in given.items() if v is not None}
        preset = str(picked.get("preset", "paper"))
        recipe = find_recipe(str(picked["recipe.name"])).preset(preset)
        parts = {}
        for name in FIELDS:
            kinds, part = recipe.kinds(name), getattr(recipe, name)
            kind = str(picked.get(f"recipe.{name}.kind", part.kind))
            if kind not in kinds:
                raise unknown_name(f"recipe.{name}", kind, kinds)
            parts[name] = part if kind == part.kind else kinds[kind]()
        if given.get("preset") == "paper" and given.get("backbone.name") is None:
            picked["backbone.name"] = recipe.training.backbone  # the whole protocol was asked for
        full, backbone = backbone_type(str(picked["backbone.name"]))
        stream = stream_of(str(picked.get("data.stream.kind", IID.kind)))
        data = DataSettings(name=str(picked["data.name"]), stream=stream)
        data_family(data.name)
        return cls(recipe, parts, data, full, backbone)

    def groups(self) -> dict[Group, dict[str, Any]]:
        """Return exactly the options that these choices have, with what stands before a user's."""
        own = {k: v for k, v in self.data.to_dict().items() if k != "stream"}
        stream, training = self.data.stream, self.recipe.training
        orders = Choice("kind", f"one of: {', '.join(STREAMS)}")
        return {
            Group("recipe", None, Choice("name", "the method")): {"name": self.recipe.name},
            **{
                Group(f"recipe.{name}", type(part), self._kinds(name)): part.to_dict()
                for name, part in self.parts.items()
            },
            Group("data", DataSettings, skip=frozenset({"stream"})): own,
            Group("data.stream", type(stream), orders): stream.to_dict(),
            Group("backbone", self.backbone): {"name": self.backbone_name},
            Group("optimizer", Optimizer): asdict(training.optimizer),
            Group("checkup", CheckupSettings): {},
            Group("probe", ProbeSettings): {},
            Group("", RunSettings): {"batch_size": training.batch_size},
        }

    def _kinds(self, part: str) -> Choice:
        return Choice("kind", f"one of: {', '.join(self.recipe.kinds(part))}")

    def parser(self) -> Any:
        """Make the parser of all options, for a command line."""
        parser = new_parser()
        for group, values in self.groups().items():
            group.add_to(parser, values)
        return parser

    def config(self, values: Mapping[str, Any]) -> Config:
        """Make the configuration of parsed values.

        Raises:
            UserError: a value is out of range, or the choices contradict each other.
        """
        parts: dict[str, Any] = {}
        for name, part in self.parts.items():
            settings = {k: v for k, v in values["recipe"][name].items() if k != "kind"}
            parts[name] = type(part)(**settings)
        recipe = replace(self.recipe, **parts)
        ordered = {k: v for k, v in values["data"]["stream"].items() if k != "kind"}
        data = values["data"] | {"stream": type(self.data.stream)(**ordered)}
        top = {k: v for k, v in values.items() if not isinstance(v, Mapping)}
        if top["steps"] is None and top["epochs"] is None:
            top["epochs"] = float(self.recipe.training.epochs)
        config = Config(
            recipe=recipe,
            data=DataSettings(**data),
            backbone=self.backbone(**values["backbone"]),
            optimizer=Optimizer(**values["optimizer"]),
            checkup=CheckupSettings(**values["checkup"]),
            probe=ProbeSettings(**values["probe"]),
            run=RunSettings(**top),
        )
        recipe.check(config.run.batch_size)
        return config


def _unknown_option(key: str, known: Sequence[str]) -> UserError:
    listing = "`fullrank train RECIPE --help` lists all options."
    group = key.rpartition(".")[0]
    if group in CHOICES and group != "recipe":
        own = [k.rpartition(".")[2] for k in known if k.startswith(f"{group}.")]
        own = [name for name in own if name != CHOICES[group]]
        listing = f"As chosen, {group} takes {', '.join(own) or 'no options'}."
    return unknown_name("option", f"--{key}", [f"--{k}" for k in known], listing)


def resolve(given: Mapping[str, Any]) -> Config:
    """Resolve nested or dotted keywords, or what a YAML file held.

    Raises:
        UserError: a key is unknown (the nearest is given), a value has the wrong type or range,
            or the choices contradict each other.
    """
    flat = dict(flatten(given))
    chosen = Chosen.of(flat)
    flat.pop("preset", None)
    if "backbone.name" in flat:
        flat["backbone.name"] = chosen.backbone_name
    groups = chosen.groups()
    of = {name: group for group in groups for name in group.names()}
    given_to: dict[Group, dict[str, Any]] = {}
    for key, value in flat.items():
        if key not in of:
            raise _unknown_option(key, sorted(of))
        given_to.setdefault(of[key], {})[key] = value
    values: dict[str, Any] = {}
    for group, defaults in groups.items():
        own = group.defaults(defaults)
        if group in given_to:
            own = _merged(own, group.parse(given_to[group]))
        values = _merged(values, group.nested(own))
    return chosen.config(values)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values with those of ``above`` in place of the same ones ``below``."""
    merged = dict(below)
    for key, value in above.items():
        inner = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if inner else value
    return merged


def resolve_command_line(arguments: Sequence[str]) -> Config:
    """Resolve the arguments of ``fullrank train``, without ``--help`` and ``--print_config``.

    Raises:
        UserError: as :func:`resolve`.
    """
    flat, tokens = _read_tokens(arguments)
    chosen = Chosen.of(flat)
    parser = chosen.parser()
    known = sorted(option_names(parser, chosen.groups()))
    from_files = {k: v for k, v in flat.items() if k not in tokens and k != "preset"}
    for key in [*from_files, *tokens]:
        if key not in known and key != "preset":
            raise _unknown_option(key, known)
    if "backbone.name" in tokens:
        tokens["backbone.name"] = chosen.backbone_name
    with parser_errors():
        parser.set_defaults(parser.parse_object(from_files).as_flat().__dict__)
        parsed = parser.parse_args([f"--{k}={v}" for k, v in tokens.items() if k != "preset"])
    return chosen.config(parsed.as_dict())


def help_text(usage: str, arguments: Sequence[str]) -> str:
    """Return the options of ``fullrank train`` for the choices among ``arguments``."""
    with contextlib.suppress(IndexError):
        flat, _ = _read_tokens(arguments)
    chosen = Chosen.of(flat)
    # Whole groups can come from files, too, which is not worth a line for each of them here.
    whole_group = r"  --\S+ CONFIG\n +Path to a configuration file.\n"
    body = re.sub(whole_group, "", chosen.parser().format_help()).replace("``", "")
    options = body[body.index("\n\n") :] if "\n\n" in body else body
    preset = str(flat.get("preset", "paper"))
    return usage.format(recipe=chosen.recipe.name, preset=preset) + options.rstrip() + "\n"


def split_resume(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Take ``--resume RUN`` out of the arguments."""
    rest = list(arguments)
    for place, token in enumerate(rest):
        name, equals, value = token.partition("=")
        if name == "--resume":
            if not equals and place + 1 >= len(rest):
                raise UserError("option: --resume needs a run folder.")
            value = value if equals else rest.pop(place + 1)
            del rest[place]
            return Path(value), rest
    return None, rest


def _read_tokens(arguments: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return all dotted keys (files first, then the command line), and the command line's own."""
    files: dict[str, Any] = {}
    tokens: dict[str, str] = {}
    rest = list(arguments)
    if rest and not rest[0].startswith("-"):
        tokens["recipe.name"] = rest.pop(0)
    while rest:
        token = rest.pop(0)
        if not token.startswith("--"):
            raise UserError(f"argument: {token!r} is not expected here. Allowed: --option value.")
        name, equals, value = token.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"option: --{name} needs a value.")
            value = rest.pop(0)
        if name == "config":
            files |= dict(flatten(read_yaml(value)))
            continue
        tokens[f"{name}.{CHOICES[name]}" if name in CHOICES else name] = value
    return _overridden(files, tokens) | tokens, tokens


def _overridden(files: dict[str, Any], tokens: Mapping[str, str]) -> dict[str, Any]:
    """Drop from ``files`` what the command line replaces as a whole."""
    lengths = {"steps": "epochs", "epochs": "steps"}
    gone = {other for given, other in lengths.items() if given in tokens}
    for group, key in CHOICES.items():
        choice = f"{group}.{key}"
        if choice in tokens and tokens[choice] != files.get(choice):
            gone |= {name for name in files if name.startswith(f"{group}.")}
    return {name: value for name, value in files.items() if name not in gone}
