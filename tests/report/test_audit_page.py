"""The page of an audit says what the audit found, and Chromium shows it whole, offline and safe."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from audits import FEW, deep, layer_audit, several, single
from chromium import NAMES, Chromium, Visit, browser, executable

from fullrank.audit.verb import Audit, Audits
from fullrank.errors import UserError
from fullrank.measure.table import Reading
from fullrank.measure.verdict import Verdict
from fullrank.report.audit_layers import in_depth, leading, side_by_side
from fullrank.report.audit_page import context, render_audit, write_audit
from fullrank.report.audit_tracks import Axis, reach_of, relative_axis, shared_axis, track
from fullrank.report.audit_words import conditions, grouped, labels, plain
from fullrank.report.numbers import significant

ATTACK = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>\"'&lt;b"
CASES = {"single": single, "several": several, "deep": deep}


class Tables(HTMLParser):
    """The page's text, and the cells of its tables by row."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.inside = ""
        self.in_row = False
        self.feed(page)
        self.text = _joined(self.words)
        self.rows = [[_joined([cell]) for cell in row] for row in self.rows]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        if tag == "tr":
            self.rows.append([])
            self.in_row = True
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "small" and self.in_row:
            self.rows[-1][-1] += " "

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr":
            self.in_row = False

    def handle_data(self, data: str) -> None:
        if self.inside in ("script", "style"):
            return
        self.words.append(data)
        if self.in_row and self.rows[-1]:
            self.rows[-1][-1] += data


def _joined(words: list[str]) -> str:
    return html.unescape(" ".join(" ".join(words).split()))


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: render_audit(make()) for name, make in CASES.items()}


def figures_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script id="figures" type="application/json">(.*?)</script>', page, re.S)
    assert found is not None
    return json.loads(found[1])


def test_verdicts_come_first_then_vital_signs_then_the_rest(pages: dict[str, str]) -> None:
    text = Tables(pages["several"]).text
    order = ["complete collapse", "Vital signs", "Ranking", "Probes", "Spectrum", "Every metric"]
    places = [text.index(words) for words in [*order, "Drift", "Convergence", "Conditions"]]
    assert places == sorted(places)
    for audit in several().audits:
        for words in (*audit.main.verdict.evidence, audit.main.verdict.reference):
            assert words in text


@pytest.mark.parametrize("case", CASES)
def test_every_metric_stands_with_its_correction_interval_and_flags(
    pages: dict[str, str], case: str
) -> None:
    audits = CASES[case]()
    rows = Tables(pages[case]).rows
    for audit in audits.audits:
        for layer in audit.layers.values():
            for name, reading in layer.metrics.items():
                numbers = [
                    "–" if x is None else significant(x, 4)
                    for x in (reading.value, reading.corrected)
                ]
                ends = (reading.low, reading.high)
                between = "–" if None in ends else " to ".join(significant(x, 4) for x in ends)
                expected = [*numbers, between, "", "; ".join(reading.flags)]
                found = [row[-5:] for row in rows]
                assert expected in found, (audit.what, layer.layer, name)


def test_numbers_written_are_within_half_a_unit_of_their_last_digit(pages: dict[str, str]) -> None:
    (row,) = [r for r in Tables(pages["several"]).rows if r[0].startswith("twonn")][:1]
    shown = float(row[2])
    assert abs(shown - several().audits[0].main.metrics["twonn"].value) <= 0.005  # type: ignore[operator]


def test_vital_signs_are_the_plug_in_values_with_their_range() -> None:
    audits = single()
    (backbone, embedding) = context(audits)["vitals"]
    vitals = audits.audits[0].layers["embedding"].vitals
    cells = {row["name"]: row["cells"][0] for row in embedding["rows"]}
    assert cells["Spread"]["text"] == "0.760"
    assert cells["Spread"]["track"].disc == 76.0  # of a range from 0 to 1
    assert cells["Tail (CEV-AUC)"]["track"].disc == pytest.approx(
        200 * (vitals["cev_auc"] - 0.5), abs=0.01
    )
    rank = cells["Effective rank"]
    assert rank["text"] == (
        f"{significant(vitals['effective_rank'])} ({100 * vitals['rank_share']:.1f}\u202f%)"
    )
    assert rank["track"].ring == pytest.approx(100 * vitals["effective_rank"] / 128, abs=0.01)
    assert rank["track"].disc == pytest.approx(104 * vitals["effective_rank"] / 128, abs=0.01)
    # views of one image as far apart as two images is twice the spread
    assert cells["Alignment"]["track"].disc == pytest.approx(
        100 * vitals["alignment"] / (2 * vitals["spread"]),
        abs=0.01,  # type: ignore[operator]
    )
    assert backbone["note"] == "n = 2,000, d = 64, n/d = 31.2"


def test_alignment_is_left_out_where_there_is_one_view() -> None:
    found = layer_audit("features")
    found = replace(found, vitals=found.vitals | {"alignment": None})
    (group,) = context(Audits([Audit("x.npy", "embeddings", {"features": found})]))["vitals"]
    assert [row["name"] for row in group["rows"]] == ["Spread", "Effective rank", "Tail (CEV-AUC)"]


def test_what_is_undefined_is_a_dash_with_its_flag(pages: dict[str, str]) -> None:
    rows = [row for row in Tables(pages["single"]).rows if row[0].startswith("alpha_req")]
    assert [row[1:] for row in rows] == [["–", "–", "–", "", "undefined"]] * 2
    rows = [row for row in Tables(pages["single"]).rows if row[0].startswith("anisotropy")]
    assert rows[0][1:] == ["0.2130", "–", "–", "", "no error bar"]


def test_a_metric_that_only_some_have_is_said_not_to_be_computed() -> None:
    one, two = layer_audit("backbone"), layer_audit("backbone")
    del two.metrics["lidar"]
    audits = [Audit(what, "model", {"backbone": x}) for what, x in (("a", one), ("b", two))]
    page = Tables(render_audit(Audits(audits)))
    (row,) = [row for row in page.rows if row[-1] == "not computed"]
    assert row == ["b", "–", "–", "–", "", "not computed"]


def test_a_metric_that_the_listing_does_not_know_is_shown_without_words() -> None:
    found = layer_audit("features")
    found.metrics["novel_rank"] = Reading(3.25, None, 3.0, 3.5)
    page = render_audit(Audits([Audit("x.npy", "embeddings", {"features": found})]))
    assert ["novel_rank", "3.250", "–", "3.000 to 3.500", "", ""] in Tables(page).rows
    assert 'id="word-novel_rank"' not in page
    assert grouped(["novel_rank", "rankme"])[-1] == ("others", ["novel_rank"])


def test_every_name_opens_the_words_of_the_listing(pages: dict[str, str]) -> None:
    from fullrank.measure.listing import metrics

    page = pages["single"]
    opened = set(re.findall(r'popovertarget="word-(\w+)"', page))
    assert opened == set(re.findall(r'popover id="word-(\w+)"', page))
    assert opened == set(single().audits[0].main.metrics) & set(metrics())
    for name in opened:
        assert html.escape(metrics()[name].fails, quote=False).replace("'", "&#39;") in page


def test_ranking_drift_and_probes(pages: dict[str, str]) -> None:
    rows = Tables(pages["several"]).rows
    assert ["1", "timm/resnet18", "62.29", "1 to 2", "91.3 %", ""] in rows
    assert ["3", "two/features.npy", "– collapsed: last", "3", "0.0 %", ""] in rows
    drift = ["Backbone", "one/features.npy", "timm/resnet18", "2,000", "0.733", "0.366", "0.183"]
    assert drift in rows
    assert ["kNN accuracy", "one/features.npy", "81.0 %", "78.3 % to 83.7 %", ""] in rows
    first, _, last = context(several())["ranking"]
    assert (first["track"].left, first["track"].width, last["track"].disc) == (0, 50, 100)
    assert context(several())["probes"]["chance"] == 10


def test_every_convention_is_listed(pages: dict[str, str]) -> None:
    rows = Tables(pages["single"]).rows
    assert ["alpha_range", "3, 100"] in rows
    assert ["rankme_epsilon", "1e-07"] in rows
    (d,) = [row for row in rows if row[0] == "d" and len(row) == 2]
    assert d[1] == "backbone 64embedding 128"
    assert plain({"a": None, "b": [True, 0.5]}) == "a: –, b: yes, 0.5"


def test_conditions_say_what_must_be_known_before_a_number() -> None:
    text = ", ".join(conditions(layer_audit("backbone")).values())
    assert text == (
        "n = 2,000 images, d = 64, n/d = 31.2, 2 views, eval mode, mean pooling, "
        "data fashion-mnist, test split, random weights"
    )


def test_figures_draw_the_numbers_of_the_audit(pages: dict[str, str]) -> None:
    drawn = figures_of(pages["several"])
    spectra = drawn["spectrum-0"]["data"]
    assert [trace["name"] for trace in spectra] == [
        "one/features.npy",
        "two/features.npy",
        "timm/resnet18",
    ]
    # sigma_j = exp(-decay j / d): over the share j/d a straight line on a logarithmic axis
    for trace, decay in zip(spectra, (4, 8, 60), strict=True):
        for x, y in list(zip(trace["x"], trace["y"], strict=True))[1:30]:
            first = trace["x"][0]
            assert math.log(y) == pytest.approx(-decay * (x - first), abs=0.05)
    curve = drawn["convergence-0-effective_rank"]
    found = several().audits[0].main.convergence["effective_rank"]
    assert list(zip(curve["data"][0]["x"], curve["data"][0]["y"], strict=True)) == found
    assert len(curve["layout"]["shapes"]) == 3  # the corrected value of each
    assert "shapes" not in drawn["convergence-0-spread"]["layout"]


def test_the_depth_profile_goes_from_input_to_output(pages: dict[str, str]) -> None:
    audits = deep()
    layers = in_depth(audits.audits[0])
    assert [layer.layer for layer in layers][-2:] == ["layer4.1", "backbone"]
    (trace,) = figures_of(pages["deep"])["depth-effective_rank"]["data"]
    readings = [layer.metrics["effective_rank"] for layer in layers]
    assert trace["y"] == [r.corrected for r in readings]
    for up, reading in zip(trace["error_y"]["array"], readings, strict=True):
        assert reading.corrected + up == pytest.approx(reading.high)
    text = Tables(pages["deep"]).text
    assert "6 more layers: 6 healthy" in text  # the two that collapsed are not folded
    assert text.index("Evidence for dimensional collapse of layer4.1") < text.index("6 more layers")
    assert len(leading(audits.audits)) == 1
    assert len(side_by_side(audits.audits)) == 9


def test_main_layers_of_different_names_stand_side_by_side() -> None:
    file = Audit("x.npy", "embeddings", {"features": layer_audit("features")})
    (run,) = single().audits
    groups = side_by_side([file, run])
    assert [(g.title, len(g.members)) for g in groups] == [("Main layer", 2), ("Embedding", 1)]
    assert groups[0].note.startswith("features / backbone: ")
    assert "data-figure" in render_audit(Audits([file, run]))


def test_names_are_as_short_as_keeps_them_apart() -> None:
    def named(*whats: tuple[str, str]) -> list[str]:
        return labels([Audit(what, kind, {"x": layer_audit("x")}) for what, kind in whats])

    assert named(("runs/a/one.npy", "embeddings")) == ["one.npy"]
    assert named(("a/x.npy", "embeddings"), ("b/x.npy", "embeddings")) == ["a/x.npy", "b/x.npy"]
    assert named(("timm/vit", "model"), ("runs/vit", "run")) == ["timm/vit", "vit"]


def test_marks_lie_where_numbers_are() -> None:
    axis = Axis(1, 100, logarithmic=True)
    assert [axis.place(x) for x in (0.01, 1, 10, 100, 1e6, None)] == [0, 0, 50, 100, 100, None]
    drawn = track(Axis(0, 10), 5, 4, 7, 6)
    assert (drawn.disc, drawn.ring, drawn.left, drawn.width) == (60, 50, 40, 30)
    assert track(Axis(0, 10), math.nan, None, 3).width is None
    readings = [Reading(x, None, x - 0.01 * abs(x), x + 0.019 * abs(x)) for x in (3.0, -40.0)]
    assert reach_of(readings) == 0.02
    ends = [relative_axis(r, 0.02) for r in readings]
    assert [(a.low, a.high) for a in ends if a] == [(2.94, 3.06), (-40.8, -39.2)]
    assert relative_axis(Reading(0.0, None, None, None), 0.1) is None
    assert shared_axis([Reading(None, None, None, None)]) is None
    wide = shared_axis([Reading(0.001, None, None, None), Reading(5.0, None, None, None)])
    assert wide is not None and wide.logarithmic


def test_a_collapse_without_any_number_still_makes_a_page() -> None:
    found = layer_audit("features")
    nothing = {name: Reading(None, None, None, None, ("undefined",)) for name in found.metrics}
    flat = found.vitals | {
        "spectrum": [0.0] * 8,
        "spread": 0.0,
        "rank_share": 0.0,
        "effective_rank": 0.0,
        "alignment": 0.0,
    }
    verdict = Verdict("complete collapse", ("All rows are one point.",), "none given")
    found = replace(found, vitals=flat, metrics=nothing, verdict=verdict)
    audits = Audits([Audit("x.npy", "embeddings", {"features": found})])
    page = Tables(render_audit(audits))
    (group,) = context(audits)["vitals"]
    assert [row["cells"][0]["track"].disc for row in group["rows"][:2]] == [0, 0]
    assert "All rows are one point." in page.text
    assert "Spectrum" not in page.text


def test_where_the_page_goes(tmp_path: Path) -> None:
    assert write_audit(single(), tmp_path) == tmp_path / "audit.html"
    named = tmp_path / "new" / "page.html"
    assert write_audit(single(), str(named)) == named
    assert named.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [path.name for path in named.parent.iterdir()] == ["page.html"]
    with pytest.raises(UserError, match=r"out: cannot write .*page\.html.*x\.html"):
        write_audit(single(), named / "x.html")
    with pytest.raises(UserError, match="audits: none given"):
        write_audit(Audits([]), named)


def test_figures_are_placed_once_in_colours_of_the_page(pages: dict[str, str]) -> None:
    for page in pages.values():
        drawn = figures_of(page)
        assert sorted(re.findall(r'data-figure="([^"]+)"', page)) == sorted(drawn)
        defined = set(re.findall(r"(--[\w-]+):", page))
        colours = set(re.findall(r'"[a-z]*color": "([^"]*)"', json.dumps(drawn)))
        named = {c[4:-1] for c in colours if c.startswith("var(")}
        assert {name for name in named if not name.startswith("--sequence-")} <= defined
        assert {c for c in colours if not c.startswith("var(")} <= {"rgba(0,0,0,0)"}
        assert "default-src &#39;none&#39;" in page
        assert not re.search(r'(src|href)="(?!data:)', page.partition('id="figures"')[0])


needs_browser = pytest.mark.skipif(
    executable() is None,
    reason=f"needs a browser: install Debian's package 'chromium' (looked for {', '.join(NAMES)})",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    program = executable()
    assert program is not None
    with browser(program) as running:
        yield running


def assert_quiet_and_offline(visit: Visit, page: Path) -> None:
    assert visit.console == []
    assert visit.evaluate("document.documentElement.dataset.errors ?? ''") == ""
    fetched = [url for url in visit.requests if not url.startswith(("data:", "about:"))]
    assert fetched == [page.resolve().as_uri()]


def assert_fits(visit: Visit, width: int) -> None:
    widest = "Math.max(0, ...[...document.querySelectorAll('.main-svg')].map(s => s.clientWidth))"
    visit.wait_for(f"innerWidth === {width} && {widest} <= {width}")
    assert visit.evaluate("document.documentElement.scrollWidth") <= width
    assert visit.evaluate("document.documentElement.dataset.overflow") == "false"


@needs_browser
@pytest.mark.parametrize(("case", "plots"), [("single", 2), ("several", 1 + 4), ("deep", 2 + 4)])
def test_chromium_draws_the_page_at_every_width_and_fetches_nothing(
    chromium: Chromium, pages: dict[str, str], tmp_path: Path, case: str, plots: int
) -> None:
    page = tmp_path / "page.html"
    page.write_text(pages[case], encoding="utf-8")
    every = "[...document.querySelectorAll('[data-figure]')]"
    with chromium.open(page) as visit:
        assert visit.evaluate(f"{every}.length") == plots
        assert visit.evaluate(f"{every}.every(plot => plot.querySelector('.js-line, .point'))")
        assert_fits(visit, 1200)
        visit.show(390, "dark")
        assert_fits(visit, 390)
        opened = "document.querySelectorAll('details').forEach(d => d.open = true)"
        visit.evaluate(f"{opened}, window.dispatchEvent(new Event('resize'))")
        assert_fits(visit, 390)
        assert_quiet_and_offline(visit, page)


@needs_browser
def test_the_words_of_a_metric_open_from_its_name(
    chromium: Chromium, pages: dict[str, str], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text(pages["single"], encoding="utf-8")
    shown = "getComputedStyle(document.getElementById('word-rankme')).display !== 'none'"
    with chromium.open(page, width=390) as visit:
        assert not visit.evaluate(shown)
        visit.evaluate("document.querySelector('[popovertarget=word-rankme]').click()")
        assert visit.evaluate(shown)
        box = "document.getElementById('word-rankme').getBoundingClientRect()"
        assert visit.evaluate(f"{box}.left >= 0 && {box}.right <= 390")
        assert_quiet_and_offline(visit, page)


@needs_browser
def test_text_of_an_audit_is_never_run(chromium: Chromium, tmp_path: Path) -> None:
    def attacked(what: str) -> Audit:
        layers = {}
        for name in (ATTACK, f"x{ATTACK}", f"y{ATTACK}"):
            found = layer_audit(name, convergence={ATTACK: [(10, 1.0), (20, 2.0)]})
            found.metrics[ATTACK] = Reading(1.0, None, None, None, (ATTACK,))
            found.conventions.update({"data": ATTACK, "mode": ATTACK, ATTACK: {ATTACK: ATTACK}})
            verdict = Verdict("healthy", (ATTACK,), ATTACK)
            layers[name] = replace(found, verdict=verdict)
        return Audit(what, "model", layers)

    audits = Audits([attacked(ATTACK), attacked("<script>window.hacked=1</script>")])
    page = write_audit(audits, tmp_path / "page.html")
    with chromium.open(page) as visit:
        assert visit.evaluate("window.hacked === undefined")
        assert visit.evaluate("document.querySelectorAll('script').length") == 4
        assert visit.evaluate("document.querySelectorAll('img').length") == 0
        assert "</script><script>window.hacked=1" in visit.evaluate("document.body.innerText")
        assert_quiet_and_offline(visit, page)
        visit.show(390, "light")
        assert_fits(visit, 390)


def test_flags_of_a_small_sample_stand_beside_the_vital_sign(pages: dict[str, str]) -> None:
    rows = [row for row in Tables(pages["deep"]).rows if row[0] == "Effective rank"]
    assert FEW in rows[0][2]
