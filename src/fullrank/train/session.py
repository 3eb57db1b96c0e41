"""The objects of one run, and its fit."""

from __future__ import annotations

import logging
import pickle
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from fullrank.data.augment import Augment
from fullrank.data.grid import views_grid
from fullrank.data.order import Order
from fullrank.data.sources import Source
from fullrank.data.stream_settings import IID, Once
from fullrank.errors import UserError
from fullrank.models.batch_norm import has_batch_norm, synchronise_batch_norm
from fullrank.models.convolution import make_point_safe
from fullrank.models.joint_embedding import JointEmbedding
from fullrank.models.objectives.objective import CollapsedBatchError
from fullrank.monitor.checkup import HeldOut
from fullrank.randomness import derive_seed, generator
from fullrank.train import callbacks, hardware
from fullrank.train.checkpoint import WholeCheckpoint
from fullrank.train.config import Config
from fullrank.train.folder import CHECKPOINT
from fullrank.train.module import JointEmbeddingModule
from fullrank.train.probing import Prober
from fullrank.train.process import is_first_process
from fullrank.train.progress import ProgressDisplay
from fullrank.train.record import Record, now
from fullrank.train.storage import writing


@dataclass(frozen=True)
class Fitted:
    """How far the training of a run came.

    Attributes:
        step: steps done since the run began.
        seconds: that they took.
        finite: whether all losses were.
    """

    step: int
    seconds: float
    finite: bool


class Session:
    """The objects of one run, made from its configuration.

    Raises:
        UserError: the configuration asks for what data or network cannot give.
    """

    def __init__(self, config: Config, source: Source, folder: Path, device: str) -> None:
        assert config.run.steps is not None
        self.config, self.source, self.folder = config, source, folder
        self.steps, self.seed = config.run.steps, config.run.seed
        self.kind, self.precision = device, hardware.precision(config.run, device)
        self.device = torch.device(device)
        self.views = config.augmentation(source.channels, source.size)
        self.augment = Augment(self.views, source.channels)
        self.network = self.fresh_network()
        config.recipe.check(config.run.batch_size, self.network.feature_dim)
        self._check_batch_norm()
        self.order = self._order()
        held_out = generator(self.seed, "held-out")
        chosen = torch.randperm(len(source.test), generator=held_out)[: config.checkup.size]
        self.record = Record(folder, active=is_first_process())
        images = source.test.read(chosen, source.size)
        # Only views that are targets, too: a small crop shows how small it is.
        measured = Augment(self.views[: config.recipe.views.targets], source.channels)
        self.held_out = HeldOut(images, measured, self.seed, self.device)
        self.prober = None
        if Prober.possible(source):
            self.prober = Prober(source, self.views[0], config.probe, self.device)
        elif config.checkup.probe:
            raise UserError(
                f"checkup.probe: {config.data.name} has no labels to probe with. Allowed: false."
            )

    def fresh_network(self) -> JointEmbedding:
        """Build the network; its weights depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, "initialisation"))
            network = self.config.recipe.build(
                self.config.backbone,
                self.source.channels,
                self.views[0].size,
                images=len(self.source.train),
            )
        if self.kind == "cpu" and self.precision == "bf16":
            make_point_safe(network)
        return network.to(memory_format=torch.channels_last)

    def _order(self) -> Order:
        """Return which images each step shows.

        Raises:
            UserError: the order does not fit data, run or recipe.
        """
        stream, images = self.config.data.stream, self.source.train
        endless = images.draw is not None
        order = Order(
            stream, len(images), self.config.run.batch_size, self.seed, self.steps, endless
        )
        if isinstance(stream, Once) and hasattr(self.network.objective, "before_epoch"):
            raise UserError(
                f"data.stream: once shows no image again, and recipe {self.config.recipe.name} "
                "remembers each. Allowed: any other order."
            )
        return order

    def _check_batch_norm(self) -> None:
        if self.config.run.batch_size == 1 and has_batch_norm(self.network):
            raise UserError(
                "batch_size: 1 image has no batch statistics, and this network has batch norm. "
                "Allowed: 2 or more."
            )

    def fit(self, resume: bool) -> Fitted:
        """Train until the last step, Ctrl-C or SIGTERM, a loss not finite, or a batch refused.

        The state after the last whole step with a finite loss is on disk when this returns.

        Raises:
            KeyboardInterrupt: Ctrl-C came twice, or before the first step.
        """
        if self.config.run.devices > 1:
            synchronise_batch_norm(self.network)
        options = {
            "images": self.source.train,
            "augment": self.augment,
            "batch_size": self.config.run.batch_size,
            "seed": self.seed,
            "workers": self.config.data.workers,
            "stream": self.config.data.stream,
            "total_steps": self.steps,
        }
        module = JointEmbeddingModule(self.network, options, self.config.optimizer, self.steps)
        every = self.config.run.log_every or max(1, self.steps // 200)
        finite = callbacks.FiniteLoss(self.record, every)
        checkups = callbacks.Checkups(self.record, self.held_out, self.config, self.steps)
        if self.config.checkup.probe:
            checkups.probe = self.prober
        lines = callbacks.StepRecord(self.record, every, self.config.run.batch_size, self.order)
        checkpoints = callbacks.Checkpoints(self.record, self.config.run.checkpoint_minutes, finite)
        interrupt = callbacks.Interrupt()
        display = ProgressDisplay(self.config.recipe.title, lines, checkups, every)
        before = self._resumed_step() if resume else None
        hooks = [lines, finite, checkups, checkpoints, interrupt, display]
        trainer = self._trainer(hooks, before)
        if resume:
            self.record.write("resume", step=before, time=now())
        else:
            self._write_start()
        refused: CollapsedBatchError | None = None
        try:
            with writing(self.folder), warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="lightning")
                warnings.filterwarnings("ignore", message=".*does not have many workers.*")
                checkpoint = str(self.folder / CHECKPOINT) if resume else None
                trainer.fit(module, ckpt_path=checkpoint, weights_only=False)
        except CollapsedBatchError as error:
            refused = error
        except SIGTERMException:
            pass  # raised between two steps, of a signal from before the first
        except SystemExit as error:  # what the trainer makes of a Ctrl-C that reaches it
            raise KeyboardInterrupt from error
        finally:
            display.close()
            interrupt.restore()
        step, ok = trainer.global_step, finite.check(trainer)
        if ok:
            checkpoints.write(trainer)
        if refused is not None:
            text = f"after step {step}: {refused}"
            self.record.write("stop", step=step, text=text, causes=[])
            ok = False
        self._name_skipped()
        if ok and step < self.steps:
            text = f"interrupted after step {step}; go on with --resume {self.folder}"
            self.record.write("interrupt", step=step, text=text)
        return Fitted(step, checkpoints.seconds, ok)

    def summary(self) -> str:
        """Say in one line what is trained, how long, and where it is written."""
        config, n = self.config, len(self.source.train)
        epochs = self.steps * config.run.batch_size / n
        return (
            f"{config.recipe.title} with {config.backbone.describe()} on {config.data.name} "
            f"({n:,} images): {self.steps:,} steps of {config.run.batch_size} ({epochs:.3g} "
            f"epochs), {self.kind}, {self.precision} → {self.folder}"
        )

    def _resumed_step(self) -> int:
        """Return the step of the last checkpoint.

        Raises:
            UserError: the run is finished already, or the checkpoint is damaged.
        """
        if self.record.last("end") is not None:
            raise UserError(f"resume: {self.folder} is finished; there is nothing left to do.")
        path = self.folder / CHECKPOINT
        try:
            return int(torch.load(path, weights_only=False, map_location="cpu")["global_step"])
        except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
            raise UserError(f"resume: {path} is damaged and cannot be read ({error}).") from error

    def _trainer(self, hooks: list[Any], resumed: int | None) -> Trainer:
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            # Who asks for the processor has said so.
            warnings.filterwarnings("ignore", message="GPU available but not used")
            return Trainer(
                accelerator={"cuda": "gpu"}.get(self.kind, self.kind),
                devices=self.config.run.devices,
                strategy="ddp" if self.config.run.devices > 1 else "auto",
                precision="bf16-mixed" if self.precision == "bf16" else "32-true",
                max_steps=self.steps,
                max_epochs=-1,
                limit_val_batches=0,
                num_sanity_val_steps=0,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                logger=_logger(self.config.run.logger, self.folder, resumed),
                log_every_n_steps=1,
                callbacks=hooks,
                plugins=[WholeCheckpoint()],
                default_root_dir=self.folder,
            )

    def _write_start(self) -> None:
        recipe, batch = self.config.recipe, self.config.run.batch_size
        network = self.network
        parts = {"backbone": network.backbone, "projector": network.projector}
        parts["predictor"] = network.predictor
        self.record.write(
            "start",
            time=now(),
            fullrank=version("fullrank"),
            hash=self.config.identity(),
            recipe=recipe.name,
            title=recipe.title,
            paper=str(recipe.paper),
            diagram=recipe.diagram(self.config.backbone.describe()),
            prevents=[
                {"mechanism": p.mechanism, "collapse": p.collapse} for p in recipe.standing()
            ],
            data=self.config.data.name,
            n_train=len(self.source.train),
            n_held_out=len(self.held_out),
            steps=self.steps,
            batch_size=batch,
            collapsed_loss=self.collapsed_loss(),
            parameters={
                name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()
            },
            environment=hardware.environment(self.kind, self.precision),
        )
        if not isinstance(self.config.data.stream, IID):
            self.record.write("stream", **self.order.to_dict())
        if self.record.active:
            pixels = self.source.train.read(torch.arange(min(8, len(self.source.train))))
            views = self.augment(pixels, self.seed)
            with writing(self.folder):
                views_grid(pixels, views, self.folder / "views.png", self.views)

    def collapsed_loss(self) -> float | None:
        """Return the loss that a constant embedding would show in this run, if it has one."""
        batch = self.config.run.batch_size
        return self.config.recipe.collapsed_loss(self.network.feature_dim, batch)

    def _name_skipped(self) -> None:
        """Name every image that could not be read."""
        unreadable = self.source.train.skipped | self.source.test.skipped
        for path, reason in sorted(unreadable.items()):
            self.record.write("warning", text=f"skipped {path}: {reason}")


def _logger(name: str, folder: Path, resumed: int | None) -> Any:
    """Return Lightning's logger of an experiment tracker.

    Args:
        name: of the tracker.
        folder: of the run.
        resumed: the step that a resumed run goes on from.
    """
    from lightning.pytorch import loggers

    if name == "none":
        return False
    if name == "csv":
        # Of its own for what follows a resume: the logger empties a folder that it finds.
        part = "" if resumed is None else f"from-step-{resumed}"
        return loggers.CSVLogger(folder, name="logs", version=part)
    if name == "tensorboard":
        return loggers.TensorBoardLogger(folder, name="logs", version="")
    if name == "wandb":
        return loggers.WandbLogger(save_dir=folder, name=folder.name)
    return loggers.MLFlowLogger(run_name=folder.name)
