"""The page says what the records say: in words, in numbers, and in figures."""

from __future__ import annotations

import html
import json
import re
import resource
import signal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from run_folders import checkup, events, probe, start, verdict, write_run

from fullrank.errors import UserError
from fullrank.report import RunRecord, report
from fullrank.report.over_time import POINTS, thinned
from fullrank.report.page import context, render
from fullrank.report.spectra import FLOOR, SINGULAR_VALUES


def read_run(folder: Path, lines: list[dict[str, Any]]) -> RunRecord:
    return RunRecord.read(write_run(folder, lines))


class Page(HTMLParser):
    """The text that a reader sees, and the addresses in the page's attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.addresses: list[tuple[str, str, str]] = []
        self.inside = ""
        self.feed(text)
        self.text = html.unescape(" ".join(" ".join(self.words).split()))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        self.addresses += [(tag, name, value or "") for name, value in attrs if "://" in str(value)]

    def handle_data(self, data: str) -> None:
        if self.inside not in ("script", "style"):
            self.words.append(data)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Page]]:
    folder = tmp_path_factory.mktemp("runs")
    kinds = ("healthy", "complete", "dimensional")
    records = {kind: RunRecord.read(write_run(folder / kind, kind=kind)) for kind in kinds}
    shown = {"one": [records["healthy"]], "three": list(records.values())}
    rendered = {name: render(runs) for name, runs in shown.items()}
    return {name: (text, Page(text)) for name, text in rendered.items()}


def figures_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script id="figures" type="application/json">(.*?)</script>', text, re.S)
    assert found is not None
    assert "<" not in found[1]
    return json.loads(found[1])


def test_verdicts_come_first_with_their_evidence(pages: dict[str, tuple[str, Page]]) -> None:
    text = pages["three"][1].text
    assert text.index("Complete collapse".lower()) < text.index("What this means")
    for words in ("complete collapse", "dimensional collapse", "A second sentence of evidence."):
        assert words in text
    assert text.count("Compared with: random-init network (batch norm calibrated)") == 6
    assert text.count("The loss sits at its collapsed value.") == 1
    assert "The loss is -0.9997; a constant representation gives -1." in text


def test_the_loss_at_its_collapsed_value_is_said_only_there(
    pages: dict[str, tuple[str, Page]],
) -> None:
    assert "collapsed value" not in pages["one"][1].text


def test_runs_are_compared(pages: dict[str, tuple[str, Page]]) -> None:
    text = pages["three"][1].text
    assert "complete lacks what prevents complete collapse in healthy: stop-gradient with" in text
    assert "recipe.target stop-gradient online online" in text
    assert "fashion-mnist" in text
    assert text.count("· differs") == 0  # drawn by the style sheet
    assert len(re.findall(r"target\s+differs", text)) == 3


def test_numbers_stand_beside_the_random_init_network(pages: dict[str, tuple[str, Page]]) -> None:
    text = pages["one"][1].text
    assert "Spread 0.460 0.760 +0.300" in text
    assert "kNN accuracy 68.0 % 76.0 % +8.0 points" in text
    assert "step 200, n = 2,000 held-out images, eval mode" in text
    assert "trained on n = 10,000, tested on n = 10,000 images, kNN with k = 20" in text


def test_the_effective_rank_shown_is_that_of_the_spectrum(tmp_path: Path) -> None:
    record = RunRecord.read(write_run(tmp_path / "run"))
    (embedding,) = [g for g in context([record])["headline"] if g["title"] == "Embedding"]
    (row,) = [r for r in embedding["rows"] if r["name"] == "Effective rank"]
    assert record.last is not None
    # singular values exp(-k j), nearly a geometric distribution: entropy about 1 - log k
    rank = record.last.value("embedding", "effective_rank")
    assert rank == pytest.approx(128 * 2.718281828 / 9, rel=0.02)
    assert row["cells"][0]["run_text"].startswith(f"{rank:.1f} (")


def test_nothing_is_fetched_by_the_page(pages: dict[str, tuple[str, Page]]) -> None:
    for text, page in pages.values():
        addresses = set(page.addresses)
        assert addresses == {("a", "href", "https://arxiv.org/abs/2011.10566")}
        assert "default-src &#39;none&#39;" in text
        style = re.search(r"<style>(.*?)</style>", text, re.S)
        assert style is not None
        assert not re.search(r"url\(|@import", style[1])


def test_figures_have_names_of_colours_only(pages: dict[str, tuple[str, Page]]) -> None:
    text = pages["three"][0]
    named = set(re.findall(r'"var\((--[\w-]+)\)"', json.dumps(figures_of(text))))
    defined = set(re.findall(r"(--[\w-]+):", text))
    assert {name for name in named if not name.startswith("--sequence-")} <= defined
    colours = re.findall(r'"[a-z]*color": "([^"]*)"', json.dumps(figures_of(text)))
    assert {c for c in colours if not c.startswith("var(")} <= {"rgba(0,0,0,0)"}


def test_every_figure_is_placed_once(pages: dict[str, tuple[str, Page]]) -> None:
    for text, _ in pages.values():
        placed = re.findall(r'data-figure="([^"]+)"', text)
        assert sorted(placed) == sorted(figures_of(text))


def test_check_ups_and_references_are_in_the_figures(tmp_path: Path) -> None:
    record = RunRecord.read(write_run(tmp_path / "run"))
    figures = context([record])["figures"]
    reference, batches, run = figures["spread-embedding"]["data"]
    assert reference["y"] == [0.46, 0.46]
    assert reference["line"]["dash"] == "dash"
    assert len(batches["x"]) == 200
    assert run["x"] == [0.5, 1, 2, 4, 8, 16, 32, 64, 128, 200]  # step 0 is shown at 0.5
    assert run["y"][-1] == pytest.approx(0.76)
    assert figures["loss"]["layout"]["shapes"][0]["y0"] == -1.0
    *spectra, dashed = figures["spectrum-0-embedding"]["data"]
    assert len(spectra) == 10
    assert dashed["line"]["dash"] == "dash"
    assert all(trace["y"][0] == 1.0 for trace in spectra)


def test_equal_references_are_drawn_once(tmp_path: Path) -> None:
    records = [RunRecord.read(write_run(tmp_path / k, kind=k)) for k in ("healthy", "complete")]
    figures = context(records)["figures"]
    for name in ("effective_rank-backbone", "last-spectrum-embedding"):
        dashed = [t for t in figures[name]["data"] if t["line"].get("dash") == "dash"]
        assert len(dashed) == 1


def test_runs_of_one_title_go_by_their_folders(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    records = [read_run(folder, [start()]) for folder in folders]
    assert [run["label"] for run in context(records)["runs"]] == ["a/run", "b/run"]
    assert [run["label"] for run in context(records[:1])["runs"]] == ["SimSiam"]


def test_a_run_without_labels_says_nothing_of_probes(tmp_path: Path) -> None:
    text = Page(render([read_run(tmp_path / "run", events(labels=False))])).text
    assert not re.search(r"kNN|linear probe|Probes", text)


def test_a_stopped_run_names_the_causes(tmp_path: Path) -> None:
    stop = {"event": "stop", "step": 57, "text": "loss became NaN", "causes": ["the rate", "bf16"]}
    text = Page(render([read_run(tmp_path / "run", [*events()[:60], stop])])).text
    assert "Stopped at step 57: loss became NaN. Likely causes: the rate bf16" in text
    assert "not judged yet" in text


def test_nothing_but_nulls_still_makes_a_page(tmp_path: Path) -> None:
    empty = {"event": "checkup", "step": 1, "layers": {"embedding": {"spectrum": [0.0]}}}
    lines = [{"event": "start"}, empty, {"event": "step", "step": 1}, {"event": "verdict"}]
    text = Page(render([read_run(tmp_path / "run", lines)])).text
    assert "not judged yet" in text


def test_an_unknown_verdict_and_layer_are_shown_as_they_are(tmp_path: Path) -> None:
    judged = verdict() | {"backbone": {"kind": "odd collapse", "evidence": "One sentence."}}
    measured = checkup(1)
    measured["layers"]["stem"] = measured["layers"]["backbone"]
    page = Page(render([read_run(tmp_path / "run", [start(), measured, judged])]))
    for words in ("odd collapse", "One sentence.", "Stem"):
        assert words in page.text


def test_probes_over_time_are_drawn_when_check_ups_have_them(tmp_path: Path) -> None:
    measured = [checkup(s) | {"probe": {"knn": 0.5 + s / 100, "linear": 0.5}} for s in (0, 4, 8)]
    record = read_run(tmp_path / "run", [start(), *measured, probe("run", 10, 0.7, 0.6)])
    figure = context([record])["figures"]["probe-knn"]
    assert figure["data"][0]["y"] == [0.5, 0.54, 0.58, 0.7]


def test_long_series_are_thinned_but_keep_their_spikes() -> None:
    series: list[tuple[int, float | None]] = [(n, 0.0) for n in range(100_000)]
    series[70_123] = (70_123, 5.0)
    series[300] = (300, -5.0)
    series[9] = (9, None)
    kept = thinned(series)
    assert len(kept) <= POINTS + 2
    assert {(70_123, 5.0), (300, -5.0), (9, None), (0, 0.0)} <= set(kept)
    assert kept == sorted(kept)
    assert thinned(series[:POINTS]) == series[:POINTS]


def test_long_spectra_keep_their_head_and_their_end(tmp_path: Path) -> None:
    measured = checkup(1)
    values = [2.0 ** (-j / 100) for j in range(4095)] + [0.0]
    measured["layers"]["embedding"]["spectrum"] = values
    figures = context([read_run(tmp_path / "run", [start(), measured])])["figures"]
    (trace,) = figures["spectrum-0-embedding"]["data"]
    assert trace["x"][:64] == list(range(1, 65))
    assert (trace["x"][-1], trace["y"][-1]) == (4096, None)  # zero has no place on a log axis
    assert len(trace["x"]) == SINGULAR_VALUES
    low = figures["spectrum-0-embedding"]["layout"]["yaxis"]["range"][0]
    assert 10**low == pytest.approx(FLOOR)


def test_where_the_page_goes(tmp_path: Path) -> None:
    one, two = (write_run(tmp_path / "runs" / name, [start()]) for name in ("one", "two"))
    assert report(one) == one / "report.html"
    assert report([one, str(two)]) == (tmp_path / "runs" / "report.html").resolve()
    assert report([one, one]) == one / "report.html"  # the same run once
    assert report([one], tmp_path) == tmp_path / "report.html"
    named = tmp_path / "new" / "page.html"
    assert report([one], named) == named
    assert named.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [path.name for path in named.parent.iterdir()] == ["page.html"]


def test_what_cannot_be_drawn_or_written_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [start()])
    with pytest.raises(UserError, match="runs: none given"):
        report([])
    with pytest.raises(UserError, match="not a run folder"):
        report([run, tmp_path])
    with pytest.raises(UserError, match=r"out: cannot write .*config\.yaml"):
        report(run, run / "config.yaml" / "page.html")


def test_a_page_that_could_not_be_written_whole_leaves_the_earlier_one(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [start()])
    (run / "report.html").write_text("earlier")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))  # the disk is full after 1 MiB
    try:
        with pytest.raises(UserError, match="out: cannot write"):
            report(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (run / "report.html").read_text() == "earlier"
    assert [p.name for p in run.iterdir() if "report" in p.name] == ["report.html"]
