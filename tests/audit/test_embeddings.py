"""Files of embeddings as subjects: rows, views, labels, bad rows, and what is not imported."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from fullrank.audit import embeddings
from fullrank.audit.open import open_subject
from fullrank.audit.subject import Options, Subject
from fullrank.errors import UserError


def rows(n=37, d=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def save(path, values):
    np.save(path, values)
    return str(path)


def views_of(subject):
    """All rows of every view, put together."""
    blocks = [block["features"] for block in subject.blocks()]
    assert all(len({len(v) for v in block}) == 1 for block in blocks)
    return [torch.cat(parts).numpy() for parts in zip(*blocks, strict=True)]


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 10 samples, so that small files have several."""
    monkeypatch.setattr(embeddings, "BLOCK_SAMPLES", 10)
    monkeypatch.setattr(embeddings, "BLOCK_BYTES", 1)


def test_a_file_is_a_subject_without_a_reference(tmp_path, small_blocks):
    subject = open_subject(save(tmp_path / "a.npy", rows()))
    assert isinstance(subject, Subject)
    assert subject.kind == "embeddings"
    assert subject.reference() is None and subject.labels is None
    assert [len(b["features"][0]) for b in subject.blocks()] == [10, 10, 10, 7]
    for _ in range(2):
        (found,) = views_of(subject)
        np.testing.assert_array_equal(found, rows())
    assert subject.conventions["dtype"] == "float32"
    assert subject.conventions["excluded"] == 0


def test_several_keys_are_views_whatever_their_row_groups(tmp_path, small_blocks):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    first, second = rows(40, seed=1), rows(40, seed=2)
    (tmp_path / "shards").mkdir()
    bounds = [0, 7, 25, 40]
    for k in range(3):
        part = slice(bounds[k], bounds[k + 1])
        table = pa.table(
            {"a": pa.array(first[part].tolist()), "b": pa.array(second[part].tolist())}
        )
        pq.write_table(table, tmp_path / "shards" / f"{k}.parquet", row_group_size=4)
    subject = open_subject(str(tmp_path / "shards"), Options(key=("a", "b")))
    found = views_of(subject)
    np.testing.assert_allclose(found[0], first)
    np.testing.assert_allclose(found[1], second)
    assert subject.conventions["views"] == 2


def test_views_of_other_shape_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=rows(5), b=rows(6))
    with pytest.raises(UserError, match=r"a has \(5, 5\), b \(6, 5\)"):
        open_subject(str(tmp_path / "a.npz"), Options(key=("a", "b")))


def test_rank_3_needs_a_pooling_and_names_the_choices(tmp_path):
    values = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32)
    path = save(tmp_path / "a.npy", values)
    with pytest.raises(UserError, match=r"\(6, 4, 3\).*cls, mean, flatten, views, tokens"):
        open_subject(path)
    np.testing.assert_array_equal(
        views_of(open_subject(path, Options(pool="cls")))[0], values[:, 0]
    )
    found = views_of(open_subject(path, Options(pool="views")))
    assert len(found) == 4
    np.testing.assert_array_equal(found[2], values[:, 2])
    for options in (Options(pool="tokens"), Options(level="tokens"), Options(level="within")):
        subject = open_subject(path, options)
        np.testing.assert_array_equal(views_of(subject)[0].reshape(6, 4, 3), values)
        assert subject.conventions["tokens"] == {"features": 4}
        assert subject.conventions["level"] != "sample"
    with pytest.raises(UserError, match="no tokens"):
        open_subject(save(tmp_path / "b.npy", rows()), Options(level="tokens"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_rows_are_counted_and_the_first_is_named(tmp_path, small_blocks, bad):
    values = rows()
    values[[12, 13, 30], [0, 4, 2]] = bad
    with pytest.raises(UserError, match=r"3 of 37 samples, the first at index 12"):
        views_of(open_subject(save(tmp_path / "a.npy", values)))


def test_bad_rows_are_excluded_from_all_views_and_from_the_labels(tmp_path, small_blocks):
    first, second, y = rows(seed=1), rows(seed=2), np.arange(37)
    first[3, 0], second[[3, 20], 1] = np.inf, np.nan
    np.savez(tmp_path / "a.npz", a=first, b=second, y=y)
    options = Options(key=("a", "b"), labels="y", bad_rows="exclude")
    good = np.setdiff1d(y, [3, 20])
    subject = open_subject(str(tmp_path / "a.npz"), options)
    assert subject.labels is not None
    np.testing.assert_array_equal(subject.labels.numpy(), good)
    for found, values in zip(views_of(subject), (first, second), strict=True):
        np.testing.assert_array_equal(found, values[good])
    assert subject.conventions["excluded"] == 2
    assert subject.conventions["first_excluded"] == 3


def test_nothing_but_bad_rows_leaves_no_rows(tmp_path):
    path = save(tmp_path / "a.npy", np.full((4, 2), np.nan))
    with pytest.raises(UserError, match="none left"):
        views_of(open_subject(path, Options(bad_rows="exclude")))


def test_values_whose_sum_overflows_are_not_bad(tmp_path):
    values = np.full((8, 4), 2e38, dtype=np.float32)
    np.testing.assert_array_equal(
        views_of(open_subject(save(tmp_path / "a.npy", values)))[0], values
    )


def test_a_smaller_limit_keeps_a_subset_in_order(tmp_path, small_blocks):
    path = save(tmp_path / "a.npy", np.arange(37.0)[:, None])
    (tmp_path / "y.txt").write_text("\n".join(str(k) for k in range(37)))
    kept = []
    for limit in (9, 20, 100):
        options = Options(limit=limit, labels=str(tmp_path / "y.txt"))
        subject = open_subject(path, options)
        found = views_of(subject)[0][:, 0].tolist()
        assert found == sorted(found) and len(found) == min(limit, 37)
        assert subject.labels is not None and subject.labels.tolist() == found
        kept.append(set(found))
    assert kept[0] < kept[1] < kept[2]


def test_labels_are_read_from_files_of_every_kind(tmp_path):
    path = save(tmp_path / "a.npy", rows(4))
    y = [2, 0, -1, 2]
    np.save(tmp_path / "y.npy", np.array(y, dtype=np.float64))
    torch.save(torch.tensor(y), tmp_path / "y.pt")
    (tmp_path / "y.txt").write_text("2\n0\n-1\n2\n")
    (tmp_path / "y.csv").write_text("label\n2\n0\n-1\n2\n")
    for name in ("y.npy", "y.pt", "y.txt", "y.csv"):
        labels = open_subject(path, Options(labels=str(tmp_path / name))).labels
        assert labels is not None and labels.tolist() == y
    (tmp_path / "words.txt").write_text("dog\ncat\ncat\nowl\n")
    np.save(tmp_path / "words.npy", np.array(["dog", "cat", "cat", "owl"]))
    for name in ("words.txt", "words.npy"):
        labels = open_subject(path, Options(labels=str(tmp_path / name))).labels
        assert labels is not None and labels.tolist() == [1, 0, 0, 2]


@pytest.mark.parametrize(
    ("values", "says"),
    [([0, 1, 2], "3 labels for 4 samples"), ([0.5, 1, 2, 3], "whole"), ([[0, 1]] * 4, "shape")],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, values, says):
    path = save(tmp_path / "a.npy", rows(4))
    labels = save(tmp_path / "y.npy", np.array(values))
    with pytest.raises(UserError, match=says):
        open_subject(path, Options(labels=labels))
    with pytest.raises(UserError, match="labels: 'gone"):
        open_subject(path, Options(labels="gone.npy"))


def test_options_name_what_they_allow():
    with pytest.raises(UserError, match=r"pool: 'cla'.*'cls'"):
        Options(pool="cla")
    for name in ("limit", "batch", "views", "size", "threads"):
        with pytest.raises(UserError, match=f"{name}: 0"):
            Options(**{name: 0})


def test_what_does_not_exist_says_what_can(tmp_path):
    with pytest.raises(UserError, match=r"does not exist.*timm/NAME"):
        open_subject(str(tmp_path / "gone"))


READ = """
import re, sys
from pathlib import Path
from fullrank.audit import embeddings
from fullrank.audit.open import open_subject
from fullrank.audit.subject import Options

def peak():  # of this process alone, which getrusage does not give after a fork
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

embeddings.BLOCK_BYTES = 8 << 20
import pyarrow.parquet, safetensors.torch
for path in sys.argv[1:]:
    n = sum(len(block["features"][0]) for block in open_subject(path).blocks())
    print(n, peak())
print([m for m in ("lightning", "pytorch_lightning", "timm", "torchvision") if m in sys.modules])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_does_not_grow_with_the_file_and_nothing_heavy_is_imported(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq
    from safetensors.numpy import save_file

    paths = []
    for kind in ("npy", "npz", "safetensors", "parquet"):
        for n in (40_000, 160_000):  # 39 and 156 MiB
            path = tmp_path / f"{n}.{kind}"
            values = np.zeros((n, 256), dtype=np.float32)
            values[:, 0] = np.arange(n)
            if kind == "npy":
                np.save(path, values)
            elif kind == "npz":
                np.savez(path, x=values)
            elif kind == "safetensors":
                save_file({"x": values}, path)
            else:
                column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 256)
                pq.write_table(
                    pa.table({"x": column}), path, row_group_size=8192, use_dictionary=False
                )
            paths.append(path)
    command = [sys.executable, "-c", READ, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *read, heavy = done.stdout.splitlines()
    counts, peaks = zip(*(map(int, line.split()) for line in read), strict=True)
    assert counts == (40_000, 160_000) * 4
    for small, large in zip(peaks[::2], peaks[1::2], strict=True):
        assert large - small < 32 * 1024, done.stdout  # KiB, of 117 MiB more
    assert heavy == "[]"
