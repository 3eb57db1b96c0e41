"""The layers of several audits side by side: which belong together, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fullrank.report.numbers import count, significant
from fullrank.report.vitals import LAYERS, layer_title

if TYPE_CHECKING:
    from fullrank.audit.verb import Audit, LayerAudit

# A profile of more layers than this is shown as one, and its layers one by one only when asked for.
FEW = 2


@dataclass(frozen=True)
class Together:
    """Layers of several audits that are compared with each other.

    Attributes:
        title: their name as a heading.
        members: position of the audit, and its layer.
    """

    title: str
    members: tuple[tuple[int, LayerAudit], ...]

    @property
    def note(self) -> str:
        """Their names where these differ, and their sizes, each once."""
        sizes = (
            f"n = {count(layer.n)}, d = {count(layer.d)}, n/d = {significant(layer.n / layer.d)}"
            for _, layer in self.members
        )
        names = dict.fromkeys(layer.layer for _, layer in self.members)
        named = f"{' / '.join(names)}: " if len(names) > 1 else ""
        return named + " / ".join(dict.fromkeys(sizes))


def side_by_side(audits: Sequence[Audit]) -> list[Together]:
    """Put together the main layers of all audits, then every other layer by its name."""
    mains = tuple((i, audit.main) for i, audit in enumerate(audits))
    names = list(dict.fromkeys(layer.layer for _, layer in mains))
    title = layer_title(names[0]) if len(names) == 1 else "Main layer"
    groups = [Together(title, mains)]
    others = dict.fromkeys(
        name for audit in audits for name in audit.layers if audit.layers[name] is not audit.main
    )
    for name in others:
        members = tuple(
            (i, audit.layers[name])
            for i, audit in enumerate(audits)
            if name in audit.layers and audit.layers[name] is not audit.main
        )
        groups.append(Together(title_of(name), members))
    return groups


def leading(audits: Sequence[Audit]) -> list[Together]:
    """Return the layers that are shown in full: all of a few, else the ends of the network."""
    groups = side_by_side(audits)
    if max(len(audit.layers) for audit in audits) <= FEW:
        return groups
    ends = {layer_title(name) for name in LAYERS}
    return [group for i, group in enumerate(groups) if i == 0 or group.title in ends]


def title_of(layer: str) -> str:
    """Return the heading of a layer: submodules keep their names as they are."""
    return layer_title(layer) if layer in LAYERS or layer.isalpha() else layer


def in_depth(audit: Audit) -> list[LayerAudit]:
    """Return the layers from the network's input to its end: the blocks, then what follows them."""
    last = [audit.layers[name] for name in LAYERS if name in audit.layers]
    return [layer for name, layer in audit.layers.items() if name not in LAYERS] + last


def profiled(audits: Sequence[Audit]) -> list[tuple[int, list[LayerAudit]]]:
    """Return the audits with layers enough for a profile over depth, by position."""
    return [(i, in_depth(a)) for i, a in enumerate(audits) if len(a.layers) > FEW]
