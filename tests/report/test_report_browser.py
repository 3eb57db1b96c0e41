"""The page as Chromium shows it: drawn, quiet, offline, safe, at every width and in both themes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import NAMES, Chromium, Visit, browser, executable
from run_folders import checkup, events, start, write_run

from fullrank.report import report

pytestmark = pytest.mark.skipif(
    executable() is None,
    reason=f"needs a browser: install Debian's package 'chromium' (looked for {', '.join(NAMES)})",
)

ATTACK = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>\"'&lt;b"


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


def count_drawn(visit: Visit) -> dict[str, Any]:
    return visit.evaluate(
        """(() => {
          const plots = [...document.querySelectorAll('[data-figure]')];
          const lines = [...document.querySelectorAll('.js-line')];
          return {
            plots: plots.length,
            drawn: plots.filter((plot) => plot.querySelector('.main-svg')).length,
            bare: plots.filter((plot) => !plot.querySelector('.js-line, .point')).length,
            lines: lines.length,
            empty: lines.filter((line) => (line.getAttribute('d') || '').length < 8).length,
          };
        })()"""
    )


def nulls(value: Any) -> Any:
    """Return the same JSON value with every measured number null."""
    if isinstance(value, dict):
        return {k: v if k in ("step", "d", "n") else nulls(v) for k, v in value.items()}
    if isinstance(value, list):
        return [nulls(item) for item in value]
    return None if isinstance(value, float) else value


def make_runs(case: str, folder: Path) -> list[Path]:
    if case == "three":
        kinds = ("healthy", "complete", "dimensional")
        return [write_run(folder / kind, kind=kind) for kind in kinds]
    lines = {
        "single": events(),
        "begun": [start()],
        "unfinished, no labels": events(labels=False)[:60],
        "nulls": [nulls(event) for event in events()],
        "one check-up": [start(), checkup(0, network="random-init"), checkup(0)],
    }[case]
    return [write_run(folder / "run", lines)]


def assert_fits(visit: Visit, width: int) -> None:
    widest = "Math.max(0, ...[...document.querySelectorAll('.main-svg')].map(s => s.clientWidth))"
    visit.wait_for(f"innerWidth === {width} && {widest} <= {width}")
    assert visit.evaluate("document.documentElement.scrollWidth") <= width
    assert visit.evaluate("document.documentElement.dataset.overflow") == "false"


@pytest.mark.parametrize(
    ("case", "plots"),
    [
        ("single", 1 + 4 * 2 + 2),  # loss, vitals by layer, spectra by layer
        ("three", 1 + 4 * 2 + 2 + 3 * 2),  # and the last spectra overlaid
        ("begun", 0),
        ("unfinished, no labels", 11),
        ("nulls", 0),
        ("one check-up", 10),
    ],
)
def test_figures_are_drawn_at_every_width_and_nothing_is_fetched(
    chromium: Chromium, tmp_path: Path, case: str, plots: int
) -> None:
    page = report(make_runs(case, tmp_path), tmp_path / "page.html")
    with chromium.open(page) as visit:
        drawn = count_drawn(visit)
        assert drawn["plots"] == drawn["drawn"] == plots
        assert drawn["bare"] == drawn["empty"] == 0
        assert drawn["lines"] >= plots
        assert_fits(visit, 1200)
        visit.show(390, "light")
        assert_fits(visit, 390)
        assert_quiet_and_offline(visit, page)


def lightness(visit: Visit) -> tuple[float, float]:
    """Return how light the page and the writing on its axes are, from 0 to 255."""
    mean = "(c => { const v = c.match(/[\\d.]+/g).map(Number); return (v[0]+v[1]+v[2])/3 })"
    paper = visit.evaluate(f"{mean}(getComputedStyle(document.body).backgroundColor)")
    tick = "getComputedStyle(document.querySelector('.xtick text')).fill"
    return paper, visit.evaluate(f"{mean}({tick})")


def test_a_phone_and_the_theme_of_the_system_and_of_the_button(
    chromium: Chromium, tmp_path: Path
) -> None:
    page = report(write_run(tmp_path / "run"))
    stroke = "document.querySelector('.js-line').style.stroke"
    button = "document.getElementById('theme')"
    with chromium.open(page, width=390, scheme="dark") as visit:
        assert_fits(visit, 390)
        dark, colour = lightness(visit), visit.evaluate(stroke)
        assert visit.evaluate(f"{button}.textContent") == "Light"
        visit.show(390, "light")
        visit.wait_for(f"{stroke} !== '{colour}'")
        light = lightness(visit)
        assert light[0] > 240 > 40 > dark[0]  # the page
        assert light[1] < 130 < dark[1]  # the writing on the axes
        assert visit.evaluate(f"{button}.textContent") == "Dark"
        visit.evaluate(f"{button}.click()")
        visit.wait_for(f"{stroke} === '{colour}'")
        assert lightness(visit) == dark
        visit.evaluate("localStorage.clear()")
        assert_quiet_and_offline(visit, page)


def attacked(value: Any) -> Any:
    """Return the same JSON value with every free text an attack, keys of settings too."""
    if isinstance(value, dict):
        fixed = ("event", "network", "kind")
        return {k: v if k in fixed else attacked(v) for k, v in value.items()}
    if isinstance(value, list):
        return [attacked(item) for item in value]
    return ATTACK if isinstance(value, str) else value


def test_text_of_a_record_is_never_run(chromium: Chromium, tmp_path: Path) -> None:
    lines = [attacked(event) for event in events()]
    lines.insert(2, {"event": "warning", "text": ATTACK})
    lines[0]["environment"][ATTACK] = ATTACK
    folders = [tmp_path / name for name in ("<script>alert(1)<", "<img src=x onerror=alert(1)>")]
    for folder, seed in zip(folders, (ATTACK, "0"), strict=True):
        write_run(folder, lines)
        (folder / "config.yaml").write_text(f"'<script>hacked=1<': {seed!r}\n", encoding="utf-8")
    page = report(folders, tmp_path / "page.html")
    with chromium.open(page) as visit:
        assert visit.evaluate("window.hacked === undefined")
        assert visit.evaluate("document.querySelectorAll('script').length") == 4
        assert visit.evaluate("document.querySelectorAll('img').length") == 1  # the views
        assert "</script><script>window.hacked=1" in visit.evaluate("document.body.innerText")
        assert count_drawn(visit)["bare"] == 0
        assert_quiet_and_offline(visit, page)


def test_the_policy_refuses_what_is_not_of_the_page(chromium: Chromium, tmp_path: Path) -> None:
    page = report(write_run(tmp_path / "run", [start()]))
    text = page.read_text(encoding="utf-8")
    foreign = "<script>window.hacked=1</script><img src='http://127.0.0.1:9/x.png'>"
    page.write_text(text.replace("<main>", f"{foreign}<main>"), encoding="utf-8")
    with chromium.open(page) as visit:
        assert visit.evaluate("window.hacked === undefined")
        assert "img-src" in visit.evaluate("document.documentElement.dataset.errors")
