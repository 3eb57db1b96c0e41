"""The page of parity keeps what a run without a peer cannot make again."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def parity(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("threadpoolctl")
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    spec = importlib.util.spec_from_file_location("parity", BENCHMARKS / "parity.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sections_of_peers_that_are_missing_are_kept_whole(parity: ModuleType) -> None:
    page = (BENCHMARKS.parent / "docs/evidence/parity.md").read_text(encoding="utf-8")
    kept = parity.kept_sections(page, ["stable-pretraining", "no-such-peer"])
    assert kept.keys() == {"stable-pretraining"}
    section = kept["stable-pretraining"]
    assert section in page and section.count("\n## ") == 0
    assert section.count("\n| `") == 10
    # When and with what it was made stands in it.
    assert "Compared on 20" in section and "--peers" in section
    assert parity.kept_sections("", ["stable-pretraining"]) == {}
    with_it = parity.page({}, {"stable-pretraining": "no loguru"}, kept, parity.Sets())
    assert section in with_it and "10 more rows" in with_it
    assert "is not installed here" not in with_it
    assert parity.kept_sections(with_it, ["stable-pretraining"]) == kept
    without = parity.page({}, {"stable-pretraining": "no loguru"}, {}, parity.Sets())
    assert "**stable-pretraining** is not installed here (no loguru)" in without
