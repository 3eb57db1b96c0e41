"""The Lightning callback: keys for other callbacks on all ranks, and state in checkpoints."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import socket

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fullrank.randomness import generator

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of Lightning, about its settings and its dependencies
]
NAMESPACES = {
    "lightning.pytorch": "fullrank.monitor.lightning_callback",
    "pytorch_lightning": "fullrank.monitor.pytorch_lightning_callback",
}
KEY = "fullrank/embedding/effective_rank"


def probe():
    return [torch.randn(40, 6, generator=generator(i, "probe")) for i in range(3)]


def parts(namespace, folder, epochs=4, callback=None, **settings):
    """Return a trainer with the callback after the one that stops early, and a module."""
    pl = importlib.import_module(namespace)
    callbacks = importlib.import_module(f"{namespace}.callbacks")
    watch = callback or importlib.import_module(NAMESPACES[namespace]).MonitorCallback(
        taps={"embedding": "net"}, probe=probe(), budget=1, forward=lambda m, x: m.net(x)
    )

    class Shrinking(pl.LightningModule):
        """Its embedding loses one direction after the other."""

        def __init__(self):
            super().__init__()
            self.net = nn.Linear(6, 6)
            nn.init.eye_(self.net.weight)
            nn.init.zeros_(self.net.bias)

        def training_step(self, batch, index):
            return (self.net(batch[0])[:, 1:] ** 2).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    best = callbacks.ModelCheckpoint(folder, monitor=KEY, mode="max", filename="best")
    last = callbacks.ModelCheckpoint(folder, filename="last-one")
    stop = callbacks.EarlyStopping(
        f"{KEY}/drawdown",
        mode="min",
        patience=99,
        divergence_threshold=settings.pop("stop", 1.0),
        check_on_train_epoch_end=True,
    )
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[stop, watch, best, last],
        logger=settings.pop("logger", False),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **settings,
    )
    return trainer, Shrinking(), watch, best


def data():
    x = torch.randn(64, 6, generator=generator(9, "train"))
    return DataLoader(TensorDataset(x), 16)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_checkpoints_early_stops_and_loggers_use_its_keys(namespace, tmp_path):
    pytest.importorskip(namespace)
    loggers = importlib.import_module(f"{namespace}.loggers")
    logger = loggers.CSVLogger(tmp_path)
    trainer, module, watch, best = parts(namespace, tmp_path, 50, stop=0.3, logger=logger)
    trainer.fit(module, data())
    history = watch.monitor.history
    assert history[0]["step"] == 0
    assert 0 < trainer.global_step < 200  # it was stopped
    assert float(trainer.callback_metrics[f"{KEY}/drawdown"]) > 0.3
    seen = [c["layers"]["embedding"]["effective_rank"] for c in history]
    assert float(best.best_model_score) in [pytest.approx(rank, rel=1e-6) for rank in seen]
    assert float(best.best_model_score) > float(trainer.callback_metrics[KEY])
    assert KEY in (tmp_path / "lightning_logs/version_0/metrics.csv").read_text().splitlines()[0]
    assert not module.net._forward_hooks


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_state_goes_on_from_a_checkpoint(namespace, tmp_path):
    pytest.importorskip(namespace)
    trainer, module, *_ = parts(namespace, tmp_path, epochs=2)
    trainer.fit(module, data())
    path = tmp_path / "last-one.ckpt"
    saved = torch.load(path, weights_only=True)["callbacks"]["fullrank.Monitor"]
    assert saved["history"] and saved["steps"] == 8
    trainer, module, again, _ = parts(namespace, tmp_path, epochs=3)
    trainer.fit(module, data(), ckpt_path=path)
    assert again.monitor.history[: len(saved["history"])] == saved["history"]
    assert again.monitor.steps == 12
    assert [c["step"] for c in again.monitor.history].count(0) == 1
    assert KEY in trainer.callback_metrics


def on_rank(rank, port, folder):
    torch.set_num_threads(1)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "TORCHELASTIC_RUN_ID": "test",
    }
    settings = {"strategy": "ddp", "devices": 2, "use_distributed_sampler": False, "stop": 0.3}
    trainer, module, watch, best = parts("lightning.pytorch", folder, epochs=50, **settings)
    trainer.fit(module, data())
    found = {k: float(v) for k, v in trainer.callback_metrics.items()}
    steps = [checkup["step"] for checkup in watch.monitor.history]
    torch.save((found, steps, trainer.global_step, best.best_model_path), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods()
    or not dist.is_gloo_available()
    or torch.cuda.is_available(),  # Lightning asks CUDA for its state, which forks do not have
    reason="needs forked processes and gloo (Linux without CUDA)",
)
def test_all_ranks_hold_the_same_numbers(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=on_rank, args=(r, port, tmp_path)) for r in range(2)]
    for process in children:
        process.start()
    for process in children:
        process.join(120)
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in children] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first == second
    assert first[0][f"{KEY}/drawdown"] > 0.3
    assert first[2] < 200
