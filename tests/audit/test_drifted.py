"""Drift between two audited models at the level of tokens."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fullrank.audit import drifted
from fullrank.audit.drifted import Drawn, drift_between
from fullrank.cli import main
from fullrank.errors import UserError
from fullrank.measure.sample import RowSample

# A tiny transformer, and copies of it whose weights are moved by a share of their size.
FACTORIES = """
import torch
from timm.models.vision_transformer import VisionTransformer

def moved(by, width=24):
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=16, patch_size=4, in_chans=1, embed_dim=width, depth=2, num_heads=2,
        num_classes=0, global_pool="",
    )
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p += by * p.std(unbiased=False) * torch.randn(p.shape, generator=g)
    images = torch.randn(40, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    return model, [images[:25], images[25:]]

def base(): return moved(0)
def same(): return moved(0)
def near(): return moved(0.1)
def far(): return moved(1.0)
def wider(): return moved(0, 32)
"""


@pytest.fixture
def made(tmp_path: Path) -> str:
    (tmp_path / "made.py").write_text(FACTORIES)
    return str(tmp_path / "made.py")


def audited(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    assert main(["audit", *argv, "--drift", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def gram(x: np.ndarray, y: np.ndarray) -> float:
    u, v = (a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (x, y))
    return float(((u @ u.transpose(0, 2, 1) - v @ v.transpose(0, 2, 1)) ** 2).mean())


def test_gram_drift_is_none_to_the_same_weights_and_grows_with_their_change(
    made: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whats = [f"{made}:{name}" for name in ("base", "same", "near", "far", "wider")]
    _, same, near, far, wider = audited(
        capsys, *whats, "--level", "tokens", "--taps", "blocks.0", "--sample", "60"
    )
    for k in range(2):  # a block and the output
        rows = [one["drift"][k] for one in (same, near, far)]
        assert {row["layer"] for row in rows} == {rows[0]["layer"]}
        assert all(row["gram_images"] == 40 for row in rows)
        assert rows[0]["gram_drift"] == 0
        assert 0 < rows[1]["gram_drift"] < rows[2]["gram_drift"] < 4
        assert rows[2]["linear_cka"] < rows[0]["linear_cka"] == pytest.approx(1, abs=1e-6)
        assert wider["drift"][k]["gram_drift"] > 0  # of another width


def test_gram_drift_of_files_is_that_of_their_tokens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 7, 5))
    y = x + 0.5 * rng.normal(size=(50, 7, 5))
    whats = [str(tmp_path / f"{name}.npy") for name in "xy"]
    for path, tokens in zip(whats, (x, y), strict=True):
        np.save(path, tokens)
    (row,) = audited(capsys, *whats, "--level", "within")[1]["drift"]
    assert row["gram_drift"] == pytest.approx(gram(x, y), rel=1e-9)
    assert row["n"] == 350
    assert "gram_drift" not in audited(capsys, *whats, "--pool", "mean")[1]["drift"][0]
    # Memory is bounded by comparing fewer images, drawn with the seed.
    monkeypatch.setattr(drifted, "IMAGES", 10)
    (row,) = audited(capsys, *whats, "--level", "within")[1]["drift"]
    assert row["gram_images"] == 10
    assert row["gram_drift"] == pytest.approx(gram(x, y), rel=0.5)


def test_text_and_page_show_it_at_levels_of_tokens_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    whats = [str(tmp_path / f"{name}.npy") for name in "xy"]
    for path in whats:
        np.save(path, rng.normal(size=(50, 7, 5)))
    page = tmp_path / "page.html"
    assert main(["audit", *whats, "--level", "tokens", "--drift", "--out", str(page)]) == 0
    assert "gram_drift" in capsys.readouterr().out
    assert "Gram drift" in page.read_text()
    assert main(["audit", *whats, "--pool", "mean", "--drift", "--out", str(page)]) == 0
    assert "gram_drift" not in capsys.readouterr().out


def test_other_positions_cannot_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(20, 6, 5)))
    np.save(tmp_path / "y.npy", np.random.default_rng(0).normal(size=(40, 3, 5)))
    whats = [str(tmp_path / f"{name}.npy") for name in "xy"]
    assert main(["audit", *whats, "--level", "tokens", "--drift"]) == 2
    assert "6 and 3 tokens an image" in capsys.readouterr().err


def test_rows_of_other_widths_are_compared_where_both_sampled_them() -> None:
    x = torch.randn(300, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    narrow, wide = RowSample(200), RowSample(60)
    narrow.update(x)
    wide.update(torch.cat([2 * x, torch.zeros(300, 9)], 1))
    first, later = (
        Drawn(name, {"features": 300}, {"features": (sample.rows, sample.index)})
        for name, sample in (("x", narrow), ("wide", wide))
    )
    for pair in ((first, later), (later, first)):
        (row,) = drift_between(*pair)
        assert row["n"] == 60
        assert row["linear_cka"] == pytest.approx(1, abs=1e-9)
        assert row["neighbourhood_overlap"] == pytest.approx(1, abs=1e-9)
    with pytest.raises(UserError, match="do not hold the same images"):
        drift_between(first, replace(later, counts={"features": 60}))
