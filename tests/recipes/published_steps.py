"""Two steps of the published protocol of every recipe on two processes; prints a line of JSON.

    python tests/recipes/published_steps.py FOLDER OUT [RECIPE ...]

Backbone, heads, objective, optimiser, and kinds and numbers of augmented views are the published
ones. Smaller, for a small processor, are the images (32 pixels, small crops 16, before the stem
that a ResNet has at the published size), the batch (4 images, or as many as a recipe needs), and
the prototypes that a batch has to fill (16). So two steps show that a protocol resolves, builds and
trains on two processes; nothing about its memory, its speed or what it learns.

A script of its own, whose processes are started once for all recipes.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

STEPS = 2
SIZE = 32


def accepted_batch(whole, changes) -> int:
    """Return the smallest of a few batches that a recipe accepts, under some changes."""
    from dataclasses import replace

    from fullrank.errors import UserError

    published = whole.training.batch_size
    for name, values in changes.items():
        whole = replace(whole, **{name: replace(getattr(whole, name), **values)})
    for n in (4, 8, 16, 32, 64, 128, 256, 512, published):
        try:
            whole.check(min(n, published), 2048)
        except UserError:
            continue
        return min(n, published)
    raise AssertionError(f"{whole.name} refuses its own batch of {published}")


def protocol(name: str, folder: str, out: str):
    """Return the configuration of a recipe's two steps."""
    from fullrank.recipes.registry import recipe
    from fullrank.train.resolve import resolve

    whole = recipe(name)
    views = {"size": SIZE}
    if whole.views.kind == "multi-crop":
        views["local_size"] = SIZE // 2
    changes = {"views": views}
    backbone = {"name": whole.training.backbone}
    if backbone["name"].startswith("resnet"):
        backbone["stem"] = "imagenet"
    if hasattr(whole.objective, "prototypes"):  # no more than a small batch can fill
        changes["objective"] = {"prototypes": 16}
    return resolve(
        {
            "recipe": {"name": name, **changes},
            "preset": "paper",
            "backbone": backbone,
            "data": {"name": f"folder:{folder}", "size": SIZE, "workers": 0},
            "batch_size": accepted_batch(whole, changes),
            "steps": STEPS,
            "devices": 2,
            "device": "cpu",
            "threads": 1,
            "logger": "none",
            "out": str(Path(out) / name.replace("/", "-")),
            "checkup": {"size": 16},
        }
    )


def two_steps(config) -> list[float]:
    """Train without check-ups or a record, and return the losses of this process."""
    from lightning.pytorch import Callback

    from fullrank.data.sources import load_source
    from fullrank.models.batch_norm import synchronise_batch_norm
    from fullrank.train.module import JointEmbeddingModule
    from fullrank.train.session import Session

    class Losses(Callback):
        def __init__(self):
            self.found = []

        def on_train_batch_end(self, trainer, pl_module, *args):
            self.found.append(float(pl_module.latest["loss"]))

    source = load_source(config.data)
    session = Session(config, source, Path(config.run.out), "cpu")
    synchronise_batch_norm(session.network)
    stream = {
        "images": source.train,
        "augment": session.augment,
        "batch_size": config.run.batch_size,
        "seed": 0,
        "stream": config.data.stream,
        "total_steps": STEPS,
    }
    losses = Losses()
    trainer = session._trainer([losses])
    trainer.fit(JointEmbeddingModule(session.network, stream, config.optimizer, STEPS))
    return losses.found


def release() -> None:
    """Give the memory of the recipe before back to the system."""
    gc.collect()  # the trainer and its network refer to each other
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc, which keeps it otherwise
    if trim is not None:
        trim(0)


def work(folder: str, out: str, names: list[str]) -> None:
    """Run every recipe as one of two processes."""
    import torch

    torch.set_num_threads(1)
    for name in names:
        start = time.perf_counter()
        losses = two_steps(protocol(name, folder, out))
        release()
        if os.environ["RANK"] == "0":
            seconds = time.perf_counter() - start
            print(json.dumps({"name": name, "losses": losses, "seconds": seconds}), flush=True)


def main(folder: str, out: str, names: list[str]) -> int:
    """Start two processes and wait for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "TORCHELASTIC_RUN_ID": "published",
        "OMP_NUM_THREADS": "1",
    }
    children = [
        subprocess.Popen(
            [sys.executable, __file__, folder, out, *names],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    ]
    return max(abs(child.wait()) for child in children)


if __name__ == "__main__":
    where, to, *chosen = sys.argv[1:]
    if "RANK" in os.environ:
        work(where, to, chosen)
    else:
        from fullrank.recipes.registry import recipes

        sys.exit(main(where, to, chosen or list(recipes())))
