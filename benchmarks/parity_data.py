"""Data sets of the table of parity, and a line of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fullrank.measure.moments import MomentState, moments_of
from fullrank.measure.spectra import Spectra, spectra_of
from fullrank.measure.stream import measure_stream
from fullrank.measure.table import Reading, read_table
from fullrank.randomness import generator

GOLDEN = Path(__file__).parents[1] / "src/fullrank/experiments/claims/spectra/li2022"
EXACT = 1e-6  # relative, where both sides compute in float64
SINGLE = 1e-4  # where the peer computes in float32
SAME = "Same definition."


@dataclass(frozen=True)
class Data:
    """One data set: float64 views of shape (n, d), and what fullrank finds in it."""

    name: str
    views: tuple[Tensor, ...]
    says: str
    # Whether its rows are a random sample, so that an interval means something.
    drawn: bool = True

    @property
    def x(self) -> Tensor:
        return self.views[0]

    @cached_property
    def state(self) -> MomentState:
        return moments_of(*self.views)

    @cached_property
    def spectra(self) -> Spectra:
        return spectra_of(self.state)

    @cached_property
    def lambda_(self) -> Tensor:
        return self.spectra.sigma.square()

    @cached_property
    def readings(self) -> dict[str, Reading]:
        measured = measure_stream(lambda: [self.views])
        return read_table(measured.shards, measured.sample.rows)

    def value(self, metric: str) -> float:
        """Return fullrank's plug-in value."""
        value = self.readings[metric].value
        assert value is not None
        return value


@dataclass(frozen=True)
class Row:
    """A line of the table: one metric, one data set, two programs."""

    metric: str
    data: Data
    function: str
    peer: float
    reason: str = SAME
    # What fullrank gives under the peer's convention; None where that is its own value.
    alike: float | None = None
    tolerance: float = EXACT

    @property
    def ours(self) -> float:
        return self.data.value(self.metric)

    @property
    def error(self) -> float:
        alike = self.ours if self.alike is None else self.alike
        return abs(alike - self.peer) / max(abs(self.peer), 1e-12)

    @property
    def explained(self) -> bool:
        return self.error <= self.tolerance  # and so not NaN

    def cells(self) -> list[str]:
        reading = self.data.readings[self.metric]
        known = self.data.drawn and reading.low is not None and reading.high is not None
        interval = f"{reading.low:.4g} to {reading.high:.4g}" if known else "–"
        difference = "same" if self.alike is None else f"{self.peer / self.ours:.3g}"
        alike = "" if self.alike is None else f"{self.alike:.6g}"
        return [
            *(f"`{self.metric}`", self.data.name, f"{self.ours:.6g}", interval),
            *(f"`{self.function}`", f"{self.peer:.6g}", difference, alike),
            *(f"{self.error:.0e}", self.reason),
        ]


def _power_law(n: int, d: int, exponent: float, key: str) -> Tensor:
    g = generator(0, "parity", key)
    scales = torch.arange(1, d + 1, dtype=torch.float64) ** -exponent
    basis = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64)).Q
    return (torch.randn(n, d, generator=g, dtype=torch.float64) * scales) @ basis


def _golden(percent: int) -> Data:
    """Features with a published spectrum: orthonormal columns that sum to 0, scaled and turned."""
    file = GOLDEN / f"resnet18_{percent}percent_singular_values.npy"
    sigma = torch.from_numpy(np.load(file)).double()
    g = generator(0, "parity", "golden")
    left = torch.randn(1200, 512, generator=g, dtype=torch.float64)
    left = torch.linalg.qr(left - left.mean(0)).Q
    right = torch.linalg.qr(torch.randn(512, 512, generator=g, dtype=torch.float64)).Q
    features = (left * sigma) @ right.T
    mean = torch.randn(512, generator=g, dtype=torch.float64)
    mean *= features.square().sum(1).mean().sqrt() / mean.norm()
    says = (
        f"1200 × 512 rows with the singular values that Li, Efros and Pathak (2022) publish for "
        f"{percent} % of ImageNet, about a mean as long as a row's deviation from it"
    )
    return Data(f"Li et al. {percent} %", (features + mean,), says, drawn=False)


@dataclass
class Sets:
    """Every data set, made from one seed."""

    isotropic: Data = field(init=False)
    offset: Data = field(init=False)
    images: Data = field(init=False)
    pair: Data = field(init=False)
    line: Data = field(init=False)
    plane: Data = field(init=False)
    doubled: Data = field(init=False)
    doubled_wide: Data = field(init=False)
    golden: list[Data] = field(init=False)

    def __post_init__(self) -> None:
        self.isotropic = Data(
            "isotropic", (_power_law(2000, 64, 0, "isotropic"),), "2000 × 64 Gaussian rows"
        )
        power = _power_law(4000, 128, 1, "offset")
        mean = torch.ones(128, dtype=torch.float64) * power.square().sum(1).mean().sqrt()
        says = "4000 × 128 Gaussian rows, σ_j ∝ 1/j, about a mean of 11 times their deviation"
        self.offset = Data("power law", (power + mean,), says)
        signal = _power_law(400, 32, 0.5, "images")
        noise = _power_law(4000, 32, 0, "noise").reshape(10, 400, 32)
        says = "10 views of each of 400 images, d = 32: signal σ_j ∝ j^-½, noise of deviation 0.3"
        self.images = Data("10 views", tuple(signal + 0.3 * noise), says)
        few = _power_law(2000, 8, 0.25, "pair"), _power_law(2000, 8, 0, "other")
        says = "2 views of 2000 images, d = 8: the second has noise of deviation ½"
        self.pair = Data("2 views", (few[0], few[0] + 0.5 * few[1]), says)
        says = "1000 × 512 rows on a line through 0"
        self.line = Data(
            "one direction", (few[0][:1000, :1] * _power_law(1, 512, 0, "line"),), says
        )
        flat = _power_law(2000, 5, 0, "plane")
        twice = torch.cat([flat, flat[:600]])
        into = torch.linalg.qr(_power_law(20, 20, 0, "turn")).Q[:5]
        self.plane = Data("5 of 20", (flat @ into,), "2000 Gaussian rows in 5 of 20 dimensions")
        says = "2000 × 5 Gaussian rows, the first 600 of them twice"
        self.doubled = Data("copies", (twice,), says)
        says = "the same rows in 20 dimensions"
        self.doubled_wide = Data("copies, 5 of 20", (twice @ into,), says)
        self.golden = [_golden(percent) for percent in (1, 10, 50)]

    @property
    def every(self) -> list[Data]:
        drawn = [self.isotropic, self.offset, self.images, self.pair, self.line]
        return [*drawn, self.plane, self.doubled, self.doubled_wide, *self.golden]
