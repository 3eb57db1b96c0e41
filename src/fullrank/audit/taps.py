"""Submodules whose output is measured, all from one forward pass."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from fullrank.errors import UserError, unknown_name

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def block_names(backbone: nn.Module) -> list[str]:
    """Return the names of the blocks that a backbone repeats, in its order.

    The composite module that stands most often in a sequence is a block (``blocks.0``, …;
    ``layer1.0``, …), and so are those at the same place whose class differs. A backbone without
    composite blocks has the members of its longest sequence.

    Raises:
        UserError: the backbone has no sequence of modules.
    """
    inside = [
        (f"{path}.{name}".lstrip("."), child)
        for path, module in backbone.named_modules()
        if isinstance(module, _CONTAINERS)
        for name, child in module.named_children()
    ]
    composite = [(p, m) for p, m in inside if not isinstance(m, _CONTAINERS) and any(m.children())]
    if composite:
        count = Counter(type(module) for _, module in composite)
        (most, times), *_ = count.most_common(1)
        if times > 1:
            places = {_place(path) for path, module in composite if type(module) is most}
            return [path for path, _ in composite if _place(path) in places]
    sequences = [
        (path, list(module.named_children()))
        for path, module in backbone.named_modules()
        if isinstance(module, _CONTAINERS)
    ]
    path, members = max(sequences, key=lambda s: len(s[1]), default=("", []))
    if not members:
        raise UserError("taps: 'blocks' given, and the backbone has no sequence of modules.")
    return [f"{path}.{name}".lstrip(".") for name, _ in members]


def _place(path: str) -> str:
    return re.sub(r"\d+", "*", path)


def tap_names(backbone: nn.Module, taps: Sequence[str]) -> list[str]:
    """Resolve ``taps``: names of submodules, and ``blocks`` for every block.

    Raises:
        UserError: there is no such submodule; near matches are given.
    """
    known = {name for name, _ in backbone.named_modules() if name}
    names: list[str] = []
    for tap in taps:
        if tap == "blocks":
            names += block_names(backbone)
        elif tap in known:
            names.append(tap)
        else:
            raise unknown_name("taps", tap, [*known, "blocks"])
    return list(dict.fromkeys(names))


@contextlib.contextmanager
def tapped(
    backbone: nn.Module, names: Sequence[str], keep: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Hand the output of every named submodule to ``keep`` as soon as it is there.

    At once, because a later module may overwrite it in place.

    Args:
        backbone: holds the submodules.
        names: of submodules.
        keep: takes the name and the output, which it must copy if it keeps it.
    """

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def took(module: nn.Module, given: Any, output: Any) -> None:
            keep(name, tensor_of(output, name))

        return took

    handles = [backbone.get_submodule(n).register_forward_hook(hook(n)) for n in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def tensor_of(output: Any, name: str) -> Tensor:
    """Return the features in a module's output: itself, its pooled or last state, or its first.

    Raises:
        UserError: there is no tensor in it.
    """
    if isinstance(output, Tensor):
        return output
    for field in ("pooler_output", "last_hidden_state"):
        held = getattr(output, field, None)
        if isinstance(held, Tensor):
            return held
    members = output.values() if isinstance(output, dict) else output
    if isinstance(output, dict | list | tuple):
        for member in members:
            if isinstance(member, Tensor):
                return member
    raise UserError(
        f"{name}: its output is {type(output).__name__} without a tensor. Allowed: a tensor, or a "
        "tuple or mapping whose first tensor is the features."
    )
