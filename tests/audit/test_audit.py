"""The audit of files from the command line: numbers, verdicts, ranking, drift, bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fullrank
from fullrank.cli import main
from fullrank.errors import UserError

GOLDEN = Path(fullrank.__file__).parent / "experiments" / "claims" / "spectra" / "li2022"


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def saved(folder: Path, name: str, rows: np.ndarray) -> str:
    np.save(folder / f"{name}.npy", rows)
    return str(folder / f"{name}.npy")


def audited(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    assert main(["audit", *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_json_of_a_file_holds_what_is_promised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = normal(900, 24) * np.arange(1, 25) ** -0.5 + 0.2
    found = audited(capsys, saved(tmp_path, "x", rows.astype(np.float32)))
    assert {
        "what",
        "n",
        "d",
        "layer",
        "conventions",
        "vitals",
        "metrics",
        "verdict",
    } <= found.keys()
    assert (found["n"], found["d"], found["layer"]) == (900, 24, "features")
    assert all(isinstance(v, int | float | None) for v in found["vitals"].values())
    sigma = np.linalg.svd(
        rows.astype(np.float32).astype(np.float64) - rows.astype(np.float32).mean(0, dtype=float),
        compute_uv=False,
    )
    metric = found["metrics"]["stable_rank"]
    assert metric.keys() == {"value", "corrected", "low", "high", "flags"}
    assert metric["value"] == pytest.approx((sigma**2).sum() / sigma[0] ** 2, rel=1e-5)
    named = set(
        "spread effective_rank rankme participation_ratio stable_rank hard_rank cev_auc alpha_req "
        "condition_number anisotropy uniformity twonn clid self_cluster".split()
    )
    wide = audited(capsys, saved(tmp_path, "wide", normal(600, 120)))
    assert named <= wide["metrics"].keys()
    verdict = found["verdict"]["features"]
    assert verdict["kind"] == "healthy" and verdict["evidence"]


@pytest.mark.parametrize(
    ("percent", "rankme", "ratio", "auc"),
    # The published numbers of tests/measure/test_golden_li2022.py. RankMe as its paper defines it
    # does not divide again after adding 1e-7, which gives 0.1 more.
    [(1, 465.3, 160.5, 0.6098), (10, 186.6, 12.8, 0.8449), (50, 161.4, 14.9, 0.8714)],
)
def test_features_rebuilt_from_published_spectra_read_as_published(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    percent: int,
    rankme: float,
    ratio: float,
    auc: float,
) -> None:
    sigma = np.load(GOLDEN / f"resnet18_{percent}percent_singular_values.npy").astype(float)
    n, d = 3000, len(sigma)
    left = normal(n, d, seed=percent)
    left = np.linalg.qr(left - left.mean(0))[0]
    right = np.linalg.qr(normal(d, d, seed=1))[0]
    what = saved(tmp_path, "golden", (left * sigma) @ right.T)
    metrics = audited(capsys, what, "--sample", "0")["metrics"]
    assert metrics["rankme"]["value"] == pytest.approx(rankme, abs=0.06)
    assert metrics["participation_ratio"]["value"] == pytest.approx(ratio, abs=0.06)
    assert metrics["cev_auc"]["value"] == pytest.approx(auc, abs=6e-5)


def test_several_are_ranked_without_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = saved(tmp_path, "flat", normal(800, 32))
    steep = saved(tmp_path, "steep", normal(800, 32) * np.arange(1, 33) ** -1.0)
    point = saved(tmp_path, "point", np.ones((800, 32)))
    found = audited(capsys, steep, point, flat)
    assert [one["what"] for one in found] == [steep, point, flat]
    assert [one["rank"]["rank"] for one in found] == [2, 3, 1]
    assert found[2]["rank"]["low"] == found[2]["rank"]["high"] == 1
    assert found[1]["verdict"]["features"]["kind"] == "complete collapse"
    assert found[1]["rank"]["collapsed"]


def test_drift_is_none_to_itself_and_all_to_independent_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = normal(700, 16)
    turned = rows @ np.linalg.qr(normal(16, 16, seed=3))[0]
    whats = [
        saved(tmp_path, name, x)
        for name, x in (("a", rows), ("turned", turned), ("other", normal(700, 16, seed=9)))
    ]
    _, same, other = audited(capsys, *whats, "--drift")
    assert same["drift"][0]["linear_cka"] == pytest.approx(1.0, abs=1e-5)
    assert same["drift"][0]["neighbourhood_overlap"] == pytest.approx(1.0, abs=1e-2)
    assert abs(other["drift"][0]["linear_cka"]) < 0.02


def test_drift_between_different_images_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whats = [saved(tmp_path, "a", normal(70, 4)), saved(tmp_path, "b", normal(60, 4))]
    assert main(["audit", *whats, "--drift"]) == 2
    assert "same images" in capsys.readouterr().err


def test_convergence_ends_at_the_value_and_starts_biased(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = audited(capsys, saved(tmp_path, "x", normal(1600, 32)), "--convergence")
    points = found["convergence"]["effective_rank"]
    assert [n for n, _ in points] == [200, 400, 800, 1600]
    values = [value for _, value in points]
    assert values == sorted(values)  # evenly spread data: the bias is all there is
    assert values[-1] == pytest.approx(found["metrics"]["effective_rank"]["value"], rel=1e-12)


def test_labels_add_probes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.arange(800) % 4
    rows = normal(800, 16) + 8 * np.eye(16)[labels]
    what = saved(tmp_path, "x", rows)
    found = audited(capsys, what, "--labels", saved(tmp_path, "y", labels))
    assert found["probes"]["knn"]["accuracy"] > 0.97
    assert found["probes"]["linear"]["low"] <= found["probes"]["linear"]["accuracy"]
    assert "probes" not in audited(capsys, what)


def test_views_in_one_file_give_view_aware_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = normal(500, 1, 12)
    views = images + 0.1 * normal(500, 3, 12, seed=1)
    found = audited(capsys, saved(tmp_path, "views", views), "--pool", "views")
    assert found["n"] == 500 and found["conventions"]["views"] == 3
    assert found["metrics"]["lidar"]["value"] > 10
    assert 0 < found["metrics"]["alignment"]["value"] < 0.1


def test_a_reference_turns_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = saved(tmp_path, "now", normal(800, 32) * np.arange(1, 33) ** -3.0)
    before = saved(tmp_path, "before", normal(800, 32))
    found = audited(capsys, now, "--reference", before)
    assert found["verdict"]["features"]["kind"] == "dimensional collapse"
    assert "random-init" in found["verdict"]["features"]["reference"]
    assert audited(capsys, now, "--reference", now)["verdict"]["features"]["kind"] == "healthy"


def test_the_function_and_the_command_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    what = saved(tmp_path, "x", normal(300, 8))
    assert fullrank.audit(what, threads=1).to_dict() == audited(capsys, what, "--threads", "1")


def test_the_text_names_verdict_metrics_and_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whats = [saved(tmp_path, n, normal(300, 8, seed=s)) for s, n in enumerate(("a", "b"))]
    page = tmp_path / "page.html"
    assert main(["audit", *whats, "--out", str(page)]) == 0
    out = capsys.readouterr().out
    for text in ("healthy", "effective_rank", "95 % interval", "ranking by rankme", str(page)):
        assert text in out
    assert page.stat().st_size > 1000


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "what: none given"),
        (["nowhere.npy"], "nowhere.npy"),
        (["X", "--no-such"], "--no-such"),
        (["X", "--rank-by", "rankm"], "rankme"),
        (["X", "--precision", "half"], "precision"),
        (["X", "X"], "twice"),
        (["X", "--limit", "0"], "limit"),
        (["X", "--sample", "-1"], "sample"),
        (["X", "--pool", "max"], "pool"),
        (["X", "--device", "gpu"], "device"),
        (["X", "--alpha-range", "5", "3"], "alpha_range"),
        (["X", "--lidar-delta", "nan"], "lidar_delta"),
        (["X", "--lidar-delta", "-1"], "lidar_delta"),
        (["X", "--drift"], "drift"),
    ],
    ids=str,
)
def test_bad_input_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    what = saved(tmp_path, "x", normal(50, 4))
    assert main(["audit", *(what if a == "X" else a for a in argv)]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert sum(not line.startswith("measuring") for line in error.splitlines()) == 1


FACTORIES = """
import torch
from torch import nn
def mismatched(): return nn.Linear(5, 8), [torch.randn(16, 4)] * 4
def failing(): raise RuntimeError("a\\nb")
def fine(): return nn.Linear(4, 4), [torch.randn(50, 4)]
"""


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["F:mismatched"], "does not take a batch of shape (16, 4)"),
        (["F:failing"], "RuntimeError: a b"),
        (["X", "F:fine", "--drift"], "has features and"),
        (["X", "--reference", "F:fine"], "has backbone and"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    what = saved(tmp_path, "x", normal(50, 4))
    (tmp_path / "made.py").write_text(FACTORIES)
    named = {"X": what, "F": str(tmp_path / "made.py")}
    assert (
        main(["audit", *(named.get(a[0], a[0]) + a[1:] if a[0] in "XF" else a for a in argv)]) == 2
    )
    lines = [e for e in capsys.readouterr().err.splitlines() if not e.startswith("measuring")]
    assert len(lines) == 1 and message in lines[0]


def test_one_row_alone_is_no_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = audited(capsys, saved(tmp_path, "x", normal(1, 4)))
    assert any("One image alone" in text for text in found["verdict"]["features"]["evidence"])


def test_values_are_those_of_the_published_definitions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = normal(700, 12) * np.arange(1, 13) ** -0.5 + 0.3
    y = x + 0.2 * normal(700, 12, seed=1)
    np.savez(tmp_path / "v.npz", a=x, b=y)
    one = audited(capsys, saved(tmp_path, "x", x))["metrics"]
    two = audited(capsys, str(tmp_path / "v.npz"), "--key", "a,b")["metrics"]

    centred = np.linalg.svd(x - x.mean(0), compute_uv=False)
    raw = np.linalg.svd(x, compute_uv=False)

    def exp_entropy(p: np.ndarray) -> float:
        return float(np.exp(-(p * np.log(p)).sum()))

    variances = centred**2
    u, v = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y))
    pairs = ((u[:, None] - u[None]) ** 2).sum(-1)[np.triu_indices(700, 1)]
    both = np.stack([x, y])
    of_image = both.mean(0)
    between = np.cov(of_image.T, bias=True)
    within = sum((b - of_image).T @ (b - of_image) for b in both) / 1400
    expected = {
        "rankme": exp_entropy(raw / raw.sum() + 1e-7),
        "effective_rank": exp_entropy(centred / centred.sum()),
        "participation_ratio": variances.sum() ** 2 / (variances**2).sum(),
        "stable_rank": variances.sum() / variances[0],
        "condition_number": centred[0] / centred[-1],
        "anisotropy": variances[0] / variances.sum(),
        "spread": 1 - (u.mean(0) ** 2).sum(),
        "uniformity": np.log(np.exp(-2 * pairs).mean()),
    }
    for name, value in expected.items():
        assert one[name]["value"] == pytest.approx(value, rel=1e-5), name
    assert two["alignment"]["value"] == pytest.approx(((u - v) ** 2).sum(1).mean(), rel=1e-5)

    values, vectors = np.linalg.eigh(within + 1e-4 * np.eye(12))
    whitening = vectors @ np.diag(values**-0.5) @ vectors.T
    ratios = np.linalg.eigvalsh(whitening @ between @ whitening)
    published = exp_entropy(ratios / ratios.sum() + 1e-7)
    assert two["lidar"]["value"] == pytest.approx(published, rel=1e-6)


def test_rows_left_out_are_counted_in_the_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = normal(50, 4)
    rows[[3, 9]] = np.inf
    what = saved(tmp_path, "x", rows)
    assert main(["audit", what, "--bad-rows", "exclude"]) == 0
    assert "n = 48" in (out := capsys.readouterr().out) and "2 bad rows excluded" in out


def test_a_mistyped_file_is_named_with_those_near_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    what = saved(tmp_path, "features", normal(50, 4))
    assert main(["audit", what.replace("features", "feature")]) == 2
    assert f"Did you mean {what}?" in capsys.readouterr().err


def test_an_unknown_option_of_the_function_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="labels"):
        fullrank.audit(saved(tmp_path, "x", normal(20, 4)), label="y.npy")


def test_auditing_a_file_imports_neither_lightning_nor_timm(tmp_path: Path) -> None:
    what = saved(tmp_path, "x", normal(100, 4))
    code = (
        "import sys; from fullrank.cli import main\n"
        f"assert main(['audit', {what!r}, '--json']) == 0\n"
        "heavy = {'lightning', 'pytorch_lightning', 'timm', 'plotly'}\n"
        "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip().endswith("[]")


def test_state_of_the_process_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    fullrank.audit(saved(tmp_path, "x", normal(200, 8)))
    assert torch.equal(before, torch.get_rng_state())


def test_rows_too_wide_for_a_scatter_are_sketched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = normal(60, 6) @ normal(6, 17000, seed=1)
    found = audited(capsys, saved(tmp_path, "wide", wide.astype(np.float32)), "--sample", "50")
    assert found["conventions"]["spectrum"] == "sketch of 256"
    reading = found["metrics"]["participation_ratio"]
    assert reading["low"] <= reading["value"] <= reading["high"]
    lambda_ = np.linalg.svd(wide - wide.mean(0), compute_uv=False) ** 2
    assert reading["value"] == pytest.approx(lambda_.sum() ** 2 / (lambda_**2).sum(), rel=1e-3)
    assert found["verdict"]["features"]["kind"] == "dimensional collapse"
    raw = np.linalg.svd(wide.astype(np.float32).astype(float), compute_uv=False)
    p = raw / raw.sum() + 1e-7
    rankme = found["metrics"]["rankme"]
    assert rankme["low"] * (1 - 1e-4) <= np.exp(-(p * np.log(p)).sum()) <= rankme["high"]
    for name in ("alpha_req", "condition_number", "hard_rank"):
        assert found["metrics"][name]["value"] is None
        assert found["metrics"][name]["flags"][0].startswith("not for rows this wide")


@pytest.mark.parametrize(
    ("labels", "sample", "reason"),
    [
        (np.zeros(60), "4096", "all of the same class"),
        (np.full(60, -1), "4096", "the 0 sampled images"),
        (np.arange(60), "0", "no rows were sampled"),
        (np.arange(60), "3", "too few"),
    ],
    ids=["one class", "none", "no rows", "few rows"],
)
def test_labels_without_a_probe_are_said_to_give_none(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    labels: np.ndarray,
    sample: str,
    reason: str,
) -> None:
    what, given = saved(tmp_path, "x", normal(60, 4)), saved(tmp_path, "y", labels.astype(int))
    found = audited(capsys, what, "--labels", given, "--sample", sample)
    assert "probes" not in found and reason in found["conventions"]["probes"]
    assert main(["audit", what, "--labels", given, "--sample", sample]) == 0
    assert f"probes: {found['conventions']['probes']}" in capsys.readouterr().out


@pytest.mark.parametrize("value", [1e90, 1e200, -1e300])
def test_values_too_large_to_square_are_counted_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: float
) -> None:
    rows = normal(3000, 5)
    rows[[1234, 2345], 3] = value
    what = saved(tmp_path, "x", rows)
    assert main(["audit", what]) == 2
    error = capsys.readouterr().err
    assert "in 2 of 3000 samples, the first at index 1234" in error and "1e+70" in error
    found = audited(capsys, what, "--bad-rows", "exclude")
    assert (found["n"], found["conventions"]["excluded"]) == (2998, 2)
    large = audited(capsys, saved(tmp_path, "large", 1e60 * normal(90, 5)))["metrics"]
    exact = audited(capsys, saved(tmp_path, "plain", normal(90, 5)))["metrics"]
    for name in ("rankme", "effective_rank", "participation_ratio", "uniformity"):
        assert large[name]["value"] == pytest.approx(exact[name]["value"], rel=1e-6), name


def test_a_page_that_cannot_be_written_is_refused_before_measuring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file" / "page.html")
    assert main(["audit", saved(tmp_path, "x", normal(50, 4)), "--out", out]) == 2
    error = capsys.readouterr().err
    assert "out: cannot write" in error and "measuring" not in error
