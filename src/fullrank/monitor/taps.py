"""Which layers of a network are measured, and how their outputs become one row an input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from fullrank.errors import UserError, unknown_name

Taps = str | Sequence[str] | Mapping[str, str] | None
Pool = Literal["mean", "first", "flatten"] | Callable[[Tensor], Tensor] | None
POOLS = ("mean", "first", "flatten")


@dataclass(frozen=True)
class Tap:
    """A place in a network.

    Attributes:
        layer: what its numbers are called.
        module: name of the submodule whose output it is; empty for the whole module.
        key: which of several outputs: a name, or a position.
    """

    layer: str
    module: str
    key: str | None = None


def parse_taps(taps: Taps) -> tuple[Tap, ...]:
    """Read taps: submodules' names, each with ``:KEY`` where it returns several outputs.

    Args:
        taps: one, several, or a mapping from layer names of your choice; None is the output of
            the module itself, called ``embedding``. ``":last_hidden_state"`` is one of the outputs
            of the module itself.

    Raises:
        UserError: no taps, or one twice.
    """
    if taps is None:
        taps = {"embedding": ""}
    if isinstance(taps, str):
        taps = [taps]
    named = list(taps.items()) if isinstance(taps, Mapping) else [(tap, tap) for tap in taps]
    found = []
    for layer, place in named:
        module, _, key = place.partition(":")
        found.append(Tap(layer.removeprefix(":") or "embedding", module, key or None))
    if not found:
        raise UserError("taps: none given; allowed: one submodule's name or more, or None.")
    if len({tap.layer for tap in found}) < len(found):
        raise UserError(f"taps: {list(taps)} given; each layer is allowed once.")
    return tuple(found)


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the network inside of DataParallel, DistributedDataParallel or ``torch.compile``."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        else:
            return module


def tapped_module(module: nn.Module, tap: Tap) -> nn.Module:
    """Return the submodule that a tap names.

    Raises:
        UserError: there is no such submodule; the message suggests near matches.
    """
    submodules = dict(module.named_modules())
    if tap.module not in submodules:
        raise unknown_name("taps", tap.module, [name for name in submodules if name])
    return submodules[tap.module]


def rows_of(output: Any, tap: Tap, pool: Pool) -> Tensor:
    """Return one row an input from what a submodule returned.

    Args:
        output: a tensor, or several in a tuple, mapping or Hugging Face output.
        tap: says which of several.
        pool: how an output of more than two dimensions becomes rows; see :func:`pooled`.

    Raises:
        UserError: it is not clear, or not given, which output is meant.
    """
    return pooled(_selected(output, tap), pool, tap.layer)


def _selected(output: Any, tap: Tap) -> Tensor:
    if isinstance(output, Mapping):
        outputs = {str(key): value for key, value in output.items()}
    elif isinstance(output, list | tuple):
        outputs = {str(place): value for place, value in enumerate(output)}
    else:
        outputs = {}
    if tap.key is not None:
        if tap.key not in outputs:
            raise unknown_name(f"output of {tap.module or 'the module'}", tap.key, outputs)
        output = outputs[tap.key]
    elif len(outputs) == 1:
        (output,) = outputs.values()
    if not isinstance(output, Tensor):
        which = f"outputs {', '.join(outputs)}" if outputs else type(output).__name__
        example = f"{tap.module}:{next(iter(outputs), 'KEY')}"
        raise UserError(
            f"taps: {tap.module or 'the module'} returns {which}; a tensor is needed. Name one of "
            f"several, as in {example!r}."
        )
    return output


def pooled(features: Tensor, pool: Pool, layer: str = "features") -> Tensor:
    """Return features as (n, d).

    Args:
        features: (n, d); (n, t, d), tokens; or (n, c, h, w), a map.
        pool: ``"mean"`` over tokens or places, ``"first"`` token (or place), ``"flatten"``, or a
            function to (n, d). A map of one place needs none.
        layer: for the error.

    Raises:
        UserError: there are several tokens or places and ``pool`` does not say what to do.
    """
    if features.ndim == 2:
        return features
    if features.ndim == 4 and features.shape[2:] == (1, 1):
        return features[:, :, 0, 0]
    if callable(pool):
        return pool(features)
    if features.ndim not in (3, 4) or pool not in POOLS:
        raise UserError(
            f"pool: {pool!r} given for {layer} of shape {tuple(features.shape)}; allowed: "
            f"{', '.join(map(repr, POOLS))} for shapes (n, t, d) and (n, c, h, w), or a function "
            "that returns (n, d)."
        )
    if pool == "flatten":
        return features.flatten(1)
    tokens = features if features.ndim == 3 else features.flatten(2).mT
    return tokens.mean(1) if pool == "mean" else tokens[:, 0]
