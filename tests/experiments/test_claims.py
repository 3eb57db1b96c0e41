"""Every claim of every paper is whole: it says what it tests, and its runs can be made."""

from __future__ import annotations

import pytest

from fullrank.errors import UserError
from fullrank.experiments.claims.claim import no_arms
from fullrank.experiments.claims.registry import ALL, NAMES, names, paper, papers, selected

PAPERS = names()
CLAIMS = [pytest.param(claim, id=claim.name) for p in PAPERS for claim in paper(p).claims]


def test_papers_are_listed_in_order():
    assert [n for n in NAMES if n in PAPERS] == PAPERS
    assert "tian2021" in PAPERS
    assert [p.name for p in papers([ALL])] == PAPERS
    assert [p.name for p in papers(["tian2021", "tian2021"])] == ["tian2021"]


@pytest.mark.parametrize("name", ["tian", "tian2012", "../tian2021"])
def test_an_unknown_paper_is_refused_with_the_nearest(name):
    with pytest.raises(UserError, match=r"paper: .* is not known.* (Did you mean|Allowed)"):
        papers([name])


def test_no_paper_at_all_is_refused():
    with pytest.raises(UserError, match="none given"):
        papers([])


def test_claims_are_chosen_by_either_name():
    whole = [paper("tian2021")]
    for name in ("tian2021/balance", "balance"):
        assert [claim.name for _, claim in selected(whole, [name])] == ["tian2021/balance"]
    assert len(selected(whole, None)) == len(whole[0].claims)
    with pytest.raises(UserError, match=r"claim: 'balanced' is not known.*balance"):
        selected(whole, ["balanced"])


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_has_claims_of_its_own(name):
    found = paper(name)
    assert found.name == name
    assert found.title and found.citation and found.claims
    short = [claim.name.removeprefix(f"{name}/") for claim in found.claims]
    assert len(set(short)) == len(short)
    assert all(claim.name.startswith(f"{name}/") for claim in found.claims)
    assert all("/" not in s and s == s.lower() for s in short)


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_says_what_it_tests(claim):
    for text in (claim.statement, claim.source, claim.criterion, *claim.protocol.values()):
        assert text.strip()
    assert claim.protocol.keys() == {"cpu", "paper"}
    assert claim.seeds >= 3 or claim.arms is no_arms


@pytest.mark.parametrize("scale", ["cpu", "paper"])
@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_says_what_it_runs(claim, scale):
    seeds = [0, 1]
    arms, again = (claim.arms(scale, seeds) for _ in range(2))
    for arm, configs in arms.items():
        assert [config.run.seed for config in configs] == seeds, arm
        assert len({config.identity() for config in configs}) == len(seeds), arm
        # The same from call to call: runs are found again.
        assert [c.identity() for c in configs] == [c.identity() for c in again[arm]]
        for config in configs:
            config.recipe.check(config.run.batch_size)
            if scale == "cpu":
                assert (config.run.device, config.run.precision) == ("cpu", "32"), arm
                assert (config.run.threads, config.run.logger) == (1, "none"), arm
    # No two conditions of a claim are the same runs.
    firsts = [configs[0].identity() for configs in arms.values()]
    assert len(set(firsts)) == len(firsts)


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["cpu", "paper"])
@pytest.mark.parametrize("name", PAPERS)
def test_every_run_comes_back_from_its_yaml(name, scale):
    """As `fullrank train --config` reads it: the same run."""
    import yaml

    from fullrank.experiments.reproduction import planned
    from fullrank.train.resolve import resolve

    for config in planned([name], scale=scale, seeds=1).configs:
        text = yaml.safe_dump(config.to_dict())
        assert resolve(yaml.safe_load(text)).identity() == config.identity(), text
