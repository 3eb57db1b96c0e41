"""Images per second of two random views: batched on the device against one sample at a time.

Run ``python benchmarks/augmentation.py``. Every row does the same list of operations with the same
probabilities (random resized crop, flip, jitter, greyscale, blur, normalise). The rows are timed in
turn in one process; the table shows medians over the rounds and their ratio to the faster of
torchvision's two rows. By default the batched rows have one thread, against two worker processes.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator

import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from fullrank.data.augment import Augment
from fullrank.data.operators import blur_kernel_size
from fullrank.data.settings import Augmentation, resolve_augmentation

BATCH = 256
WORKERS = 2
# name, data set of the preset, side, channels, probability of blur, what the goal is against
CASES = (
    ("28x28x1", "fashion-mnist", 28, 1, 0.0, None),
    ("28x28x1, blur", "fashion-mnist", 28, 1, 0.5, 15),
    ("32x32x3", "cifar10", 32, 3, 0.0, None),
    ("32x32x3, blur", "cifar10", 32, 3, 0.5, 8),
)


def peer_transform(view: Augmentation, channels: int, pil: bool) -> v2.Compose:
    """Make torchvision's transform of one sample with the same distribution."""
    b, c, s, h = view.jitter
    steps: list[torch.nn.Module] = [
        v2.RandomResizedCrop(view.size, scale=view.scale, ratio=view.ratio, antialias=True),
        v2.RandomHorizontalFlip(view.flip),
        v2.RandomApply([v2.ColorJitter(b, c, s, h)], view.jitter_p),
    ]
    if channels == 3:
        steps.append(v2.RandomGrayscale(view.grey))
    if view.blur:
        kernel = blur_kernel_size(view.size)
        steps.append(v2.RandomApply([v2.GaussianBlur(kernel, view.blur_sigma)], view.blur))
    if pil:
        steps.append(v2.ToImage())
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(view.mean, view.std)]
    return v2.Compose(steps)


class PerSample(Dataset):
    """Two views of each image, made one sample at a time."""

    def __init__(self, images: Tensor, transform: v2.Compose, pil: bool) -> None:
        self.images = images
        self.transform = transform
        self.pil = pil

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.images[index]
        if self.pil:
            pixels = image.permute(1, 2, 0).squeeze(2).numpy()
            image = Image.fromarray(pixels)
        return self.transform(image), self.transform(image)


def endless(loader: DataLoader) -> Iterator[list[Tensor]]:
    while True:
        yield from loader


def kornia_row(view: Augmentation, channels: int) -> Callable[[Tensor], Tensor] | None:
    """Make Kornia's batched transform of the same list, if Kornia is there."""
    try:
        import kornia.augmentation as k
    except ImportError:
        return None
    b, c, s, h = view.jitter
    steps = [
        k.RandomResizedCrop((view.size, view.size), scale=view.scale, ratio=view.ratio),
        k.RandomHorizontalFlip(p=view.flip),
    ]
    if channels == 3:
        steps += [k.ColorJitter(b, c, s, h, p=view.jitter_p), k.RandomGrayscale(p=view.grey)]
    else:
        steps += [
            k.RandomBrightness((1 - b, 1 + b), p=view.jitter_p),
            k.RandomContrast((1 - c, 1 + c), p=view.jitter_p),
        ]
    if view.blur:
        kernel = blur_kernel_size(view.size)
        steps.append(k.RandomGaussianBlur((kernel, kernel), view.blur_sigma, p=view.blur))
    steps.append(k.Normalize(torch.tensor(view.mean), torch.tensor(view.std)))
    return k.AugmentationSequential(*steps, data_keys=["input"])


def speed(run: Callable[[], object], images: int, seconds: float) -> float:
    """Call ``run``, a batch a call, until enough images or time have passed: images per second."""
    done, start = 0, time.perf_counter()
    while True:
        run()
        done += BATCH
        passed = time.perf_counter() - start
        if done >= images or (passed > seconds and done >= 2 * BATCH):
            return done / passed


def measure(
    view: Augmentation, channels: int, images: int, seconds: float, rounds: int
) -> dict[str, list[float]]:
    """Time every row ``rounds`` times, in images per second."""
    size = view.size
    pool = torch.randint(0, 256, (8 * BATCH, channels, size, size), dtype=torch.uint8)
    augment = Augment((view, view), channels)
    steps = itertools.count()

    def batched() -> None:
        step = next(steps)
        start = step % 8 * BATCH
        augment(pool[start : start + BATCH], 0, step)

    rows: dict[str, Callable[[], object]] = {"fullrank, batched": batched}
    kornia = kornia_row(view, channels)
    if kornia is not None:

        def peer_batched() -> None:
            pixels = pool[:BATCH].float() / 255
            kornia(pixels), kornia(pixels)

        rows["Kornia, batched"] = peer_batched
    speeds: dict[str, list[float]] = {}
    for name, run in rows.items():
        speed(run, 2 * BATCH, seconds)
        speeds[name] = [speed(run, 8 * images, seconds) for _ in range(rounds)]
    for pil in (True, False):
        loader = DataLoader(
            PerSample(pool, peer_transform(view, channels, pil), pil),
            batch_size=BATCH,
            num_workers=WORKERS,
            persistent_workers=True,
            drop_last=True,
            shuffle=True,
        )
        run = functools.partial(next, endless(loader))
        name = f"torchvision, per sample, {'PIL' if pil else 'tensors'}, {WORKERS} workers"
        # Workers read ahead; the first timing uses that up and is thrown away.
        speed(run, 2 * WORKERS * BATCH, seconds)
        speeds[name] = [speed(run, images, seconds) for _ in range(rounds)]
        del run, loader  # ends its workers, so that they do not disturb the next row
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2048, help="at most, a timing of a peer")
    parser.add_argument("--seconds", type=float, default=1.5, help="at most, a timing")
    parser.add_argument("--rounds", type=int, default=3, help="timings of each row")
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="threads of the batched rows; with as many as cores, a busy machine slows them most",
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f"Two views of each image, batches of {BATCH}: images per second, median of "
        f"{args.rounds} (least to most).\n{platform.machine()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}; batched rows: {args.threads} thread(s); torch "
        f"{torch.__version__}, torchvision {torchvision.__version__}"
    )
    for case, data, size, channels, blur, goal in CASES:
        view = resolve_augmentation("auto", data, size, channels, 1, blur=blur)[0]
        speeds = measure(view, channels, args.images, args.seconds, args.rounds)
        medians = {name: statistics.median(s) for name, s in speeds.items()}
        peer = max(m for name, m in medians.items() if name.startswith("torchvision"))
        print(f"\n{case}" + (f" (goal: {goal} times torchvision)" if goal else ""))
        for name, values in speeds.items():
            spread = f"({min(values):,.0f} to {max(values):,.0f})"
            print(
                f"  {name:44}{medians[name]:>9,.0f}  {spread:20}{medians[name] / peer:6.1f} x",
                flush=True,
            )


if __name__ == "__main__":
    main()
