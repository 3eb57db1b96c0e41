"""What README and docs say is so: commands parse, links resolve, code compiles, fields exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

import fullrank
from fullrank.cli import main
from fullrank.recipes.registry import recipes

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the fenced blocks of some languages."""
    return [code for language, code in FENCE.findall(page.read_text()) if language in languages]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def commands(page: Path, program: str) -> list[str]:
    """Return the command lines of a program: in blocks, and in `code` without placeholders."""
    lines = [
        line.strip().removeprefix("$ ")
        for block in blocks(page, "console", "sh", "bash")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]
    lines += [code for code in inline if not re.search(r"\b[A-Z]{3,}\b|…|\.\.\.", code)]
    return [line for line in lines if line.startswith(f"{program} ")]


def of_all_pages(program: str) -> list:
    found = [(page, line) for page in PAGES for line in commands(page, program)]
    return [pytest.param(line, id=f"{name_of(page)}: {line}") for page, line in found]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def exit_code(argv: list[str]) -> int:
    """Run the command line here, and return what a shell would see."""
    try:
        return main(argv)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.mark.parametrize("line", of_all_pages("fullrank"))
def test_a_command_line_is_understood(line, capsys, tmp_path, monkeypatch):
    from fullrank.train.resolve import resolve_command_line, split_resume

    monkeypatch.chdir(tmp_path)
    own = "from fullrank.recipes.registry import recipe as known\nrecipe = known('simsiam')\n"
    (tmp_path / "my_recipe.py").write_text(own)  # the reader's
    _, *argv = shlex.split(line, comments=True)
    if len(argv) == 1 and argv[0] not in ("recipes", "metrics", "data"):  # a mere mention
        assert exit_code([*argv, "--help"]) == 0
    elif argv[0] == "train":
        resume, rest = split_resume(argv[1:])
        if resume is not None:
            from fullrank.train.folder import MACHINE_OPTIONS

            assert {option.removeprefix("--") for option in rest[::2]} <= set(MACHINE_OPTIONS)
        elif {"--help", "--print_config"} & set(rest):
            assert exit_code(argv) == 0
        else:
            resolve_command_line(rest)
    elif argv[0] == "report":
        assert exit_code(argv) == 2
        assert "does not exist" in capsys.readouterr().err  # understood as far as the run folders
    elif argv[0] == "audit":
        from fullrank.audit.command import parse

        assert parse(argv[1:])["what"]  # what is named is the reader's own
    elif argv[0] == "explain":
        from fullrank.experiments.command import parse as understood
        from fullrank.recipes.registry import recipe

        assert recipe(understood(argv[1:])["recipe"])
    elif argv[0] == "sweep":
        from fullrank.experiments.grid import read_grid
        from fullrank.experiments.sweep_command import parse as read

        grid = ROOT / read(argv[1:])["grid"]
        assert read_grid(grid).points if grid.exists() else grid.suffix == ".yaml"  # the reader's
    elif argv[0] == "reproduce":
        from fullrank.experiments.claims.registry import papers, selected
        from fullrank.experiments.reproduce_command import parse as asked_for

        asked = asked_for(argv[1:])
        own = [name for name in asked["papers"] if name.endswith(".py")]  # the reader's
        if not own:
            assert selected(papers(asked["papers"] or ["all"]), asked["claims"])
    else:
        assert exit_code(argv) == 0


def test_the_pages_show_every_command_there_is(capsys):
    main(["--help"])
    listed = re.findall(r"^  ([a-z]+) ", capsys.readouterr().out.split("options:")[0], re.MULTILINE)
    shown = {shlex.split(line)[1] for line in commands(ROOT / "README.md", "fullrank")}
    assert len(listed) >= 4
    assert set(listed) <= shown


@pytest.mark.parametrize("line", of_all_pages("make"))
def test_a_target_is_in_the_makefile(line):
    target = shlex.split(line, comments=True)[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_compile_and_import_what_exists(page):
    for code in blocks(page, "python"):
        compile(code, name_of(page), "exec")
        imports = re.findall(r"^(?:from [\w.]+ )?import .*$", code, re.MULTILINE)
        exec("\n".join(imports), {})


def test_the_recipe_in_the_docs_is_one():
    code = next(b for b in blocks(ROOT / "docs/recipes.md", "python") if "RECIPE = " in b)
    scope: dict = {}
    exec(code, scope)
    assert scope["RECIPE"].standing() == list(scope["RECIPE"].prevents)
    assert scope["RECIPE"].preset("small").standing() == list(scope["RECIPE"].prevents)


def test_the_docs_name_every_kind_and_every_method():
    from fullrank.data.settings import data_names
    from fullrank.models.settings import FIELDS

    text = (ROOT / "docs/recipes.md").read_text()
    assert not [kind for kinds in FIELDS.values() for kind in kinds if f"`{kind}`" not in text]
    readme = (ROOT / "README.md").read_text()
    assert not [recipe.title for recipe in recipes().values() if recipe.title not in readme]
    text = (ROOT / "docs/data.md").read_text()
    assert not [name for name in data_names() if f"`{name}" not in text]


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    return fullrank.train(
        "simsiam",
        data="digits",
        preset="small",
        backbone={"name": "conv4", "width": 2},
        steps=3,
        threads=1,
        device="cpu",
        out=str(tmp_path_factory.mktemp("docs") / "run"),
    )


def test_the_record_holds_nothing_that_its_page_does_not_name(tiny_run):
    import json

    page = prose(ROOT / "docs/run-folder.md")
    named = {" ".join(code.split()) for code in re.findall(r"`([^`]+)`", page)}
    nested = {"layers": 2, "environment": 1, "parameters": 1, "backbone": 1, "embedding": 1}

    def keys(value: dict, depth: int = 0):
        for key, inner in value.items():
            yield key
            if isinstance(inner, dict) and (depth or key in nested):
                yield from keys(inner, 1)

    for line in (tiny_run.folder / "record.jsonl").read_text().splitlines():
        event = json.loads(line)
        assert event["event"] in named
        assert set(keys(event)) - {"event"} <= named, event["event"]
    for file in tiny_run.folder.iterdir():
        if file.is_file():
            assert file.name in named
    assert set(json.loads((tiny_run.folder / "encoder.json").read_text())) <= named


def test_the_backbone_is_read_as_the_page_says(tiny_run):
    scope: dict = {}
    code = next(iter(blocks(ROOT / "docs/run-folder.md", "python")))
    exec(code.replace('"runs/one"', repr(str(tiny_run.folder))), scope)
    assert scope["features"].shape == (8, scope["encoder"].dim)


def test_the_grid_in_the_docs_is_one():
    from fullrank.experiments.grid import read_grid

    (code,) = blocks(ROOT / "docs/sweep.md", "yaml")
    grid = read_grid(yaml.safe_load(code))
    assert len(grid.points) == 24 and not grid.merged


def test_the_docs_name_every_column_of_a_sweep():
    from fullrank.experiments.sweep_table import COLUMNS

    text = (ROOT / "docs/sweep.md").read_text()
    assert not [name for name in COLUMNS if f"`{name}`" not in text]


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == fullrank.__version__
    assert citation["license"] == "Apache-2.0"
    assert citation["title"] and citation["message"] and citation["authors"]


def test_pre_commit_runs_what_make_test_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text().replace("$(BIN)", ".venv/bin")
    for hook in hooks:
        assert hook["entry"] in makefile


def test_the_table_of_claims_is_that_of_the_evidence():
    from fullrank.experiments.claims.registry import papers
    from fullrank.experiments.reproduced import claim_head
    from fullrank.report.claims_table import claims_table, current_table
    from fullrank.report.reproduction_markdown import read_claims

    evidence = ROOT / "docs/evidence"
    assert current_table(ROOT / "README.md") == claims_table(evidence, ROOT)
    # Every claim was judged by the criterion that it has now.
    for paper in read_claims(evidence).values():
        kept = {claim["name"]: claim["criterion_hash"] for claim in paper["claims"]}
        (program,) = papers([paper["paper"]])
        now = {c.name: claim_head(c, paper["scale"])["criterion_hash"] for c in program.claims}
        assert kept == now, f"evidence of {paper['paper']} is of other criteria"


def test_the_paper_of_the_docs_is_one():
    from fullrank.experiments.claims.claim import Paper

    (code,) = blocks(ROOT / "docs/reproduce.md", "python")
    scope: dict = {}
    exec(code, scope)
    paper = scope["PAPER"]
    assert isinstance(paper, Paper)
    for arm in paper.claims[0].arms("cpu", [0]).values():
        assert arm[0].run.steps == 300
