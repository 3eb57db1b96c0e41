"""Signs in the tokens of each image, gathered over blocks and shown by an audit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fullrank.audit.token_signs import TokenSigns
from fullrank.cli import main
from fullrank.measure.tokens import per_position_spread, tokens_of_sample

NAMES = ("per_position_spread", "token_effective_rank", "token_participation_ratio")


def tokens(n: int, t: int, d: int, of_place: float = 1.0, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    own = torch.randn(n, t, d, generator=g, dtype=torch.float64)
    return own + of_place * torch.randn(1, t, d, generator=g, dtype=torch.float64)


def signs_of(x: torch.Tensor, block: int, images: int = 256) -> TokenSigns:
    signs = TokenSigns(x.shape[1], x.shape[2], images)
    for part in x.split(block):
        signs.add(part.flatten(0, 1))
    return signs


def audited(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    assert main(["audit", *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("block", [1, 7, 60])
def test_blocks_of_any_size_give_the_statistics_of_all_images_together(block: int) -> None:
    x = tokens(60, 5, 6)
    signs = signs_of(x, block)
    whole, ranks = per_position_spread(x), tokens_of_sample(x)
    assert signs.spread is not None
    assert signs.spread.within == pytest.approx(whole.within, rel=1e-10)
    assert signs.spread.total == pytest.approx(whole.total, rel=1e-10)
    found = signs.readings()
    assert found["per_position_spread"].value == pytest.approx(whole.share, rel=1e-10)
    assert found["token_effective_rank"].value == pytest.approx(ranks.effective_rank, rel=1e-10)
    assert found["token_participation_ratio"].value == pytest.approx(
        ranks.participation_ratio, rel=1e-10
    )
    assert all(reading.flags == () for reading in found.values())


def test_the_images_drawn_do_not_depend_on_the_blocks_and_are_counted() -> None:
    x = tokens(200, 4, 3)
    found = [signs_of(x, block, images=20).readings() for block in (9, 200)]
    for name in NAMES:
        assert found[0][name].value == pytest.approx(found[1][name].value, rel=1e-10)
    reading = found[0]["token_effective_rank"]
    assert reading.flags == ("from 20 sampled images",)
    assert reading.low is not None and reading.high is not None
    assert reading.low < tokens_of_sample(x).effective_rank < reading.high


def test_tokens_that_tell_only_their_place_have_no_spread() -> None:
    x = tokens(1, 6, 8).expand(40, 6, 8)
    found = signs_of(x, 16).readings()
    assert found["per_position_spread"].value == 0
    assert signs_of(x[:1], 1).readings().keys() == set(NAMES[1:])


@pytest.mark.slow
def test_the_interval_of_the_spread_holds_the_value_of_many_images() -> None:
    truth = per_position_spread(tokens(20_000, 3, 4, of_place=0)).share
    held = 0
    for seed in range(100):
        reading = signs_of(tokens(80, 3, 4, 0, seed + 1), 80).readings()["per_position_spread"]
        assert reading.low is not None and reading.high is not None
        # The value reads low by 1 - 1/n at each position.
        held += reading.low - 0.02 <= truth <= reading.high + 0.02
    assert held >= 90


@pytest.mark.parametrize("level", ["tokens", "within"])
def test_an_audit_of_tokens_has_their_signs_and_no_other_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], level: str
) -> None:
    x = tokens(70, 9, 6).numpy()
    what = str(tmp_path / "x.npy")
    np.save(what, x)
    found = audited(capsys, what, "--level", level)["metrics"]
    whole, ranks = per_position_spread(torch.tensor(x)), tokens_of_sample(torch.tensor(x))
    values = (whole.share, ranks.effective_rank, ranks.participation_ratio)
    for name, value in zip(NAMES, values, strict=True):
        assert found[name]["value"] == pytest.approx(value, rel=1e-9)
        assert found[name].keys() == {"value", "corrected", "low", "high", "flags"}
    assert not audited(capsys, what, "--pool", "mean")["metrics"].keys() & set(NAMES)


def test_excluded_images_take_all_their_tokens_with_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = tokens(50, 4, 5).numpy()
    x[3, 2, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    found = audited(capsys, str(tmp_path / "x.npy"), "--level", "within", "--bad-rows", "exclude")
    whole = per_position_spread(torch.tensor(np.delete(x, 3, axis=0)))
    assert found["metrics"]["per_position_spread"]["value"] == pytest.approx(whole.share, rel=1e-9)


def test_tokens_are_probed_with_the_label_of_their_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = 8 * np.eye(3)[y][:, None, :] + rng.normal(size=(120, 5, 3))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    what, labels = str(tmp_path / "x.npy"), str(tmp_path / "y.npy")
    probes = audited(capsys, what, "--level", "within", "--labels", labels)["probes"]
    assert probes["knn"]["accuracy"] > 0.95
    # All tokens of an image lie on one side, so that both counts are of whole images.
    assert probes["knn"]["n_train"] == 450 and probes["knn"]["n_test"] == 150
    # A label that is one image's alone cannot be learned from the image's other tokens.
    np.save(tmp_path / "y.npy", np.arange(120))
    probes = audited(capsys, what, "--level", "within", "--labels", labels)["probes"]
    assert probes["knn"]["accuracy"] == 0


def test_blocks_of_a_transformer_have_signs_each(capsys: pytest.CaptureFixture[str]) -> None:
    found = audited(
        capsys, "timm/vit_tiny_patch16_224", "--data", "digits", "--limit", "16", "--size", "32",
        "--level", "within", "--taps", "blocks.0,blocks.11",
    )  # fmt: skip
    for layer in found["layers"].values():
        assert set(NAMES) <= layer["metrics"].keys()
        assert 0 < layer["metrics"]["token_effective_rank"]["value"] <= 4
