"""One training run from configuration to verdict."""

from __future__ import annotations

import logging
import os
import time
import warnings
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from fullrank.data.augment import Augment
from fullrank.data.grid import views_grid
from fullrank.data.settings import Augmentation, resolve_augmentation
from fullrank.data.sources import Source, load_source
from fullrank.errors import UserError
from fullrank.measure.verdict import judge, judge_loss
from fullrank.models.batch_norm import has_batch_norm, synchronise_batch_norm
from fullrank.models.convolution import make_point_safe
from fullrank.models.joint_embedding import JointEmbedding
from fullrank.monitor.checkup import HeldOut, calibrated
from fullrank.randomness import derive_seed, generator
from fullrank.train import callbacks, hardware
from fullrank.train.config import Config
from fullrank.train.encoder import save_encoder
from fullrank.train.folder import claim, default_folder
from fullrank.train.module import JointEmbeddingModule
from fullrank.train.probing import Prober
from fullrank.train.progress import ProgressDisplay
from fullrank.train.record import Record, now
from fullrank.train.storage import WholeCheckpoint, writing


@dataclass(frozen=True)
class Run:
    """What a call of ``train`` did.

    Attributes:
        folder: the run folder.
        status: ``finished``; ``found``, if an identical run was there already; ``interrupted``,
            by Ctrl-C, with a checkpoint to go on from; or ``stopped``, by a loss that is not
            finite.
        verdict: the record's last verdict: backbone, embedding and loss.
    """

    folder: Path
    status: str
    verdict: dict[str, Any] | None


def run(config: Config, resume: Path | None = None) -> Run:
    """Train, measure and judge; everything lands in the run folder.

    Args:
        config: what to train.
        resume: folder of an interrupted run of this configuration.

    Raises:
        UserError: data, device or folder are not as the configuration says.
    """
    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    device = hardware.accelerator(config.run)
    source = load_source(config.data)
    config = _with_steps(config, source)
    folder = resume or Path(config.run.out or default_folder(config))
    session = _Session(config, source, folder, device)
    first = int(os.environ.get("LOCAL_RANK", "0")) == 0
    if first and resume is None and claim(folder, config):
        return Run(folder, "found", Record(folder).last("verdict"))
    return session.train(resume is not None)


def _with_steps(config: Config, source: Source) -> Config:
    """Turn epochs into steps and check that a batch fits the data."""
    batch, n = config.run.batch_size, len(source.train)
    if batch > n:
        raise UserError(
            f"batch_size: {batch} is more than the {n} training images of {config.data.name}. "
            f"Allowed: at most {n}."
        )
    if config.run.steps is not None:
        return config
    assert config.run.epochs is not None
    steps = max(1, round(config.run.epochs * (n // batch)))
    return replace(config, run=replace(config.run, steps=steps, epochs=None))


class _Session:
    """The objects of one run, made from its configuration."""

    def __init__(self, config: Config, source: Source, folder: Path, device: str) -> None:
        assert config.run.steps is not None
        self.config, self.source, self.folder = config, source, folder
        self.steps, self.seed = config.run.steps, config.run.seed
        self.kind, self.precision = device, hardware.precision(config.run, device)
        self.device = torch.device(device)
        self.views = self._augmentation()
        self.augment = Augment(self.views, source.channels)
        self.network = self._network()
        self._check_batch_norm()
        held_out = generator(self.seed, "held-out")
        chosen = torch.randperm(len(source.test), generator=held_out)[: config.checkup.size]
        images = source.test.read(chosen, source.size)
        self.held_out = HeldOut(images, self.augment, self.seed, self.device)
        self.prober = None
        if Prober.possible(source):
            self.prober = Prober(source, self.views[0], config.probe, self.device)
        elif config.checkup.probe:
            raise UserError(
                f"checkup.probe: {config.data.name} has no labels to probe with. Allowed: false."
            )

    def _augmentation(self) -> tuple[Augmentation, ...]:
        views = self.config.recipe.views
        changes = {
            name: getattr(views, name)
            for name in ("min_scale", "flip", "strength", "grey", "blur", "solarise", "noise")
        }
        return resolve_augmentation(
            views.augment,  # type: ignore[attr-defined]
            self.config.data.name,
            views.size or self.source.size,  # type: ignore[attr-defined]
            self.source.channels,
            views.count,  # type: ignore[attr-defined]
            **changes,
        )

    def _network(self) -> JointEmbedding:
        """Build the network; its weights depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, "initialisation"))
            network = self.config.recipe.build(
                self.config.backbone, self.source.channels, self.views[0].size
            )
        if self.kind == "cpu" and self.precision == "bf16":
            make_point_safe(network)
        return network.to(memory_format=torch.channels_last)

    def _check_batch_norm(self) -> None:
        local = self.config.run.batch_size // self.config.run.devices
        if local == 1 and has_batch_norm(self.network) and self.config.run.devices == 1:
            raise UserError(
                "batch_size: 1 image has no batch statistics, and this network has batch norm. "
                "Allowed: 2 or more."
            )

    def train(self, resume: bool) -> Run:
        """Fit, then measure and judge."""
        if self.config.run.devices > 1:
            synchronise_batch_norm(self.network)
        options = {
            "images": self.source.train,
            "augment": self.augment,
            "batch_size": self.config.run.batch_size,
            "seed": self.seed,
            "workers": self.config.data.workers,
        }
        module = JointEmbeddingModule(self.network, options, self.config.optimizer, self.steps)
        every = self.config.run.log_every or max(1, self.steps // 200)
        record = Record(self.folder, active=int(os.environ.get("LOCAL_RANK", "0")) == 0)
        finite = callbacks.FiniteLoss(record, every)
        checkups = callbacks.Checkups(record, self.held_out, self.config, self.steps)
        if self.config.checkup.probe and self.prober:
            checkups.probe = self.prober
        lines = callbacks.StepRecord(record, every, self.config.run.batch_size)
        checkpoints = callbacks.Checkpoints(self.folder, self.config.run.checkpoint_minutes, finite)
        interrupt = callbacks.Interrupt()
        display = ProgressDisplay(self.config.recipe.title, lines, checkups, every)
        trainer = self._trainer([lines, finite, checkups, checkpoints, interrupt, display])
        self.record = record
        started = time.perf_counter()
        if resume:
            step = torch.load(self.folder / callbacks.LAST, weights_only=False)["global_step"]
            callbacks.refuse_resume_beyond(step, self.steps)
            record.write("resume", step=step, time=now())
        else:
            self._write_start(record)
        try:
            with writing(self.folder), warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="lightning")
                warnings.filterwarnings("ignore", message=".*does not have many workers.*")
                checkpoint = str(self.folder / callbacks.LAST) if resume else None
                trainer.fit(module, ckpt_path=checkpoint, weights_only=False)
        finally:
            display.close()
            interrupt.restore()
        return self._conclude(trainer, module, finite, checkpoints, interrupt, started)

    def _trainer(self, hooks: list[Any]) -> Trainer:
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)
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
            logger=_logger(self.config.run.logger, self.folder),
            log_every_n_steps=1,
            callbacks=hooks,
            plugins=[WholeCheckpoint()],
            default_root_dir=self.folder,
        )

    def _write_start(self, record: Record) -> None:
        recipe, batch = self.config.recipe, self.config.run.batch_size
        network = self.network
        parts = {"backbone": network.backbone, "projector": network.projector}
        parts["predictor"] = network.predictor
        record.write(
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
            collapsed_loss=self._collapsed_loss(),
            parameters={
                name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()
            },
            environment=hardware.environment(self.kind, self.precision),
        )
        if record.active:
            pixels = self.source.train.read(torch.arange(min(8, len(self.source.train))))
            views_grid(
                pixels, self.augment(pixels, self.seed), self.folder / "views.png", self.views
            )

    def _collapsed_loss(self) -> float:
        features = self.network.backbone
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            side = self.views[0].size
            example = torch.zeros(2, self.source.channels, side, side)
            mode = features.training
            dim = features.eval()(example).flatten(1).shape[1]
            features.train(mode)
        return self.config.recipe.collapsed_loss(dim, self.config.run.batch_size)

    def _conclude(
        self,
        trainer: Trainer,
        module: JointEmbeddingModule,
        finite: callbacks.FiniteLoss,
        checkpoints: callbacks.Checkpoints,
        interrupt: callbacks.Interrupt,
        started: float,
    ) -> Run:
        """Leave a checkpoint, probes and the verdict; only the first process writes."""
        step = trainer.global_step
        ok = finite.check(trainer)
        if ok:
            checkpoints.write(trainer)
        self._name_skipped()
        if not ok:
            return Run(self.folder, "stopped", None)
        if step < self.steps:
            text = f"interrupted after step {step}; go on with --resume {self.folder}"
            self.record.write("interrupt", step=step, text=text)
            return Run(self.folder, "interrupted", None)
        seconds = time.perf_counter() - started
        verdict = None
        if trainer.is_global_zero:
            self.network = self.network.to(self.device)
            save_encoder(
                self.folder, self.network, self.config, self.views[0], self.source.channels, step
            )
            self._probe(step)
            verdict = self._judge()
            self.record.write(
                "end",
                step=step,
                time=now(),
                seconds=seconds,
                images_per_second=step * self.config.run.batch_size / seconds,
            )
        return Run(self.folder, "finished", verdict)

    def _name_skipped(self) -> None:
        """Name every image that could not be read."""
        unreadable = self.source.train.skipped | self.source.test.skipped
        for path, reason in sorted(unreadable.items()):
            self.record.write("warning", text=f"skipped {path}: {reason}")

    def _probe(self, step: int) -> None:
        """Probe the trained and the random-init network, if there are labels."""
        if self.prober is None:
            return
        untrained = calibrated(self._network().to(self.device), self.held_out)
        self.record.write("probe", network="random-init", step=0, **self.prober(untrained))
        self.record.write("probe", network="run", step=step, **self.prober(self.network))

    def _judge(self) -> dict[str, Any]:
        events = list(self.record.events())
        checkups = [e for e in events if e["event"] == "checkup"]
        verdict: dict[str, Any] = {}
        for layer in ("backbone", "embedding"):
            *before, last = (c["layers"][layer] for c in checkups)
            verdict[layer] = judge(last, before).to_dict()
        losses = [e["loss"] for e in events if e["event"] == "step"]
        verdict["loss"] = judge_loss(losses, self._collapsed_loss())
        self.record.write("verdict", **verdict)
        return verdict


def _logger(name: str, folder: Path) -> Any:
    """Return Lightning's logger of an experiment tracker."""
    from lightning.pytorch import loggers

    if name == "none":
        return False
    if name == "csv":
        return loggers.CSVLogger(folder, name="logs", version="")
    if name == "tensorboard":
        return loggers.TensorBoardLogger(folder, name="logs", version="")
    if name == "wandb":
        return loggers.WandbLogger(save_dir=folder, name=folder.name)
    return loggers.MLFlowLogger(run_name=folder.name)
