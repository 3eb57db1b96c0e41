"""Judges of claims on hand-written run folders: each can say held, did not hold, and neither."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fullrank.experiments.claims import (
    directset2021,
    isoloss2023,
    jha2024,
    jha2024_conditions,
    jha2024_limits,
    jing2022,
    mechanisms,
    readings,
    zhang2022,
)
from fullrank.experiments.claims.claim import Trained
from fullrank.experiments.claims.registry import paper
from fullrank.experiments.claims.statistics import interval
from fullrank.experiments.reproduced import finding_dict
from fullrank.experiments.stored import read
from fullrank.recipes.registry import recipe as find_recipe

PAPERS = ("tian2021", "directset2021")
COMPLETE, DIMENSIONAL, HEALTHY = "complete collapse", "dimensional collapse", "healthy"
JITTER = (0.0, 0.004, -0.003, 0.002, -0.004)


def layer(centre: float, rank: float, d: int, alignment: float, steepness: float) -> dict[str, Any]:
    return {
        "d": d,
        "spread": 1 - centre**2,
        "effective_rank": rank,
        "cev_auc": 0.8,
        "participation_ratio": rank / 2,
        "alignment": alignment,
        "spectrum": [math.exp(-steepness * j) for j in range(d)],
    }


@dataclass
class Story:
    """What one condition's runs show; by default a healthy run that learned."""

    centre: float = 0.3
    rank: float = 6.0
    kind: str = HEALTHY
    linear: float = 0.8
    start_centre: float = 0.6
    alignment: float = 0.3
    start_alignment: float = 0.8
    backbone_centre: float = 0.5
    backbone_rank: float = 12.0
    steepness: float = 0.5
    noise: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])

    def lines(self, seed: int) -> list[dict[str, Any]]:
        off = JITTER[seed]
        first = {
            "backbone": layer(0.7, 14.0, 16, 0.9, 0.1),
            "embedding": layer(self.start_centre, 12.0, 16, self.start_alignment, 0.1),
        }
        last = {
            "backbone": layer(self.backbone_centre + off, self.backbone_rank, 16, 0.3, 0.1),
            "embedding": layer(
                min(1.0, self.centre + off),
                self.rank + 10 * off,
                16,
                self.alignment + off,
                self.steepness,
            ),
        }
        probe = {"event": "probe", "step": 9, "knn": self.linear - 0.02 + off}
        return [
            {"event": "start", "environment": {}},
            {"event": "checkup", "step": 0, "network": "random-init", "layers": first},
            {"event": "checkup", "step": 9, "network": "run", "layers": last},
            {"event": "modes", "step": 9, "noise": [n + off for n in self.noise]},
            probe | {"network": "random-init", "linear": 0.6, "knn": 0.6},
            probe | {"network": "run", "linear": self.linear + off},
            {
                "event": "verdict",
                "backbone": {"kind": HEALTHY},
                "embedding": {"kind": self.kind},
            },
            {"event": "end", "step": 9, "seconds": 1.0},
        ]


def runs(root: Path, stories: dict[str, Story], seeds: int = 3) -> dict[str, list[Trained]]:
    found: dict[str, list[Trained]] = {}
    for arm, story in stories.items():
        for seed in range(seeds):
            folder = root / f"{len(found)}-{arm[:8].replace('/', '-')}-{seed}"
            folder.mkdir()
            lines = [json.dumps(line) + "\n" for line in story.lines(seed)]
            (folder / "record.jsonl").write_text("".join(lines))
            one = Trained(arm, seed, folder.name, folder, read(folder))
            found.setdefault(arm, []).append(one)
    return found


def judged(tmp_path: Path, name: str, stories: dict[str, Story], seeds: int = 3) -> str:
    paper_name, _, _ = name.partition("/")
    (claim,) = (c for c in paper(paper_name).claims if c.name == name)
    wanted = claim.arms("cpu", [0])
    assert stories.keys() == wanted.keys()
    found = runs(tmp_path, stories, seeds)
    for arm in stories:  # none of a condition's runs may be there
        assert claim.judge(found | {arm: []}).verdict != "held"
    told = claim.judge(found)
    assert told.text
    # Whole as it goes to the page: plain values, every number with its name.
    assert json.dumps(finding_dict(told), allow_nan=False)
    assert all(number.name and math.isfinite(number.value) for number in told.numbers)
    for series in (s for figure in told.figures for s in figure.series):
        assert len(series.x) == len(series.y) > 0
        assert all(math.isfinite(y) for y in series.y)
    return told.verdict


GOOD, WORSE, BETTER = Story(), Story(linear=0.75), Story(linear=0.85)
COLLAPSED = Story(centre=0.99, rank=1.5, kind=COMPLETE, linear=0.61)
FLAT = Story(centre=0.03, rank=2.0, kind=DIMENSIONAL, linear=0.7)


@pytest.mark.parametrize(
    "other, verdict", [(GOOD, "held"), (WORSE, "held"), (BETTER, "did not hold")]
)
def test_directcopy_rivals_directpred(tmp_path, other, verdict) -> None:
    stories = {directset2021.COPY: GOOD, directset2021.PRED: other}
    assert judged(tmp_path, "directset2021/against-directpred", stories, 5) == verdict


@pytest.mark.parametrize("other, verdict", [(WORSE, "held"), (BETTER, "did not hold")])
def test_directcopy_beats_a_trained_predictor(tmp_path, other, verdict) -> None:
    stories = {directset2021.COPY: GOOD, directset2021.TRAINED: other}
    assert judged(tmp_path, "directset2021/against-linear", stories, 5) == verdict


def test_directcopy_is_compared_with_runs_of_tian2021() -> None:
    claims = {claim.name: claim for name in PAPERS for claim in paper(name).claims}
    known = {
        config.identity()
        for configs in claims["tian2021/linear-long"].arms("cpu", [0]).values()
        for config in configs
    }
    own = claims["directset2021/against-linear"].arms("cpu", [0])
    other = claims["directset2021/against-directpred"].arms("cpu", [0])
    assert own[directset2021.TRAINED][0].identity() in known
    assert other[directset2021.PRED][0].identity() in known
    assert own[directset2021.COPY] == other[directset2021.COPY]


@pytest.mark.parametrize(
    "noises, verdict",
    [
        ((3.0, 2.5, 1.5, 0.5), "held"),
        ((0.5, 1.5, 2.5, 3.0), "did not hold"),
        ((3.0, 0.5, 3.5, 2.9), "inconclusive"),
    ],
)
def test_the_noisiest_modes_die_first(tmp_path, noises, verdict) -> None:
    stories = {
        name: Story(noise=[0.1 * top, 0.5 * top, top])
        for name, top in zip(directset2021.RISING, noises, strict=True)
    }
    assert judged(tmp_path, "directset2021/order-in-networks", stories, 5) == verdict


def test_where_no_mode_is_left_nothing_survives(tmp_path) -> None:
    (run,) = runs(tmp_path, {"none": Story(noise=[])}, 1)["none"]
    assert directset2021.surviving_noise(run, "largest") == 0
    (run,) = runs(tmp_path, {"some": Story()}, 1)["some"]
    assert directset2021.surviving_noise(run, "median") == 1.0


@pytest.mark.parametrize(
    "without, verdict",
    [
        (Story(linear=0.795, rank=5.0), "held"),
        (Story(linear=0.75), "did not hold"),
        (Story(rank=2.5), "did not hold"),
        (Story(kind=DIMENSIONAL), "did not hold"),
    ],
)
def test_isoloss_can_do_without_the_average(tmp_path, without, verdict) -> None:
    stories = {isoloss2023.WITH: GOOD, isoloss2023.WITHOUT: without}
    assert judged(tmp_path, "isoloss2023/without-momentum", stories, 5) == verdict


@pytest.mark.parametrize(
    "changed, verdict",
    [
        ({}, "held"),
        ({"none": FLAT}, "held"),
        ({"none": GOOD}, "did not hold"),
        ({"residual": FLAT}, "did not hold"),
    ],
)
def test_parts_of_simsiams_gradient(tmp_path, changed, verdict) -> None:
    stories = {"none": COLLAPSED, "centre": GOOD, "residual": GOOD, "both": GOOD} | changed
    assert judged(tmp_path, "zhang2022/simsiam-parts", stories) == verdict


@pytest.mark.parametrize(
    "changed, verdict",
    [({}, "held"), ({"residual": FLAT}, "did not hold"), ({"both": COLLAPSED}, "did not hold")],
)
def test_parts_of_a_triplets_gradient(tmp_path, changed, verdict) -> None:
    stories = {"none": COLLAPSED, "centre": FLAT, "residual": COLLAPSED, "both": FLAT} | changed
    assert judged(tmp_path, "zhang2022/triplet-parts", stories) == verdict


@pytest.mark.parametrize("bias, verdict", [(FLAT, "held"), (COLLAPSED, "did not hold")])
def test_a_bias_suffices(tmp_path, bias, verdict) -> None:
    stories = {"no predictor": COLLAPSED, "bias": bias}
    assert judged(tmp_path, "zhang2022/bias", stories) == verdict


def test_half_of_the_runs_decide_nothing(tmp_path) -> None:
    found = runs(tmp_path, {"a": COLLAPSED, "b": GOOD}, 1)
    both = {"x": [*found["a"], *found["b"]]}
    verdict, words = zhang2022.collapses_as(both, {"x": True}, (COMPLETE,))
    assert verdict == "inconclusive"
    assert "1 complete collapse, 1 healthy" in words


@pytest.mark.parametrize(
    "story, verdict",
    [
        (Story(), "held"),
        (Story(rank=13.0, backbone_rank=9.0), "did not hold"),
        (Story(steepness=0.01), "did not hold"),
    ],
)
def test_the_embedding_loses_rank_in_place_of_the_backbone(tmp_path, story, verdict) -> None:
    assert judged(tmp_path, "jing2022/embedding", {jing2022.SIMCLR: story}, 5) == verdict


@pytest.mark.parametrize(
    "probes, verdict",
    [
        ((0.85, 0.8, 0.75), "held"),
        ((0.85, 0.8, 0.82), "did not hold"),
        ((0.75, 0.8, 0.7), "did not hold"),
    ],
)
def test_projectors_are_ordered(tmp_path, probes, verdict) -> None:
    names = (jing2022.SIMCLR, jing2022.LINEAR, jing2022.NONE)
    stories = {name: Story(linear=p) for name, p in zip(names, probes, strict=True)}
    assert judged(tmp_path, "jing2022/projector", stories, 5) == verdict


@pytest.mark.parametrize("none, verdict", [(WORSE, "held"), (BETTER, "did not hold")])
def test_a_part_of_the_representation_does_better(tmp_path, none, verdict) -> None:
    stories = {jing2022.MIDDLE: GOOD, jing2022.NONE: none}
    assert judged(tmp_path, "jing2022/directclr", stories, 5) == verdict


@pytest.mark.parametrize(
    "probes, verdict",
    [((0.7, 0.75, 0.8, 0.75), "held"), ((0.7, 0.75, 0.8, 0.85), "did not hold")],
)
def test_the_optimum_lies_between(tmp_path, probes, verdict) -> None:
    names = [*(jing2022.sub_vector(share) for share in jing2022.SHARES), jing2022.NONE]
    stories = {name: Story(linear=p) for name, p in zip(names, probes, strict=True)}
    assert judged(tmp_path, "jing2022/dimensions", stories, 5) == verdict


RISEN = Story(start_centre=0.1, centre=0.4)


@pytest.mark.parametrize(
    "changed, verdict",
    [
        ({}, "held"),
        # Behind SimSiam's output batch norm the embedding's centre says nothing.
        ({"simsiam": RISEN}, "held"),
        ({"byol": RISEN}, "did not hold"),
        ({"dino": Story(backbone_centre=0.8)}, "did not hold"),
        ({"swav": Story(start_centre=0.302)}, "inconclusive"),
    ],
)
def test_the_centre_falls_everywhere(tmp_path, changed, verdict) -> None:
    stories = dict.fromkeys(jha2024_conditions.METHODS, GOOD) | changed
    assert judged(tmp_path, "jha2024/centre-falls", stories) == verdict


@pytest.mark.parametrize(
    "changed, verdict", [({}, "held"), ({"byol": Story(alignment=1.0)}, "did not hold")]
)
def test_images_stay_where_their_views_agree(tmp_path, changed, verdict) -> None:
    stories = dict.fromkeys(jha2024_conditions.METHODS, GOOD) | changed
    assert judged(tmp_path, "jha2024/per-sample-rises", stories) == verdict


@pytest.mark.parametrize(
    "first, last, verdict",
    [
        (COLLAPSED, FLAT, "held"),
        (GOOD, FLAT, "did not hold"),
        (COLLAPSED, COLLAPSED, "did not hold"),
    ],
)
def test_ablations_lengthen_the_centre_or_do_not(tmp_path, first, last, verdict) -> None:
    stories = {
        jha2024_conditions.NO_PREDICTOR: first,
        jha2024_conditions.NO_OFF_DIAGONAL: GOOD,
        jha2024_conditions.FIXED: last,
    }
    assert judged(tmp_path, "jha2024/ablations", stories) == verdict


@pytest.mark.parametrize(
    "centres, verdict",
    [
        ((0.8, 0.6, 0.5, 0.3), "held"),
        ((0.3, 0.5, 0.6, 0.8), "did not hold"),
        ((0.5, 0.6, 0.4, 0.5), "inconclusive"),
    ],
)
def test_momentum_modulates_the_centre(tmp_path, centres, verdict) -> None:
    names = [jha2024_conditions.tau_name(tau) for tau in jha2024_conditions.TAUS]
    stories = {name: Story(centre=c) for name, c in zip(names, centres, strict=True)}
    assert judged(tmp_path, "jha2024/momentum", stories) == verdict


@pytest.mark.parametrize(
    "ends, verdict",
    [((0.7, 0.75), "held"), ((0.7, 0.85), "did not hold"), ((0.7, 0.8), "did not hold")],
)
def test_accuracy_falls_towards_both_ends_of_the_penalty(tmp_path, ends, verdict) -> None:
    names = [jha2024_conditions.penalty_name(p) for p in jha2024_conditions.PENALTIES]
    stories = dict.fromkeys(names, GOOD)
    stories |= {n: Story(linear=p) for n, p in zip((names[0], names[-1]), ends, strict=True)}
    assert judged(tmp_path, "jha2024/penalty", stories, 5) == verdict


@pytest.mark.parametrize(
    "story, verdict",
    [
        (FLAT, "held"),
        (Story(centre=0.03, rank=9.0), "did not hold"),
        (Story(centre=0.4, rank=2.0, kind=DIMENSIONAL), "did not hold"),
    ],
)
def test_a_short_centre_is_not_enough(tmp_path, story, verdict) -> None:
    stories = dict.fromkeys(jha2024_conditions.FIRST_MOMENT, story)
    stories[jha2024_conditions.SPREAD] = GOOD
    assert judged(tmp_path, "jha2024/not-enough", stories) == verdict


def test_a_long_centre_is_complete_collapse(tmp_path) -> None:
    alike = {"healthy": GOOD, "flat": FLAT, "gone": COLLAPSED}
    for name, stories, verdict in (
        ("alike", alike, "held"),
        ("reversed", alike | {"gone": Story(centre=0.1, kind=COMPLETE)}, "did not hold"),
        ("none", {"healthy": GOOD}, "inconclusive"),
    ):
        (tmp_path / name).mkdir()
        found = jha2024_limits.complete(runs(tmp_path / name, stories))
        assert found.verdict == verdict, found.text


@pytest.mark.parametrize(
    "slope, verdict", [(0.0, "held"), (1.0, "did not hold"), (-1.0, "did not hold")]
)
def test_the_centre_says_little_where_nothing_collapsed(tmp_path, slope, verdict) -> None:
    # Accuracies that go up and down, or with the centre.
    swing = [0.03, -0.01, 0.01, -0.03, 0.02, -0.02, 0.0, 0.03, -0.03, 0.01, -0.01, 0.0] * 3
    stories = {
        f"{k}": Story(centre=0.1 + 0.02 * k, linear=0.7 + slope * 0.005 * k + (1 - abs(slope)) * s)
        for k, s in enumerate(swing)
    }
    stories["gone"] = COLLAPSED
    found = jha2024_limits.among_healthy(runs(tmp_path, stories, 1))
    assert found.verdict == verdict, found.text
    few = {name: stories[name] for name in list(stories)[:5]}
    (tmp_path / "few").mkdir()
    assert jha2024_limits.among_healthy(runs(tmp_path / "few", few, 1)).verdict == "inconclusive"


def test_the_area_is_how_often_one_is_above_the_other() -> None:
    assert jha2024_limits.area([3, 4], [1, 2]) == 1
    assert jha2024_limits.area([1, 2], [3, 4]) == 0
    assert jha2024_limits.area([1, 3], [2, 2]) == 0.5
    assert jha2024_limits.area([2.0], [2.0]) == 0.5


@pytest.mark.parametrize("method", mechanisms.METHODS)
def test_each_method_loses_what_its_recipe_says(tmp_path, method) -> None:
    shown = {
        COMPLETE: COLLAPSED,
        DIMENSIONAL: FLAT,
        HEALTHY: GOOD,
        "cluster collapse": COLLAPSED,
        None: GOOD,
    }
    forms = mechanisms.named_forms(method)
    assert len(forms) == len(mechanisms.forms(method))
    stories = {name: shown[cell.predicted.kind] for name, cell in forms.items()}
    (tmp_path / "again").mkdir()
    good = runs(tmp_path / "again", stories, 2)
    (tmp_path / "all").mkdir()
    assert judged(tmp_path / "all", f"mechanisms/{method}", stories) == "held"
    for name, cell in forms.items():
        if cell.predicted.kind is None:
            continue
        wrong = GOOD if cell.predicted.kind != HEALTHY else COLLAPSED
        root = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        root.mkdir()
        (claim,) = (c for c in mechanisms.PAPER.claims if c.name == f"mechanisms/{method}")
        changed = runs(root, {name: wrong}, 2)
        found = claim.judge(good | changed)
        assert found.verdict == "did not hold"
        assert name in found.text


def test_the_table_counts_forms_over_all_methods(tmp_path) -> None:
    (claim,) = (c for c in mechanisms.PAPER.claims if c.name == "mechanisms/table")
    arms = claim.arms("cpu", [0])
    found = runs(tmp_path, {"good": GOOD, "gone": COLLAPSED, "flat": FLAT}, 2)
    shown = {COMPLETE: "gone", "cluster collapse": "gone", DIMENSIONAL: "flat"}
    predicted = {
        f"{find_recipe(method).title}, {name}": cell.predicted.kind
        for method in mechanisms.METHODS
        for name, cell in mechanisms.named_forms(method).items()
    }
    assert predicted.keys() == arms.keys()
    right = {name: found[shown.get(kind, "good")] for name, kind in predicted.items()}
    told = claim.judge(right)
    assert told.verdict == "held"
    assert told.numbers[0].value == 1
    assert len(told.numbers) == 1 + len(predicted)  # a row a form
    # Were nothing to collapse, only what is healthy would agree.
    assert claim.judge(dict.fromkeys(predicted, found["good"])).verdict == "did not hold"
    healthy = [name for name, kind in predicted.items() if kind == HEALTHY]
    some = right | dict.fromkeys(healthy[:5], found["flat"])
    assert claim.judge(some).verdict == "inconclusive"
    assert claim.judge(right | {healthy[0]: []}).verdict == "inconclusive"


def test_what_simsiams_gradient_is_made_of_is_asked_elsewhere() -> None:
    names = list(mechanisms.named_forms("simsiam"))
    assert {"as published", "without stop gradient", "linear predictor", "with momentum"} < {*names}
    assert {"without weight decay", "without output batch norm"} < {*names}
    assert not any(name.startswith("gradient") for name in names)


def test_readings_of_a_run(tmp_path) -> None:
    (run,) = runs(tmp_path, {"one": Story(centre=0.6, alignment=0.5, linear=0.8)}, 1)["one"]
    assert readings.last_centre(run) == pytest.approx(0.6)
    # Two unit views at E||u - v||² = 2 - 2 E<u, v>.
    assert readings.per_sample(readings.checkups(run)[-1]["layers"]["embedding"]) ** 2 == (
        pytest.approx(1 - 0.5 / 2)
    )
    assert readings.gain(run) == pytest.approx(20)
    assert readings.probe(run, "logistic") != readings.probe(run, "logistic")  # there is none
    assert readings.main_kind([run]) == HEALTHY


def test_numbers_without_an_interval_are_their_own() -> None:
    series = readings.series_of("x", ["a", "b"], [interval([1.0]), interval([1.0, 3.0])])
    assert series.y == [1.0, 2.0]
    assert series.low[0] == series.high[0] == 1.0
    assert series.low[1] < 2.0 < series.high[1]


def test_a_mean_track_has_the_steps_that_all_runs_have() -> None:
    steps, values = jha2024._mean_track([{0: 1.0, 4: 2.0, 9: 3.0}, {0: 3.0, 9: 5.0}])
    assert steps == [0.0, 9.0]
    assert values == [2.0, 4.0]


@pytest.mark.slow
def test_arms_train_and_are_judged(tmp_path) -> None:
    """A claim's own conditions, shortened, on digits: what has no centre left stays apart."""
    from dataclasses import replace

    from fullrank.data.settings import DataSettings
    from fullrank.experiments.stored import placed
    from fullrank.experiments.training import train_one
    from fullrank.models.settings.backbone import Conv4
    from fullrank.train.config import CheckupSettings, ProbeSettings

    (claim,) = (c for c in zhang2022.PAPER.claims if c.name == "zhang2022/triplet-parts")
    arms: dict[str, list[Trained]] = {}
    for name, configs in claim.arms("cpu", [100, 101]).items():
        for config in configs:
            short = replace(
                config,
                data=DataSettings("digits"),
                backbone=Conv4(width=4),
                checkup=CheckupSettings(size=200, budget=0.0, count=2),
                probe=ProbeSettings(train=300, test=200),
                run=replace(config.run, steps=60, batch_size=64),
            )
            shown = train_one(placed(short, tmp_path))
            run = Trained(name, config.run.seed, shown["hash"], Path(shown["folder"]), shown)
            arms.setdefault(name, []).append(run)
    found = claim.judge(arms)
    assert found.verdict in ("held", "inconclusive"), found.text
    for kept in ("centre", "both"):
        for removed in ("none", "residual"):
            for a, b in zip(arms[kept], arms[removed], strict=True):
                assert readings.last_centre(a) < readings.last_centre(b)
