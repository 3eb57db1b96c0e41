"""The features of a frozen model as a subject: layers of a network on views of data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fullrank.audit.embeddings import finite_samples
from fullrank.audit.factories import in_one_line
from fullrank.audit.models import Model, seeded
from fullrank.audit.pictures import Pictures
from fullrank.audit.pooling import check_pool, pooled, tokens_of
from fullrank.audit.reference import calibrate
from fullrank.audit.subject import Block, Options, Subject
from fullrank.audit.taps import tap_names, tapped, tensor_of
from fullrank.data.settings import Augmentation
from fullrank.errors import UserError


class Features(Subject):
    """Layers of a network in eval mode: taps, then ``backbone``, then ``embedding``.

    Memory is that of one batch, whatever the number of samples; weights, statistics, modes and
    random streams of the network do not change.

    Args:
        what: as the user named it.
        kind: ``run``, ``checkpoint`` or ``model``.
        model: network and what it takes.
        options: how it is measured.
        pictures: what it is shown; None for a model with batches of its own.

    Raises:
        UserError: a tap does not exist, or neither pictures nor batches are there.
    """

    def __init__(
        self, what: str, kind: str, model: Model, options: Options, pictures: Pictures | None
    ) -> None:
        from fullrank.train.config import RunSettings
        from fullrank.train.hardware import accelerator

        if options.pool == "views":
            raise UserError(
                "pool: 'views' given for a model, whose views are those of its data. Allowed: cls, "
                "mean, grid, grid_last, flatten, tokens."
            )
        self.what, self.kind, self.model, self.options = what, kind, model, options
        self.pictures = pictures
        self.data_key = None if pictures is None else pictures.data_key
        self.device = torch.device(accelerator(RunSettings(device=options.device)))
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        self.network = model.network
        for module in self.network.modules():
            module.to(self.device).eval()
        self.taps = tap_names(self.network.backbone, options.taps)
        self.tokens = options.level != "sample" or options.pool == "tokens"
        self._good: Tensor | None = None
        self._batch_labels: list[Tensor] | None = None
        self._pooling: dict[str, str] = {}
        self._rows: dict[str, int] = {}
        self.conventions = self._conventions()

    def _conventions(self) -> dict[str, Any]:
        level = self.options.level
        found: dict[str, Any] = {
            "dtype": "float32",
            "level": "tokens" if self.tokens and level == "sample" else level,
            "pooling": self._pooling,
            "mode": "eval",
            "bad_rows": self.options.bad_rows,
            "trust": self.options.trust,
            "limit": self.options.limit,
            "seed": self.options.seed,
            **self.model.said,
        }
        if self.tokens:
            found["tokens"] = self._rows
        if self.pictures is None:
            return found | {"data": "the factory's own batches", "view": "as the factory made them"}
        grey = self.pictures.source.channels < self.model.channels
        return found | {
            "data": self.pictures.source.name,
            "split": self.options.split,
            "views": self.pictures.count,
            "view": self.pictures.described(),
            "size": self.model.size,
            "channels": f"{self.model.channels} (grey repeated)" if grey else self.model.channels,
        }

    @property
    def labels(self) -> Int[Tensor, " n"] | None:
        """The class of each sample that ``blocks`` yields, in order."""
        own = self.pictures is None
        if (own and self._batch_labels is None) or (
            self.options.bad_rows == "exclude" and self._good is None
        ):
            for _ in self.blocks():
                pass
        if self.pictures is not None:
            labels = self.pictures.labels
        else:
            labels = torch.cat(self._batch_labels) if self._batch_labels else None
        if labels is None or self._good is None:
            return labels
        return labels[self._good.to(labels.device)]

    def batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield the views of every batch, on the device; the same at every call."""
        if self.pictures is not None:
            channels, size = self.model.channels, self.model.size
            yield from self.pictures.views(channels, size, self._augmentation(), self.device)
            return
        assert self.model.batches is not None
        seen, labels = 0, []
        for batch in self.model.batches():
            views = tuple(batch) if isinstance(batch, list | tuple) else (batch,)
            if not all(isinstance(view, Tensor) for view in views) or not views:
                raise UserError(
                    f"what: a batch of {self.what} is {type(batch).__name__}. Allowed: a tensor, "
                    "or a tuple of one tensor a view."
                )
            if len(views) > 1 and views[-1].dim() == 1 and not views[-1].is_floating_point():
                views, target = views[:-1], views[-1]
            else:
                target = None
            views = views[: self.options.views]
            count = len(views[0])
            if any(len(view) != count for view in views):
                raise UserError(
                    f"what: the views of a batch of {self.what} have "
                    f"{', '.join(str(len(v)) for v in views)} samples. Allowed: equally many."
                )
            if self.options.limit is not None:
                count = min(count, self.options.limit - seen)
            if count <= 0:
                break
            seen += count
            if target is not None:
                labels.append(target[:count].cpu().long())
            parts = [view[:count].to(self.device).split(self.options.batch) for view in views]
            yield from zip(*parts, strict=True)
        if not seen:
            raise UserError(f"what: {self.what} gave no batch.")
        self._batch_labels = labels if sum(map(len, labels)) == seen else []

    def _augmentation(self) -> tuple[Augmentation, ...]:
        assert self.pictures is not None
        if self.model.views is not None:
            return self.model.views
        found = self.pictures.augmentation(self.model.channels, self.model.size)
        if self.model.mean is None or self.model.std is None:
            return found
        return tuple(replace(a, mean=self.model.mean, std=self.model.std) for a in found)

    def blocks(self) -> Iterator[Block]:
        """Yield the features of a batch of every layer; the same at every call."""
        good: list[Tensor] = []
        seen, left, bad, first = 0, 0, 0, -1
        for views in self.batches():
            encoded = [self.encode(view) for view in views]
            block = {layer: tuple(e[layer] for e in encoded) for layer in encoded[0]}
            count = len(views[0])
            fine = finite_samples(
                tuple(rows.reshape(count, -1) for parts in block.values() for rows in parts)
            )
            good.append(torch.ones(count, dtype=torch.bool) if fine is None else fine)
            if fine is not None:
                if first < 0:
                    first = seen + int((~fine).nonzero()[0, 0])
                bad += int((~fine).sum())
                block = {k: tuple(_kept(rows, fine) for rows in v) for k, v in block.items()}
            seen += count
            # After a bad sample that is refused, the rest is only counted.
            if bool(good[-1].any()) and (bad == 0 or self.options.bad_rows == "exclude"):
                left += count - (0 if fine is None else int((~fine).sum()))
                yield block
        if bad and self.options.bad_rows == "refuse":
            raise UserError(
                f"bad_rows: {self.what} gives NaN or infinite features for {bad} of {seen} "
                f"samples, the first at index {first}. Allowed: finite values; 'exclude' leaves "
                "these samples out."
            )
        self._good = torch.cat(good)
        self.conventions["excluded"] = bad
        if bad:
            self.conventions["first_excluded"] = first
        if not left:
            raise UserError(f"{self.what}: the features of all {seen} samples are NaN or infinite.")

    @torch.inference_mode()
    def encode(self, view: Tensor) -> dict[str, Float[Tensor, "rows _"]]:
        """Return the rows of every layer for one view ``(b, ...)``, float32 on the CPU."""
        found: dict[str, Tensor] = {}

        def keep(name: str, output: Tensor) -> None:
            rows = self._rows_of(name, output)
            if rows is not None:
                found[name] = rows

        network = self.network
        with tapped(network.backbone, self.taps, keep):
            pools = self.tokens or self.options.pool is not None
            alone = pools and network.dense is not None and network.projector is None
            try:
                raw = network.dense(view) if alone and network.dense else network.backbone(view)
            except UserError:
                raise
            except Exception as error:  # the code of the model, on data it may not be made for
                raise UserError(self._failed(view, error)) from error
        for name in self.taps:
            if name not in found and not self.tokens:
                raise UserError(f"taps: {name} takes no part in a forward pass of {self.what}.")
        output = tensor_of(raw, "backbone")
        found = {name: found[name] for name in self.taps if name in found}
        keep("backbone", output)
        if network.projector is not None:
            keep("embedding", tensor_of(network.projector(output), "embedding"))
        if not found:
            raise UserError(
                f"level: no layer of {self.what} has tokens. Allowed: sample, or taps that have."
            )
        return found

    def _failed(self, view: Tensor, error: Exception) -> str:
        return (
            f"what: {self.what} does not take a batch of shape {tuple(view.shape)} "
            f"({in_one_line(error)})."
        )

    def _pool_of(self, output: Tensor) -> str:
        if self.tokens:
            return "tokens"
        if self.options.pool is not None:
            return self.options.pool
        if output.dim() == 4:
            return "grid_last" if self.network.channels_last else "grid"
        return "mean"

    def _rows_of(self, name: str, output: Tensor) -> Tensor | None:
        """Pool the output of a layer; None for a layer without tokens at token levels."""
        if output.dim() == 2:
            if self.tokens:
                return None
            self._pooling[name] = "the model's own"
            return output.float().cpu().clone()
        pool = self._pool_of(output)
        check_pool(tuple(output.shape), pool, f"{self.what}, {name}")
        if pool == "tokens" and output.dim() == 4 and self.network.channels_last:
            output = output.flatten(1, 2)
        self._pooling[name] = pool
        self._rows[name] = tokens_of(tuple(output.shape), pool)
        return pooled(output, pool)[0].float().cpu().clone()

    def calibrated(self) -> Features:
        """Set the batch-norm statistics of the network to those of the data; return ``self``."""

        def run(view: Tensor) -> None:
            try:
                output = self.network.backbone(view)
            except Exception as error:  # the code of the model, on data it may not be made for
                raise UserError(self._failed(view, error)) from error
            feature = tensor_of(output, "backbone")
            if self.network.projector is not None:
                self.network.projector(feature)

        seen = calibrate(self.network.modules(), run, self.batches())
        if seen:
            self.conventions["batch_norm"] = f"calibrated on {seen} samples of the same data"
        return self

    def reference(self) -> Features:
        """Return the same architecture with random weights, calibrated on the same data."""
        # Of another seed than a model that is random itself, which is not its own twin.
        twin = seeded(self.model.fresh, self.options.seed + 1)
        said = {**self.model.said, "weights": "random"}
        model = replace(self.model, network=twin, said=said)
        return Features(self.what, self.kind, model, self.options, self.pictures).calibrated()


def _kept(rows: Tensor, fine: Tensor) -> Tensor:
    """Keep the rows of fine samples, of which each may have several."""
    each = len(rows) // len(fine)
    return rows[fine.repeat_interleave(each)]
