from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from fullrank.errors import UserError
from fullrank.theory.boundary import crossings
from fullrank.theory.eigenmodes import ModeParameters, eigenmode_rates
from fullrank.theory.flow import integrate
from fullrank.theory.phase import AXES, PhaseDiagram, phase_diagram
from fullrank.theory.separatrix import escapes_exactly, separatrix

F64 = torch.float64


def whole(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=F64)


def cells_off_the_boundary(diagram: PhaseDiagram) -> Tensor:
    """Cells on whose side of the exact boundary the simulation disagrees beyond neighbours."""
    given = {name: torch.full_like(diagram.outcome, v) for name, v in diagram.fixed.items()}
    up, across = torch.meshgrid(diagram.y, diagram.x, indexing="ij")
    given |= {diagram.x_name: across, diagram.y_name: up}
    flat = {name: value.reshape(-1) for name, value in given.items()}
    exact = escapes_exactly(flat.pop("p"), flat.pop("s"), **flat).view(up.shape)
    # Equal to the exact answer somewhere among itself and its eight neighbours.
    around = torch.nn.functional.pad(exact[None, None].double(), (1, 1, 1, 1), mode="replicate")
    most = torch.nn.functional.max_pool2d(around, 3, 1)[0, 0] > 0
    least = -torch.nn.functional.max_pool2d(-around, 3, 1)[0, 0] > 0
    return (diagram.survives & ~most) | (~diagram.survives & least)


@pytest.mark.parametrize(
    ("x", "y", "options"),
    [
        ("weight_decay", "predictor_rate", {"s": 0.02, "p": 0.05}),
        ("noise", "weight_decay", {}),
        ("p", "s", {"weight_decay": 0.1}),
        ("weight_decay", "tau", {"p": 0.2}),
    ],
)
def test_the_simulated_boundary_is_the_analytic_one_within_a_cell(
    x: str, y: str, options: dict[str, float]
) -> None:
    diagram = phase_diagram(x, y, cells=(24, 24), **options)
    assert 0.02 < float(diagram.survives.double().mean()) < 0.98
    assert not cells_off_the_boundary(diagram).any()
    assert len(diagram.boundary) > 20


def test_drawn_points_lie_where_survival_changes() -> None:
    diagram = phase_diagram("weight_decay", "p", cells=(8, 8), noise=0.5)
    (edge,) = [b for b in diagram.boundaries if b.exact]
    decay, p = edge.points.T
    like = torch.ones_like(p)
    rest = {"noise": 0.5 * like, "tau": like, "predictor_rate": like}
    s = diagram.fixed["s"] * like
    step = 1e-3 * AXES["weight_decay"].high
    less = escapes_exactly(p, s, weight_decay=(decay - step).clamp(min=1e-4), **rest)
    more = escapes_exactly(p, s, weight_decay=decay + step, **rest)
    assert less.all()
    assert not more.any()
    # Neighbouring points are near each other: a curve, not a cloud.
    size = whole([0.25, 1.0])
    assert ((edge.points / size).diff(dim=0).norm(dim=1) < 0.061).all()


def test_on_the_invariant_the_edge_is_the_unstable_fixed_point() -> None:
    h = torch.linspace(0.001, 0.249, 40, dtype=F64)
    expected = (1 - (1 - 4 * h).sqrt()) / 2
    assert torch.allclose(separatrix(h, torch.zeros_like(h)), expected, rtol=1e-12)


def test_the_separatrix_parts_the_flow_of_scipy() -> None:
    # papers.md 1.2: p0 = .01; predictor rate .1 collapses the first three starts, 1 the first.
    starts = [0.001, 0.01, 0.05, 0.1, 0.5]
    for rate, decay in ((0.1, 0.05), (1.0, 0.05), (5.0, 0.05), (1.0, 0.005), (2.0, 0.18)):

        def flow(t: float, v: np.ndarray, rate: float = rate, decay: float = decay) -> list[float]:
            p, s = v
            pull = 1 - 1.3 * p
            return [rate * s * pull - decay * p, 2 * s * (p * pull - decay)]

        ends = [
            solve_ivp(flow, (0, 2000), [0.01, s], rtol=1e-8, atol=1e-14).y[0, -1] for s in starts
        ]
        like = torch.ones(5, dtype=F64)
        found = escapes_exactly(
            0.01 * like, whole(starts), noise=0.3 * like, weight_decay=decay * like,
            tau=like, predictor_rate=rate * like,
        )  # fmt: skip
        assert found.tolist() == [end > 0.05 for end in ends]


def test_an_outcome_is_the_flows_end() -> None:
    diagram = phase_diagram("weight_decay", "noise", cells=(3, 3), y_range=(0.0, 1.0), p=0.4)
    decay, noise = diagram.x, diagram.y[:, None]
    alive = diagram.survives
    upper = (1 + (1 - 4 * decay * (1 + noise)).sqrt()) / (2 * (1 + noise))
    assert torch.allclose(diagram.outcome[alive], upper[alive], atol=1e-3)
    assert alive[:, 0].all()  # no weight decay
    assert (diagram.outcome[~alive].abs() < 1e-3).all()


def test_a_fast_moving_average_has_the_boundary_of_none_at_all() -> None:
    options = {"weight_decay": (0.02, 0.25), "ema_rate": (0.02, 3.0)}
    diagram = phase_diagram(
        "ema_rate", "weight_decay", x_range=options["ema_rate"], y_range=options["weight_decay"],
        cells=(4, 24), until=150.0,
    )  # fmt: skip
    critical = 1 / (4 * 1.3)
    assert not diagram.survives[diagram.y > critical].any()
    edges = [b for b in diagram.boundaries if "at once" in b.label]
    assert edges
    assert not any(b.exact for b in diagram.boundaries)
    limit = float(edges[0].points[:, 1].mean())
    fast = diagram.y[diagram.survives[:, -1]].max()
    assert float(fast) == pytest.approx(limit, abs=1.5 * float(diagram.y[1] - diagram.y[0]))


def test_a_crossing_is_found_however_steep() -> None:
    unit = torch.linspace(0, 1, 5, dtype=F64)
    for predicate, distance in (
        (lambda x, y: x < 0.3, lambda p: p[:, 0] - 0.3),
        (lambda x, y: y < 0.3, lambda p: p[:, 1] - 0.3),
        (lambda x, y: x * x + y * y < 0.5, lambda p: p.square().sum(1) - 0.5),
    ):
        (curve,) = crossings(predicate, unit, unit)
        assert distance(curve).abs().max() < 1e-5
        assert (curve.diff(dim=0).norm(dim=1) < 0.061).all()
    assert crossings(lambda x, y: x < 2, unit, unit) == []
    (curve,) = crossings(lambda x, y: x < 0.1, unit + 0.01, unit, (True, False))
    assert torch.allclose(curve[:, 0], torch.full_like(curve[:, 0], 0.1), rtol=1e-4)


def test_a_diagram_goes_to_json() -> None:
    diagram = phase_diagram("weight_decay", "p", cells=(3, 4))
    told = json.loads(json.dumps(diagram.to_dict(), allow_nan=False))
    assert len(told["outcome"]) == 4
    assert len(told["outcome"][0]) == 3
    assert told["x"]["values"] == diagram.x.tolist()
    assert told["boundaries"][0]["label"] == "basin of collapse"


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match=r"x: 'weight_decai' is not known. Did you mean 'weight_de"):
        phase_diagram("weight_decai", "p")
    with pytest.raises(UserError, match=r"fixed: 'nose' is not known. Did you mean 'noise'"):
        phase_diagram("weight_decay", "p", nose=0.1)
    with pytest.raises(UserError, match="p: given twice"):
        phase_diagram("p", "p")
    with pytest.raises(UserError, match="p: given twice"):
        phase_diagram("weight_decay", "p", p=0.1)
    with pytest.raises(UserError, match="noise: range 2 to 1 given; allowed: ascending"):
        phase_diagram("noise", "p", x_range=(2.0, 1.0))
    with pytest.raises(UserError, match=r"tau: 1.2 given; allowed: from 0, to 1"):
        phase_diagram("tau", "p", x_range=(0.5, 1.2))
    with pytest.raises(UserError, match=r"noise: -0.1 given; allowed: from 0"):
        phase_diagram("weight_decay", "p", noise=-0.1)
    with pytest.raises(UserError, match=r"predictor_rate: 0 given; allowed: above 0"):
        phase_diagram("weight_decay", "predictor_rate", y_range=(0.0, 1.0))
    with pytest.raises(UserError, match="cells: 1 along p given"):
        phase_diagram("weight_decay", "p", cells=(4, 1))


def test_without_weight_decay_a_predictor_that_is_too_strong_still_kills():
    p = torch.tensor([2.0, 0.9, 1.5, 0.0], dtype=torch.float64)
    s = torch.tensor([1.0, 0.2, 3.0, 0.1], dtype=torch.float64)
    one = torch.ones_like(p)
    found = escapes_exactly(
        p, s, noise=0.3 * one, weight_decay=0 * one, tau=one, predictor_rate=one
    )
    rates = eigenmode_rates(ModeParameters(noise=0.3, weight_decay=0.0))
    end = integrate(rates, (p, s), torch.tensor([0.0, 2000.0], dtype=torch.float64)).end[1]
    assert found.tolist() == (end > 1e-3).tolist() == [False, False, True, True]
