import numpy as np
import pytest
from scipy import stats

from fullrank.experiments.measured import agreement, interval, majority, measured


def run(kind, spread=0.5, knn=0.7):
    layer = {"spread": spread, "effective_rank": 10.0, "cev_auc": 0.9, "d": 4, "spectrum": [1.0]}
    return {
        "verdict": {"embedding": kind, "backbone": "healthy"},
        "embedding": layer,
        "backbone": layer | {"spread": 2 * spread},
        "probe": {"knn": knn, "linear": 0.5},
        "random": {"knn": 0.6, "linear": 0.6},
    }


def test_the_interval_is_students():
    values = [0.2, 0.5, 0.4, 0.9]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    found = interval(values)
    assert found == pytest.approx({"mean": np.mean(values), "low": low, "high": high})
    assert interval([0.3]) == {"mean": 0.3, "low": None, "high": None}


def test_the_majority_is_more_than_half():
    assert majority(["a", "b", "a"]) == "a"
    assert majority(["a", "b"]) is None
    assert majority(["a", "b", "c"]) is None
    assert majority([]) is None


def test_runs_are_summed_up():
    runs = [run("healthy", 0.4, 0.7), run("healthy", 0.6, 0.9), run("complete collapse", 0.2, 0.5)]
    found = measured(runs)
    assert found["kind"] == "healthy"
    assert found["counts"] == {"healthy": 2, "complete collapse": 1}
    assert found["spread"]["mean"] == pytest.approx(0.4)
    assert found["backbone"]["spread"]["mean"] == pytest.approx(0.8)
    assert found["backbone"]["kind"] == "healthy"
    assert found["knn_gain"]["mean"] == pytest.approx(0.1)
    assert found["linear_gain"]["mean"] == pytest.approx(-0.1)
    assert measured([]) is None


def test_without_labels_there_is_no_gain():
    bare = run("healthy") | {"probe": {}, "random": {}}
    assert measured([bare])["knn_gain"] is None


def test_agreement_is_that_of_the_majority():
    def judged(predicted, *kinds):
        return agreement(predicted, measured([run(kind) for kind in kinds]))

    complete, dimensional = "complete collapse", "dimensional collapse"
    assert judged("healthy", "healthy", "healthy", complete) == "agrees"
    assert judged("healthy", complete, complete, "healthy") == "differs"
    assert judged("healthy", complete, dimensional, "healthy") == "mixed"
    assert judged(None, "healthy") == "no prediction"
    assert judged("healthy") == "not run"
    # One cluster of all images is one direction of their embeddings.
    assert judged("cluster collapse", complete) == "agrees"
    assert judged("cluster collapse", dimensional) == "differs"
