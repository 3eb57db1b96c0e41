"""The progress display: loss, speed, spread, rank and time left, in a terminal only."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from fullrank.measure.pairs import batch_spread
from fullrank.train.callbacks import Checkups, StepRecord
from fullrank.train.module import JointEmbeddingModule


class ProgressDisplay(Callback):
    """Draws one live line; silent when the output is not a terminal.

    Args:
        title: what is training.
        steps: where the speed is read from.
        checkups: where the rank is read from.
        refresh_every: steps between looks at the loss (reading it waits for an accelerator).
    """

    def __init__(
        self, title: str, steps: StepRecord, checkups: Checkups, refresh_every: int
    ) -> None:
        self.title, self.steps, self.checkups = title, steps, checkups
        self.refresh_every = refresh_every
        self.progress: Progress | None = None
        self.task: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start drawing."""
        assert isinstance(pl_module, JointEmbeddingModule)
        console = Console(stderr=True)
        if not console.is_terminal or not trainer.is_global_zero:
            return

        def whole() -> Column:
            return Column(no_wrap=True, overflow="ignore", min_width=1)

        self.progress = Progress(
            TextColumn("[bold]{task.description}", table_column=whole()),
            BarColumn(bar_width=8),
            MofNCompleteColumn(table_column=whole()),
            TextColumn("{task.fields[signs]}", table_column=whole()),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self.task = self.progress.add_task(
            self.title, total=pl_module.total_steps, completed=trainer.global_step, signs=""
        )
        self.progress.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Redraw."""
        assert isinstance(pl_module, JointEmbeddingModule)
        if self.progress is None:
            return
        step = trainer.global_step
        if step % self.refresh_every == 0 or step in (1, pl_module.total_steps):
            self.progress.update(self.task, completed=step, signs=self._signs(pl_module))

    def _signs(self, module: JointEmbeddingModule) -> str:
        loss, spread = float(module.latest["loss"]), float(batch_spread(module.embedding))
        signs = [f"loss {loss:.4g}", f"spread {spread:.3f}"]
        if self.checkups.latest:
            rank = self.checkups.latest["layers"]["embedding"]
            # The rank is as old as the last check-up, which the line says.
            at = self.checkups.latest["step"]
            signs.append(f"rank {rank['effective_rank']:.1f}/{rank['d']} @{at}")
        if self.steps.speed:
            signs.append(f"{self.steps.speed:.0f} img/s")
        return " · ".join(signs)

    def close(self) -> None:
        """Stop drawing and leave the last line."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None
