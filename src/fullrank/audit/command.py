"""The options of ``fullrank audit``. Nothing here imports torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from fullrank.audit.subject import LEVELS, POOLS, Options
from fullrank.errors import UserError, unknown_name

DESCRIPTION = """\
Measure what exists already: vital signs, every metric with its error bar, a verdict with its
evidence; several are ranked without labels. WHAT is one or several of

  FILE                an embeddings file: .npy .npz .pt .safetensors .parquet, or a folder of shards
  RUN                 a run folder of fullrank
  CHECKPOINT          with --backbone NAME: of fullrank or Lightning, a state dict, safetensors
  timm/NAME           a timm model (--weights pretrained for its weights)
  torchvision/NAME    a torchvision model
  hf:REPO             a Hugging Face model
  MODULE:FACTORY      anything importable that returns a torch module

Files are untrusted: nothing that could run code is loaded without --trust. Of several, one that
cannot be audited is named at the end and stops no other.
"""

EXAMPLES = """\
examples:
  fullrank audit features.npy --labels labels.npy
  fullrank audit before.npy after.npy --drift --json
  fullrank audit timm/resnet18 timm/vit_tiny_patch16_224 --data fashion-mnist --limit 2000
  fullrank audit runs/simsiam --taps blocks --out audit.html

exit codes: 0, all was done; 2, something could not be (what could is printed); 130, interrupted.
"""


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are those of the rest of the command line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        unknown = "unrecognized arguments: "
        if message.startswith(unknown):
            first = message.removeprefix(unknown).split()[0]
            options = [o for action in self._actions for o in action.option_strings]
            raise unknown_name("option", first.split("=")[0], options, f"`{self.prog} --help`.")
        raise UserError(f"{message}.")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    p = CommandParser(
        prog="fullrank audit",
        usage="fullrank audit WHAT [WHAT ...] [options]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("what", nargs="+", metavar="WHAT", help="see above")
    default = Options()
    g = p.add_argument_group("what to measure on")
    g.add_argument(
        "--data", metavar="NAME", help="data set that models are shown; `fullrank data` lists them"
    )
    g.add_argument("--data-root", metavar="DIR", help="folder of its files")
    g.add_argument("--split", default=default.split, help="test or train (default: test)")
    g.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="images or rows at most, the first of a fixed permutation (default: all)",
    )
    g.add_argument(
        "--views",
        type=int,
        metavar="N",
        help="augmented views of each image for a model (default: 2; 1 is the plain image)",
    )
    g.add_argument(
        "--augment",
        default=default.augment,
        metavar="PRESET",
        help="of the augmented views (default: the data set's own)",
    )
    g.add_argument("--size", type=int, metavar="PIXELS", help="side of the images")
    g.add_argument(
        "--labels",
        metavar="FILE",
        help="a class a row (.npy, .txt, ..., or the name of an array in FILE): adds kNN and "
        "linear probes",
    )
    g.add_argument(
        "--key",
        default="",
        metavar="NAMES",
        help="array of a file that holds several; more than one, comma-separated, are views",
    )
    g.add_argument(
        "--bad-rows",
        default=default.bad_rows,
        metavar="refuse|exclude",
        help="what to do with NaN and infinite rows (default: refuse)",
    )
    g = p.add_argument_group("what to measure of a model")
    g.add_argument(
        "--taps",
        default="",
        metavar="NAMES",
        help="submodules, comma-separated, or `blocks` for every block",
    )
    g.add_argument(
        "--pool",
        help="how features of rank 3 or 4 (files, too) become one vector a sample: "
        f"{', '.join(POOLS)}",
    )
    g.add_argument(
        "--level",
        default=default.level,
        help=f"a row is a sample or a token: {', '.join(LEVELS)} (default: sample; the others add "
        "the signs of tokens)",
    )
    g.add_argument("--backbone", metavar="NAME", help="architecture of a checkpoint")
    g.add_argument(
        "--weights",
        default=default.weights,
        help="of a named model: random, pretrained, or a checkpoint (default: random)",
    )
    g.add_argument("--trust", action="store_true", help="load pickles that can run code")
    g = p.add_argument_group("how to measure")
    g.add_argument(
        "--reference",
        metavar="WHAT",
        help="judge against this (default: of a model, its twin with random weights)",
    )
    g.add_argument(
        "--rank-by",
        default="rankme",
        metavar="METRIC",
        help="that several are ranked by (default: rankme)",
    )
    g.add_argument(
        "--drift", action="store_true", help="compare the layers of several with the first one's"
    )
    g.add_argument("--convergence", action="store_true", help="show each value at growing N")
    g.add_argument(
        "--sample",
        type=int,
        default=4096,
        metavar="N",
        help="rows drawn for what needs pairs, and for probes (default: 4096; 0: leave these out)",
    )
    g.add_argument("--precision", default="auto", help="auto, float32 or float64 (default: auto)")
    g.add_argument(
        "--alpha-range",
        type=int,
        nargs=2,
        default=(3, 100),
        metavar=("FIRST", "END"),
        help="eigenvalues that alpha_req is fitted to, from 0, without END (default: 3 100)",
    )
    g.add_argument(
        "--lidar-delta",
        type=float,
        default=1e-4,
        metavar="DELTA",
        help="added to the within-image covariance of lidar (default: 1e-4)",
    )
    g.add_argument(
        "--lidar-relative",
        action="store_true",
        help="DELTA is a share of the mean within-image variance",
    )
    g.add_argument(
        "--seed",
        type=int,
        default=default.seed,
        metavar="N",
        help="of views, random weights and samples (default: 0)",
    )
    g.add_argument(
        "--batch",
        type=int,
        default=default.batch,
        metavar="N",
        help="images a forward pass (default: 64)",
    )
    g.add_argument(
        "--device", default=default.device, help="auto, cpu, cuda or mps (default: auto)"
    )
    g.add_argument("--threads", type=int, metavar="N", help="of the processor")
    g = p.add_argument_group("what to write")
    g.add_argument(
        "--json", action="store_true", help="print one object, or a list for several, and no text"
    )
    g.add_argument("--out", metavar="PAGE", help="draw an HTML page, too")
    return p


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of ``fullrank.audit``, and ``json``, from the command line.

    Raises:
        UserError: an option is not known, or nothing to audit is named.
    """
    if not argv:
        raise UserError("what: none given; name a file, a run folder, a checkpoint or a model.")
    given = vars(parser().parse_args(list(argv)))
    for name in ("taps", "key"):
        given[name] = tuple(part for part in given[name].split(",") if part)
    given["alpha_range"] = tuple(given["alpha_range"])
    return given
