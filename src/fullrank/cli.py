"""The command line. Nothing here imports torch until a command needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fullrank import __version__
from fullrank.errors import UserError, unknown_name

if TYPE_CHECKING:
    from fullrank.train.config import Config

USAGE = """\
usage: fullrank COMMAND ...

Self-supervised learning that keeps its rank.

commands:
  train RECIPE    train a published method; vital signs live, verdict and report at the end
  audit WHAT...   measure and judge what exists: embeddings, checkpoints, models; rank several
  explain RECIPE  what holds a method up: theory, then each mechanism removed in turn
  reproduce PAPER judge a paper's claims: each a program, with its evidence and its verdict
  sweep GRID      many runs: a grid of settings with seeds, on all cores or a Ray cluster
  report RUN...   draw run folders, an explanation, or a sweep, as one self-contained HTML page
  recipes         list the methods; with a name, show one; with two, their difference
  metrics         list the metrics; with a name, show one
  data            list the data sets

options:
  --help          this text; `fullrank COMMAND --help` for a command's own
  --version       the version

examples:
  fullrank train simsiam --data fashion-mnist --backbone conv4 --preset small
  fullrank train byol --data folder:photos --backbone resnet18 --epochs 100
  fullrank train simsiam --recipe.predictor none --data digits --preset small --steps 300
  fullrank audit features.npy
  fullrank audit timm/resnet18 timm/resnet34 --data fashion-mnist
  fullrank explain simsiam --quick
  fullrank reproduce tian2021
  fullrank sweep grid.yaml
  fullrank report runs/*
"""

TRAIN_USAGE = """\
usage: fullrank train RECIPE [--preset paper|small] [--data NAME] [--backbone NAME]
                      [--steps N | --epochs N] [--out DIR] [--config FILE] [--OPTION VALUE ...]
       fullrank train --resume RUN
       fullrank train RECIPE ... --print_config

Trains RECIPE and writes a run folder: config.yaml, record.jsonl, checkpoints, encoder, report.
Any field of the recipe is replaced by --recipe.FIELD KIND (e.g. --recipe.predictor none).
The defaults below are those of `{recipe}` under the preset `{preset}`.

  --config FILE        YAML; options on the command line stand above it
  --print_config       print the resolved configuration and end
  --resume RUN         go on with an interrupted run, exactly where it stopped
  --preset NAME        paper: the published protocol, backbone and all; small: for small images on
                       a processor; none: as published, but for the backbone
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code: 0, 1 (failed), 2 (bad input) or 130 (interrupted)."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _main(argv)
    except UserError as error:
        print(f"fullrank: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fullrank: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a listing has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _main(argv: list[str]) -> int:
    if argv[0:1] == ["help"] and len(argv) > 1:
        argv = [*argv[1:], "--help"]
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(USAGE, end="")
        return 0
    if argv[0] in ("--version", "-V"):
        print(f"fullrank {__version__}")
        return 0
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": _train,
        "audit": _audit,
        "explain": _explain,
        "reproduce": _reproduce,
        "sweep": _sweep,
        "report": _report,
        "metrics": _metrics,
        "recipes": _recipes,
        "data": _data,
    }
    if argv[0] not in commands:
        raise unknown_name("command", argv[0], commands)
    return commands[argv[0]](argv[1:])


def _asks_help(argv: list[str]) -> bool:
    return "--help" in argv or "-h" in argv


def _train(argv: list[str]) -> int:
    from fullrank.train.resolve import help_text, resolve_command_line

    if _asks_help(argv):
        print(help_text(TRAIN_USAGE, [a for a in argv if a not in ("--help", "-h")]), end="")
        return 0
    if "--print_config" in argv or "--print-config" in argv:
        import yaml

        rest = [a for a in argv if a not in ("--print_config", "--print-config")]
        config = resolve_command_line(rest)
        print(yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True), end="")
        return 0
    if not argv:
        raise UserError("recipe: none given. `fullrank recipes` lists them.")
    return _train_run(argv)


def _train_run(argv: list[str]) -> int:
    from fullrank.train.folder import config_of
    from fullrank.train.resolve import resolve_command_line, split_resume

    resume, rest = split_resume(argv)
    config = resolve_command_line(rest) if resume is None else config_of(resume, rest)
    return _trained(config, resume)


def _trained(config: Config, resume: Path | None) -> int:
    """Train a configuration and print what came of it."""
    from fullrank.imports import importing

    with importing():
        from fullrank.train.printed import print_verdict, stopped_words
        from fullrank.train.process import is_first_process
        from fullrank.train.run import run
    from fullrank.verbs import report

    done = run(config, resume, announce=lambda text: print(text, file=sys.stderr, flush=True))
    if not is_first_process():
        return 0
    if done.status == "interrupted":
        print(f"interrupted; go on with: fullrank train --resume {done.folder}", file=sys.stderr)
        return 130
    if done.status == "stopped":
        print(stopped_words(done.folder), file=sys.stderr)
        return 1
    if done.status == "found":
        print(f"an identical run is there already: {done.folder}")
    print_verdict(done)
    print(f"report: {report(done.folder)}")
    return 0


def _report(argv: list[str]) -> int:
    import argparse

    parser = argparse.ArgumentParser(
        prog="fullrank report", description="Draw run folders as one self-contained HTML page."
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders; several are overlaid")
    parser.add_argument("--out", help="the page; by default report.html in the first run folder")
    given = parser.parse_args(argv)
    from fullrank.verbs import report

    print(report(*given.runs, out=given.out))
    return 0


def _audit(argv: list[str]) -> int:
    from fullrank.audit.command import parse, parser

    if _asks_help(argv):
        print(parser().format_help(), end="")
        return 0
    given = parse(argv)
    whats, as_json, page = given.pop("what"), given.pop("json"), given.pop("out")
    from fullrank.audit.unfinished import AuditError, AuditInterrupted
    from fullrank.verbs import audit

    if page is not None:
        from fullrank.report.document import check_writable

        check_writable(Path(page))
    unfinished: AuditError | AuditInterrupted | None = None
    try:
        found = audit(
            *whats, **given, announce=lambda text: print(text, file=sys.stderr, flush=True)
        )
    except (AuditError, AuditInterrupted) as error:
        unfinished, found = error, error.audits
    if as_json:
        import json

        print(json.dumps(found.to_dict(), indent=1, allow_nan=False), flush=True)
    else:
        from fullrank.audit.printed import print_audits

        print_audits(found)
    if page is not None and found.audits:
        from fullrank.report.audit_page import write_audit

        written = write_audit(found, page)
        if not as_json:
            print(f"page: {written}", flush=True)
    if isinstance(unfinished, AuditError):
        raise unfinished.unexpected or unfinished
    if unfinished is not None:
        raise unfinished
    return 0


def _explain(argv: list[str]) -> int:
    from fullrank.experiments.command import parse, parser, print_cells, print_theory, watching

    if _asks_help(argv):
        print(parser().format_help(), end="")
        return 0
    given = parse(argv)
    as_json = given.pop("json")
    from fullrank.verbs import explain

    with watching() as progress:
        done = explain(
            given.pop("recipe"),
            **given,
            progress=progress,
            show_theory=None if as_json else print_theory,
        )
    if as_json:
        import json

        print(json.dumps(done.found, indent=1, allow_nan=False))
        return 0
    if done.found.get("cells"):
        print_cells(done.found["cells"])
    print(f"page: {done.page}")
    return 0


def _reproduce(argv: list[str]) -> int:
    from fullrank.experiments import reproduce_command as command

    if _asks_help(argv):
        print(command.parser().format_help(), end="")
        return 0
    given = command.parse(argv)
    as_json = given.pop("json")
    names, hash_, print_config = given.pop("papers"), given.pop("run"), given.pop("print_config")
    if given.pop("list"):
        print(command.listing(names, as_json))
        return 0
    if hash_ is not None:
        return _one_run(hash_, names, given, print_config)
    from fullrank.experiments.command import watching
    from fullrank.verbs import reproduce

    def judged(paper: Mapping[str, Any], claim: Mapping[str, Any]) -> None:
        if not as_json:
            command.print_claim(claim)

    with watching() as progress:
        done = reproduce(*names, **given, progress=progress, judged=judged)
    if as_json:
        import json

        print(json.dumps(done.found, indent=1, allow_nan=False, ensure_ascii=False))
    else:
        command.print_table(done.found)
        for page in done.pages:
            print(f"page: {page}")
    return 1 if done.failed else 0


def _one_run(hash_: str, papers: list[str], given: Mapping[str, Any], print_config: bool) -> int:
    """Print the configuration of one run of the claims, or train it."""
    from fullrank.experiments.reproduce_command import config_text
    from fullrank.experiments.reproduction import find_run, planned

    which = {name: given[name] for name in ("claims", "scale", "seeds")}
    config, uses = find_run(planned(papers or ["all"], **which), hash_)
    if print_config:
        print(config_text(config))
        return 0
    from fullrank.experiments.store import examine
    from fullrank.experiments.stored import folder_of, placed

    print("\n".join(uses), file=sys.stderr)
    config = placed(config, Path(given["runs"]))
    folder = folder_of(config)
    there = examine(folder, config)
    if there.damage is not None:
        raise UserError(f"runs: {folder} is damaged: {there.damage}. Move it out of the way.")
    return _trained(config, folder if there.state == "unfinished" else None)


def _sweep(argv: list[str]) -> int:
    from fullrank.experiments.sweep_command import parse, parser, print_sweep, watching

    if _asks_help(argv):
        print(parser().format_help(), end="")
        return 0
    given = parse(argv)
    as_json = given.pop("json")
    from fullrank.verbs import sweep

    with watching() as shown:
        done = sweep(given.pop("grid"), **given, progress=shown.progress, watch=shown.watch)
    if as_json:
        import json

        print(json.dumps(done.found, indent=1, allow_nan=False, ensure_ascii=False))
    else:
        print_sweep(done)
        if done.results is not None:
            print(f"results: {done.results}")
        print(f"page: {done.page}")
    return 1 if done.failed else 0


def _metrics(argv: list[str]) -> int:
    from fullrank.measure.listing import list_metrics, show_metric

    if _asks_help(argv):
        print("usage: fullrank metrics [--json] [NAME]")
        return 0
    names, as_json = _names_and_json(argv)
    if len(names) > 1:
        raise UserError(f"metrics: {len(names)} names given. Allowed: none, or one.")
    print(show_metric(names[0], as_json) if names else list_metrics(as_json))
    return 0


def _names_and_json(argv: list[str]) -> tuple[list[str], bool]:
    """Split the arguments of a listing into names and whether --json is there."""
    names = [a for a in argv if not a.startswith("-")]
    flags = [a for a in argv if a.startswith("-")]
    for flag in flags:
        if flag != "--json":
            raise unknown_name("option", flag, ["--json"])
    return names, bool(flags)


def _recipes(argv: list[str]) -> int:
    from fullrank.recipes.listing import compare, list_recipes, show

    if _asks_help(argv):
        print(
            "usage: fullrank recipes [--json] [NAME[/VARIANT] [NAME[/VARIANT]]]\n\n"
            "NAME may be one in a Python file of your own: my_recipe.py:recipe"
        )
        return 0
    names, as_json = _names_and_json(argv)
    if len(names) > 2:
        raise UserError(f"recipes: {len(names)} names given. Allowed: none, one, or two.")
    if len(names) == 2:
        print(compare(names[0], names[1], as_json=as_json))
    elif names:
        print(show(names[0], as_json=as_json))
    else:
        print(list_recipes(as_json=as_json))
    return 0


def _data(argv: list[str]) -> int:
    from fullrank.data.settings import data_descriptions

    if _asks_help(argv):
        print("usage: fullrank data")
        return 0
    if argv:
        raise UserError(f"data: {argv[0]!r} is not expected here.")
    for about in data_descriptions():
        counts = f"{about.train:,} + {about.test:,}" if about.train and about.test else "yours"
        size = f"{about.size}x{about.size}x{about.channels}" if about.size else ""
        print(f"{about.name:<14} {counts:>17}  {size:<9} {about.what}\n{'':14} {about.where}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
