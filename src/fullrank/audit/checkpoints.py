"""Weights in files that others wrote: found, matched with a backbone's, and loaded whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fullrank.audit.untrusted import load_pickle
from fullrank.errors import UserError

# Where a training loop keeps the weights; the first that is there.
_WHERE = (
    "state_dict",
    "model_state_dict",
    "model",
    "teacher",
    "student",
    "network",
    "net",
    "module",
    "encoder",
    "backbone",
)


def read_weights(path: Path, trust: bool, key: str | None = None) -> tuple[dict[str, Tensor], str]:
    """Read a state dict: a plain one, Lightning's, or one under a customary name.

    Args:
        path: ``.safetensors``, or what ``torch.save`` wrote.
        trust: whether a pickle that can run code may be loaded.
        key: the entry that holds the weights, where there are several.

    Returns:
        The tensors by name, and the entry that they were found in (empty: the top).

    Raises:
        UserError: the file is not there, damaged, not trusted, or has no weights.
    """
    if not path.is_file():
        raise UserError(f"checkpoint: {path} does not exist.")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: empty (0 bytes).")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path), ""
        except SafetensorError as error:
            raise UserError(
                f"{path}: truncated or damaged, no safetensors file ({error})."
            ) from None
    held: Any = load_pickle(path, trust)
    if isinstance(held, nn.Module):
        held = held.state_dict()
    if not isinstance(held, Mapping):
        raise UserError(f"{path}: holds {type(held).__name__}. Allowed: a mapping of weights.")
    names = [key] if key is not None and key in held else list(_WHERE)
    for name in names:
        inner = held.get(name)
        if isinstance(inner, nn.Module):
            inner = inner.state_dict()
        if isinstance(inner, Mapping) and any(isinstance(v, Tensor) for v in inner.values()):
            return _tensors(inner), name
    weights = _tensors(held)
    if not weights:
        raise UserError(
            f"{path}: has no weights at its top or under {', '.join(_WHERE)}; it holds "
            f"{', '.join(map(str, list(held)[:10])) or 'nothing'}."
        )
    return weights, ""


def _tensors(held: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {str(k): v for k, v in held.items() if isinstance(v, Tensor)}


@dataclass(frozen=True)
class Match:
    """How a state dict fits a module.

    Attributes:
        prefix: that the module's names have in the state dict.
        others: prefixes that fit as well (a momentum copy, for example).
        unused: names of the state dict that belong to other parts (heads).
    """

    prefix: str
    others: tuple[str, ...]
    unused: tuple[str, ...]


def load_matching(
    module: nn.Module, weights: Mapping[str, Tensor], where: str, prefix: str | None = None
) -> Match:
    """Load the part of a state dict that fits a module, which must be all of the module's.

    Args:
        module: gets the weights, in place.
        weights: a state dict of it or of something around it.
        where: the weights come from, for errors.
        prefix: of the module's names; None finds the one under which most of them are.

    Raises:
        UserError: weights are missing, of another shape, or left over in a part of the module.
    """
    own = module.state_dict()
    counts = _prefixes(weights, own)
    if prefix is None:
        # Ties: the shortest, so that an online network comes before its momentum copy.
        prefix = min(counts, key=lambda p: (-counts[p], len(p), p), default="")
    elif prefix and not prefix.endswith("."):
        prefix += "."
    found = {name: weights.get(prefix + name) for name in own}
    # Older checkpoints do not count their batches, and eval mode does not need to know.
    for name, value in found.items():
        if value is None and name.endswith("num_batches_tracked"):
            found[name] = own[name]
    missing = [name for name, value in found.items() if value is None]
    other = [n for n, v in found.items() if v is not None and v.shape != own[n].shape]
    parts = {name.partition(".")[0] for name in own}
    rest = [k for k in weights if not (k.startswith(prefix) and k[len(prefix) :] in own)]
    left = [k for k in rest if k.startswith(prefix)]
    left = [k for k in left if k[len(prefix) :].partition(".")[0] in parts]
    problems = [
        _listed("are missing", missing),
        _listed(
            "have another shape",
            [f"{n} {tuple(found[n].shape)}, not {tuple(own[n].shape)}" for n in other],  # type: ignore[union-attr]
        ),
        _listed("are too many", left),
    ]
    if any(problems):
        fits = f"the nearest prefix is {prefix!r}" if counts else "no prefix fits any of them"
        raise UserError(
            f"backbone: the weights of {where} do not fit: of the {len(own)} of the backbone, "
            f"{'; '.join(p for p in problems if p)}; {fits}. The checkpoint has "
            f"{len(weights)}: {', '.join(list(weights)[:3])}, …"
        )
    module.load_state_dict({name: value for name, value in found.items() if value is not None})
    best = counts.get(prefix, 0)
    others = tuple(sorted(p for p, c in counts.items() if c == best and p != prefix))
    return Match(prefix, others, tuple(rest))


def _prefixes(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Counter[str]:
    """Count for every prefix the names (with the right shape) that stand behind it."""
    counts: Counter[str] = Counter()
    for key, value in weights.items():
        parts = key.split(".")
        for cut in range(len(parts)):
            name = ".".join(parts[cut:])
            if name in own and own[name].shape == value.shape:
                counts[key[: len(key) - len(name)]] += 1
    return counts


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} {what} ({', '.join(names[:3])}{more})"


def channels_of(weights: Mapping[str, Tensor], default: int) -> int:
    """Return the channels that the first convolution among the weights takes."""
    first = next((v for v in weights.values() if v.dim() == 4), None)
    return default if first is None or first.shape[1] not in (1, 3) else first.shape[1]
