"""Pages and tables of reproductions show what was found, and nothing else."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from fullrank.errors import UserError
from fullrank.report.claims_table import (
    BEGIN,
    END,
    check_table,
    claims_table,
    current_table,
    write_table,
)
from fullrank.report.reproduction_figures import claim_figure
from fullrank.report.reproduction_markdown import read_claims, summary, write_evidence
from fullrank.report.reproduction_page import context, write_reproduction
from fullrank.report.reproduction_words import SHOWN, number_text, run_cells, tally


def figure(**changes):
    series = [
        {"name": "a", "kind": "line", "x": [1.0, 10.0], "y": [1.0, None], "low": [], "high": []},
        {"name": "b", "kind": "line", "x": [1.0, 2.0], "y": [1.0, 2.0], "low": [0.5, None],
         "high": [1.5, 2.5]},
    ]  # fmt: skip
    whole = {"title": "A < B", "x": "steps", "y": "s", "log_x": True, "log_y": False}
    return whole | {"series": series} | changes


def bars():
    one = {"kind": "bars", "x": ["p", "q"], "y": [1.0, 2.0], "low": [0.5, 1.5], "high": [1.5, 2.5]}
    dots = {"kind": "points", "x": ["p", "q"], "y": [1.5, 1.0], "low": [1.0, 0.5], "high": [2, 1.5]}
    return figure(log_x=False, series=[one | {"name": "one"}, dots | {"name": "other"}])


def number(value=2.0, low=1.0, high=3.0, n=5):
    return {"name": "gain", "value": value, "low": low, "high": high, "unit": "points", "n": n}


def run(seed, hash_, error=None):
    layer = {"spread": 0.5, "effective_rank": 12.3, "cev_auc": 0.9, "participation_ratio": 3.0}
    probes = {"probe": {"knn": 0.712, "linear": 0.69}, "random": {"knn": 0.5, "linear": 0.6}}
    shown = {} if error else {"embedding": layer, "backbone": layer, **probes}
    return {
        "seed": seed,
        "hash": hash_,
        "folder": f"runs/simsiam-digits-conv4-{hash_}",
        "status": "failed" if error else "finished",
        "error": error,
        "seconds": 3.0,
        "verdict": {} if error else {"embedding": "healthy", "backbone": "healthy"},
        **shown,
    }


def claim(name, verdict="held", **changes):
    return {
        "name": f"tiny/{name}",
        "statement": f"It is <{name}> | so",
        "source": "Eq. 1",
        "protocol": {"cpu": "a few steps", "paper": "many steps"},
        "criterion": "The gain is above 0.",
        "care": "",
        "own": True,
        "criterion_hash": "c0ffee",
        "source_file": "experiments/claims/tiny.py",
        "source_hash": "beef",
        "verdict": verdict,
        "text": "The gain is two <b>points</b>.",
        "reason": "",
        "detail": None,
        "numbers": [number()],
        "figures": [figure(), bars()],
        "arms": [{"name": "whole", "runs": [run(0, "aaa"), run(1, "bbb", "it stopped")]}],
        "seeds": [0, 1],
    } | changes


def paper(*claims, scale="cpu"):
    return {
        "schema": 1,
        "fullrank": "0.1.0",
        "paper": "tiny",
        "title": "A tiny paper",
        "citation": "Nobody 2026",
        "about": "It is small.",
        "scale": scale,
        "environment": {"torch": "2.14", "threads": 1},
        "claims": list(claims),
    }


WHOLE = paper(claim("sure"), claim("open", "inconclusive", reason="whole, seed 1: it stopped"))


def test_the_page_shows_every_claim_and_run(tmp_path):
    page = write_reproduction(WHOLE, tmp_path / "tiny.html").read_text()
    for text in ("A tiny paper", "Nobody 2026", "The gain is above 0.", "a few steps",
                 "2.00 (1.00 to 3.00) points", "aaa", "it stopped", "1 held, 1 inconclusive",
                 "fullrank reproduce --run HASH", "71.2"):  # fmt: skip
        assert text in page, text
    assert "&lt;sure&gt;" in page and "<sure>" not in page
    assert "&lt;b&gt;points" in page
    figures = json.loads(re.search(r'id="figures"[^>]*>(.*?)</script>', page, re.DOTALL)[1])
    assert set(figures) == {"sure-0", "sure-1", "open-0", "open-1"}
    assert all(f'data-figure="{name}"' in page for name in figures)


def test_a_claim_that_is_not_judged_yet_is_shown():
    shown = context(paper(claim("new", None, numbers=[], figures=[], arms=[], text="")))
    assert shown["claims"][0]["verdict"] == "not judged yet"
    assert shown["tally"] == "Of 1 claims: 1 not judged yet."


def test_figures_are_as_they_were_given():
    drawn, key = claim_figure(figure())
    assert [item["text"] for item in key] == ["a", "b"]
    assert drawn.layout.xaxis.type == "log" and drawn.layout.yaxis.type is None
    lines = [trace for trace in drawn.data if trace.line.dash != "dot"]
    assert [list(trace.y) for trace in lines] == [[1.0, None], [1.0, 2.0]]
    drawn, _ = claim_figure(bars())
    assert [trace.type for trace in drawn.data] == ["bar", "scatter"]
    assert list(drawn.data[0].error_y.array) == [0.5, 0.5]
    assert list(drawn.data[0].error_y.arrayminus) == [0.5, 0.5]


def test_the_evidence_is_small_and_whole(tmp_path):
    pytest.importorskip("matplotlib")
    (page,) = write_evidence({"tiny": WHOLE}, tmp_path)
    text = page.read_text()
    for part in ("# A tiny paper", "1 held, 1 inconclusive", "**Held.**", "`c0ffee`", "`aaa`",
                 "it stopped", "`fullrank reproduce --run HASH --print_config`",
                 "`fullrank reproduce tiny`"):  # fmt: skip
        assert part in text, part
    # Every row of a table has as many cells as its head; a bar in a text ends none.
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    pictures = re.findall(r"\]\((figures/[^)]+)\)", text)
    assert len(pictures) == 4
    for picture in pictures:
        content = (tmp_path / picture).read_text()
        assert ElementTree.fromstring(content).tag.endswith("svg")
        assert len(content) < 100_000
    # Made again it is the same, byte for byte.
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    write_evidence({"tiny": WHOLE}, tmp_path)
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_runs_are_listed_once_a_page(tmp_path):
    pytest.importorskip("matplotlib")
    arm = {"name": "whole", "runs": [run(0, "aaa")]}
    claims = [
        claim("first", arms=[arm], figures=[]),
        claim("again", arms=[arm | {"name": "Tiny, whole"}], figures=[]),
        claim("named", arms=[arm | {"name": "wholesome"}], figures=[]),
        claim("more", arms=[arm, arm | {"runs": [run(0, "bbb")]}], figures=[]),
    ]
    (page,) = write_evidence({"tiny": paper(*claims)}, tmp_path / "evidence")
    parts = dict(part.split("\n", 1) for part in page.read_text().split("\n## "))
    assert "listed above" in parts["again"] and "`aaa`" not in parts["again"]
    for name in ("first", "named", "more"):
        assert "`aaa`" in parts[name], name
    assert "verdicts.md" not in page.read_text()
    (tmp_path / "verdicts.md").touch()
    (page,) = write_evidence({"tiny": paper(*claims)}, tmp_path / "evidence")
    assert "[verdicts](../verdicts.md)" in page.read_text()


def test_what_a_verdict_does_not_say_stands_beside_it(tmp_path):
    pytest.importorskip("matplotlib")
    careful = claim("a", care="Half of it <is> circular.", own=False, figures=[])
    whole = paper(careful, claim("b", "did not hold", figures=[]))
    (page,) = write_evidence({"tiny": whole}, tmp_path)
    assert page.read_text().count("Read with care") == 1
    assert "Half of it <is> circular." in page.read_text()
    html = write_reproduction(whole, tmp_path / "tiny.html").read_text()
    assert html.count("Read with care") == 1 and "Half of it &lt;is&gt; circular." in html
    table = claims_table(tmp_path, tmp_path)
    assert "#a) †" in table and "#b) †" not in table
    assert "1 of them are the papers' own: 1 did not hold." in table


def test_papers_that_were_not_asked_for_keep_their_evidence(tmp_path):
    pytest.importorskip("matplotlib")
    write_evidence({"tiny": WHOLE}, tmp_path)
    write_evidence({"other": paper(claim("x", figures=[])) | {"paper": "other"}}, tmp_path)
    assert list(read_claims(tmp_path)) == ["tiny", "other"]


def test_a_verdict_by_another_criterion_is_not_forgotten():
    first = summary(paper(claim("a", "did not hold")), None)
    second = summary(paper(claim("a", criterion_hash="decade")), first)
    third = summary(paper(claim("a", criterion_hash="decade")), second)
    for kept in (second, third):
        (old,) = kept["claims"][0]["earlier"]
        assert (old["criterion_hash"], old["verdict"]) == ("c0ffee", "did not hold")
    assert summary(paper(claim("a")), first)["claims"][0]["earlier"] == []


def test_the_table_goes_between_the_markers(tmp_path):
    pytest.importorskip("matplotlib")
    evidence, readme = tmp_path / "docs/evidence", tmp_path / "README.md"
    readme.write_text(f"# Mine\n\n{BEGIN}\n{END}\n\nThe rest.\n")
    assert current_table(readme) == ""
    assert claims_table(evidence, tmp_path) == "No evidence yet."
    write_evidence({"tiny": WHOLE}, evidence)
    for _ in range(2):
        write_table(readme, evidence)
        text = readme.read_text()
        assert text.startswith("# Mine\n") and text.endswith("\n\nThe rest.\n")
        assert current_table(readme) == claims_table(evidence, tmp_path)
    assert "](docs/evidence/tiny.md#sure)" in text
    for paper in read_claims(evidence).values():
        for one in paper["claims"]:
            assert current_table(readme).count(f"#{one['name'].rsplit('/', 1)[-1]})") == (
                one["verdict"] is not None
            )


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}\n{BEGIN}"])
def test_a_file_without_markers_is_refused(tmp_path, text):
    (tmp_path / "a.md").write_text(text)
    with pytest.raises(UserError, match="no markers"):
        check_table(tmp_path / "a.md")
    with pytest.raises(UserError, match="cannot be read"):
        check_table(tmp_path / "b.md")


def test_numbers_are_written_with_what_they_have():
    assert number_text(number()) == "2.00 (1.00 to 3.00) points"
    assert number_text(number(0.5, None, None, None) | {"unit": ""}) == "0.500"
    cells = dict(zip(SHOWN, run_cells(run(0, "aaa")), strict=True))
    assert (cells["over random init"], cells["AUC of the backbone"]) == ("+9.0 points", "0.900")
    without = dict(zip(SHOWN, run_cells(run(0, "aaa", "it stopped")), strict=True))
    assert without["embedding"] == "it stopped" and without["over random init"] == "–"
    held = [{"verdict": "held"}] * 2 + [{"verdict": None}]
    assert tally(held) == "Of 3 claims: 2 held, 1 not judged yet."


@pytest.mark.parametrize(
    ("content", "message"), [(b"{", "is damaged"), (b"\xff", "is damaged"), (b"[]", "holds list")]
)
def test_damaged_evidence_is_refused_and_not_written_over(tmp_path, content, message):
    assert read_claims(tmp_path) == {}
    (tmp_path / "claims.json").write_bytes(content)
    for use in (
        lambda: claims_table(tmp_path, tmp_path),
        lambda: write_evidence({"tiny": WHOLE}, tmp_path),
    ):
        with pytest.raises(UserError, match=rf"evidence: .*claims\.json {message}"):
            use()
    assert [path.name for path in tmp_path.iterdir()] == ["claims.json"]
    assert (tmp_path / "claims.json").read_bytes() == content
