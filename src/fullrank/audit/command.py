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

Files are untrusted: nothing that could run code is loaded without --trust.
"""

EXAMPLES = """\
examples:
  fullrank audit features.npy --labels labels.npy
  fullrank audit before.npy after.npy --drift --json
  fullrank audit timm/resnet18 timm/vit_tiny_patch16_224 --data fashion-mnist --limit 2000
  fullrank audit runs/simsiam --taps blocks --out audit.html
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are those of the rest of the command line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        unknown = "unrecognized arguments: "
        if message.startswith(unknown):
            first = message.removeprefix(unknown).split()[0]
            options = [o for action in self._actions for o in action.option_strings]
            raise unknown_name("option", first.split("=")[0], options, "`fullrank audit --help`.")
        raise UserError(f"{message}.")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    p = _Parser(
        prog="fullrank audit",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("what", nargs="+", metavar="WHAT")
    default = Options()
    g = p.add_argument_group("what to measure on")
    g.add_argument("--data", help="data set that models are shown; `fullrank data` lists them")
    g.add_argument("--data-root", metavar="DIR", help="folder of its files")
    g.add_argument("--split", default=default.split, help="test or train (default: test)")
    g.add_argument("--limit", type=int, help="images or rows at most, of a fixed permutation")
    g.add_argument("--views", type=int, help="augmented views an image (default: 2; 1 is plain)")
    g.add_argument("--augment", default=default.augment, help="preset of the augmentation")
    g.add_argument("--size", type=int, help="side of the images in pixels")
    g.add_argument("--labels", help="file with a label a row: adds kNN and linear probes")
    g.add_argument("--key", default="", help="array of a file; several, comma-separated, are views")
    g.add_argument("--bad-rows", default=default.bad_rows, help="refuse or exclude NaN rows")
    g = p.add_argument_group("what to measure of a model")
    g.add_argument(
        "--taps", default="", help="submodules, comma-separated, or blocks for each block"
    )
    g.add_argument("--pool", help=f"of features of rank 3 or 4: {', '.join(POOLS)}")
    g.add_argument("--level", default=default.level, help=f"{', '.join(LEVELS)} (default: sample)")
    g.add_argument("--backbone", help="architecture of a checkpoint")
    g.add_argument("--weights", default=default.weights, help="random, pretrained, or a file")
    g.add_argument("--trust", action="store_true", help="load pickles that can run code")
    g = p.add_argument_group("how to measure")
    g.add_argument("--reference", metavar="WHAT", help="compare with this, not a random twin")
    g.add_argument("--rank-by", default="rankme", help="criterion that several are ranked by")
    g.add_argument("--drift", action="store_true", help="compare the layers of several, by image")
    g.add_argument("--convergence", action="store_true", help="show each value at growing N")
    g.add_argument("--sample", type=int, default=4096, help="rows drawn for what needs pairs")
    g.add_argument("--precision", default="auto", help="auto, float32 or float64")
    g.add_argument("--alpha-range", type=int, nargs=2, default=(3, 100), metavar=("FIRST", "END"))
    g.add_argument("--lidar-delta", type=float, default=1e-4)
    g.add_argument("--lidar-relative", action="store_true", help="delta relative to the scale")
    g.add_argument("--seed", type=int, default=default.seed)
    g.add_argument("--batch", type=int, default=default.batch, help="images a forward pass")
    g.add_argument("--device", default=default.device, help="auto, cpu, cuda or mps")
    g.add_argument("--threads", type=int, help="of the processor")
    g = p.add_argument_group("what to write")
    g.add_argument("--json", action="store_true", help="one object, or a list for several")
    g.add_argument("--out", metavar="PAGE", help="an HTML page with the same, drawn")
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
