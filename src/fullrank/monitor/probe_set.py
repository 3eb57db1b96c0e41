"""The fixed inputs that every check-up shows to the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fullrank.errors import UserError
from fullrank.monitor.undisturbed import chance_kept

Forward = Callable[[nn.Module, Any], Any]


@dataclass(frozen=True)
class ProbeBatch:
    """One batch of the probe set.

    Attributes:
        number: its place in the set.
        start: how many inputs come before it.
        views: inputs of one forward pass each; row ``i`` of every view is the same sample.
    """

    number: int
    start: int
    views: tuple[Any, ...]

    def __len__(self) -> int:
        return _length(self.views[0])


class ProbeSet:
    """Batches of inputs, held in memory as they are given, the same at every check-up.

    Args:
        batches: each a tensor, a tuple or list of views, or a mapping of keyword inputs (or a tuple
            of those). They are read once, when first needed, with all random streams restored
            after: a data loader that shuffles is shuffled once.
        forward: how to pass one view through the network; by default ``module(view)``, or
            ``module(**view)`` for a mapping.
    """

    def __init__(self, batches: Iterable[Any], forward: Forward | None = None) -> None:
        self._given = batches
        self._held: tuple[ProbeBatch, ...] | None = None
        self.forward = forward or _call

    @property
    def batches(self) -> tuple[ProbeBatch, ...]:
        """All batches.

        Raises:
            UserError: there are none, or one holds something else than tensors or mappings.
        """
        if self._held is None:
            held, start = [], 0
            with chance_kept(torch.device("cpu")):
                for number, given in enumerate(self._given):
                    batch = ProbeBatch(number, start, _views(given))
                    held.append(batch)
                    start += len(batch)
            if start == 0:
                raise UserError("probe: no inputs given; at least one is needed.")
            self._held = tuple(held)
        return self._held

    def __len__(self) -> int:
        return sum(map(len, self.batches))

    def share(self, rank: int, world: int) -> Iterator[ProbeBatch]:
        """Yield every ``world``-th batch, from number ``rank`` on."""
        yield from self.batches[rank::world]

    def passes(self, module: nn.Module, batch: ProbeBatch, device: torch.device) -> Iterator[Any]:
        """Pass each view of a batch through the network and yield what it returns."""
        for view in batch.views:
            yield self.forward(module, _moved(view, device))


def _call(module: nn.Module, view: Any) -> Any:
    return module(**view) if isinstance(view, Mapping) else module(view)


def _views(given: Any) -> tuple[Any, ...]:
    views = tuple(given) if isinstance(given, list | tuple) else (given,)
    for view in views:
        if not isinstance(view, Tensor | Mapping):
            raise UserError(
                f"probe: a batch holds {type(view).__name__}; allowed: a tensor, a tuple of views, "
                "or a mapping of keyword inputs."
            )
    if len({_length(view) for view in views}) != 1 or len({_shape(v) for v in views}) != 1:
        raise UserError(
            f"probe: a batch holds views of shapes {[_shape(view) for view in views]}; allowed: "
            "views of the same samples, in one shape. Labels do not belong here."
        )
    return views


def _shape(view: Any) -> tuple[int, ...]:
    """Return the shape of one sample."""
    tensor = view if isinstance(view, Tensor) else _first_tensor(view)
    return tuple(tensor.shape[1:])


def _length(view: Any) -> int:
    tensor = view if isinstance(view, Tensor) else _first_tensor(view)
    return len(tensor) if tensor.ndim else 1


def _first_tensor(view: Mapping[str, Any]) -> Tensor:
    for value in view.values():
        if isinstance(value, Tensor):
            return value
    raise UserError(f"probe: no tensor among the keyword inputs {', '.join(view)}.")


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(inner, device) for key, inner in value.items()}
    return value
