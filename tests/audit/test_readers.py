"""Arrays in files come back as they were written, and damaged files are named as such."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fullrank.audit.pooling import check_pool, pooled, tokens_of
from fullrank.audit.readers import choose, open_arrays
from fullrank.audit.subject import POOLS
from fullrank.errors import UserError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def rows(n=37, d=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def write(path, values):
    """Write a float32 matrix in the format of the path's suffix."""
    kind = path.suffix
    if kind == ".npy":
        np.save(path, values)
    elif kind == ".npz":
        np.savez_compressed(path, x=values)
    elif kind == ".pt":
        torch.save(torch.from_numpy(values), path)
    elif kind == ".safetensors":
        save_file({"x": torch.from_numpy(values)}, path)
    else:
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        pq.write_table(pa.table({"x": column}), path, row_group_size=10)
    return path


def read(path, chunk=8, key=(), trust=False):
    (array,) = choose(open_arrays(path, trust), key, str(path))
    parts = list(array.chunks(chunk))
    assert all(len(part) <= chunk for part in parts)
    assert sum(map(len, parts)) == array.shape[0]
    return torch.cat(parts).numpy()


KINDS = (".npy", ".npz", ".pt", ".safetensors", ".parquet")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_back_in_chunks(tmp_path, kind):
    values = rows()
    np.testing.assert_array_equal(read(write(tmp_path / f"a{kind}", values)), values)


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_named(tmp_path, kind):
    path = write(tmp_path / f"a{kind}", rows(200))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(UserError, match=r"a\.\w+.*truncated"):
        read(path)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_file_is_named(tmp_path, kind):
    path = tmp_path / f"a{kind}"
    path.touch()
    with pytest.raises(UserError, match="empty"):
        open_arrays(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_shards_is_one_array_in_the_order_of_numbers(tmp_path, kind):
    values = rows(40)
    for k, part in enumerate(np.split(values, [5, 11, 12, 30])):
        write(tmp_path / f"part-{8 + k}{kind}", part)
    (tmp_path / "README.md").write_text("not a shard")
    np.testing.assert_array_equal(read(tmp_path), values)


def test_shards_of_different_width_are_refused(tmp_path):
    write(tmp_path / "a.npy", rows(4, 5))
    write(tmp_path / "b.npy", rows(4, 6))
    with pytest.raises(UserError, match=r"differ in width.* 5.* 6"):
        open_arrays(tmp_path)


def test_shards_that_hold_other_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=rows())
    np.savez(tmp_path / "b.npz", y=rows())
    with pytest.raises(UserError, match=r"a\.npz holds x and b\.npz holds y"):
        open_arrays(tmp_path)


def test_empty_folders_and_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match="nothing in it"):
        open_arrays(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"no shard in it.*\.npy"):
        open_arrays(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        open_arrays(tmp_path / "gone.npy")
    with pytest.raises(UserError, match=r"notes\.txt"):
        open_arrays(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    "dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_real_dtype_of_numpy_keeps_its_values(tmp_path, dtype, order):
    values = (rows(20) * 30 + 100).astype(order + dtype)
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", values)
    for name in ("a.npy", "a.npz"):
        np.testing.assert_array_equal(read(tmp_path / name).astype(np.float64), values)


def test_large_integers_are_not_rounded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[2**40 + 1], [3]]))
    assert read(tmp_path / "a.npy").tolist() == [[2**40 + 1], [3]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int8, torch.float64])
def test_dtypes_of_torch_keep_their_values(tmp_path, dtype):
    values = (torch.from_numpy(rows()) * 20).to(dtype)
    torch.save({"x": values}, tmp_path / "a.pt")
    save_file({"x": values}, tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        np.testing.assert_array_equal(read(tmp_path / name), values.double().numpy())


def test_fortran_order_is_read_as_well(tmp_path):
    values = np.asfortranarray(rows())
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", x=values)
    np.testing.assert_array_equal(read(tmp_path / "a.npy"), values)
    np.testing.assert_array_equal(read(tmp_path / "a.npz"), values)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.ones((3, 2), np.complex64), "complex64"),
        (np.array([["a", "b"]]), "U1"),
        (np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]), "'a'"),
    ],
)
def test_values_that_are_no_real_numbers_are_refused(tmp_path, values, says):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(UserError, match=says):
        open_arrays(tmp_path / "a.npy")


class Marks:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_pickles_run_nothing_unless_trusted(tmp_path):
    mark = tmp_path / "ran"
    np.save(tmp_path / "a.npy", np.array([Marks(mark)], dtype=object), allow_pickle=True)
    torch.save({"x": Marks(mark)}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Marks(mark)))
    for name in ("a.npy", "a.pt", "b.pt"):
        with pytest.raises(UserError, match=r"run any\s+code"):
            open_arrays(tmp_path / name)
        assert not mark.exists()
    with pytest.raises(UserError):  # it holds no tensor, but now it was loaded
        open_arrays(tmp_path / "a.pt", trust=True)
    assert mark.exists()


def test_trusted_objects_of_one_width_are_rows(tmp_path):
    held = np.empty(4, dtype=object)
    held[:] = [np.arange(3.0) + k for k in range(4)]
    np.save(tmp_path / "a.npy", held)
    np.testing.assert_array_equal(
        read(tmp_path / "a.npy", trust=True), np.arange(3.0) + np.arange(4.0)[:, None]
    )
    held[2] = np.arange(2.0)
    np.save(tmp_path / "a.npy", held)
    with pytest.raises(UserError, match="one width"):
        open_arrays(tmp_path / "a.npy", trust=True)


def test_parquet_takes_lists_of_one_length_and_names_others(tmp_path):
    values = rows(30).astype(np.float64)
    table = pa.table({"x": pa.array(values.tolist()), "name": ["a"] * 30})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    np.testing.assert_array_equal(read(tmp_path / "a.parquet"), values)
    mixed = values.tolist()
    mixed[20] = [1.0, 2.0]
    pq.write_table(pa.table({"x": pa.array(mixed)}), tmp_path / "b.parquet")
    with pytest.raises(UserError, match="differ in width"):
        read(tmp_path / "b.parquet")
    mixed[20] = None
    pq.write_table(pa.table({"x": pa.array(mixed)}), tmp_path / "c.parquet")
    with pytest.raises(UserError, match=r"1 of .* null"):
        read(tmp_path / "c.parquet", chunk=100)
    pq.write_table(pa.table({"name": ["a"]}), tmp_path / "d.parquet")
    with pytest.raises(UserError, match=r"no column of numbers among name \(string\)"):
        open_arrays(tmp_path / "d.parquet")


def test_null_rows_of_fixed_width_are_bad_rows_like_any_other(tmp_path):
    values = rows(20).astype(np.float32)
    listed = values.tolist()
    listed[13] = None
    kind = pa.list_(pa.float32(), values.shape[1])
    pq.write_table(pa.table({"x": pa.array(listed, type=kind)}), tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet")
    assert np.isnan(found[13]).all()
    np.testing.assert_array_equal(np.delete(found, 13, 0), np.delete(values, 13, 0))


def test_parquet_lists_of_lists_are_rank_3(tmp_path):
    values = np.arange(24.0).reshape(2, 3, 4)
    pq.write_table(pa.table({"x": pa.array(values.tolist())}), tmp_path / "a.parquet")
    np.testing.assert_array_equal(read(tmp_path / "a.parquet"), values)


def test_several_arrays_need_a_key(tmp_path):
    np.savez(tmp_path / "a.npz", first=rows(seed=1), second=rows(seed=2), y=np.arange(37))
    with pytest.raises(UserError, match=r"key: .*first \(37, 5\), second \(37, 5\)"):
        read(tmp_path / "a.npz")
    np.testing.assert_array_equal(read(tmp_path / "a.npz", key=("second",)), rows(seed=2))
    with pytest.raises(UserError, match="'second'"):
        read(tmp_path / "a.npz", key=("secnd",))


@pytest.mark.parametrize("shape", [(5,), (0, 4), (4, 0)])
def test_shapes_without_rows_are_refused(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with pytest.raises(UserError, match=r"shape \("):
        read(tmp_path / "a.npy")


def test_pooling_is_what_numpy_says():
    x3, x4 = torch.randn(4, 6, 5), torch.randn(4, 5, 2, 3)
    a3, a4 = x3.numpy(), x4.numpy()
    expected = {
        (3, "cls"): a3[:, 0],
        (3, "mean"): a3.mean(1),
        (3, "flatten"): a3.reshape(4, 30),
        (3, "tokens"): a3.reshape(24, 5),
        (4, "grid"): a4.mean((2, 3)),
        (4, "grid_last"): a4.mean((1, 2)),
        (4, "flatten"): a4.reshape(4, 30),
        (4, "tokens"): a4.transpose(0, 2, 3, 1).reshape(24, 5),
    }
    for (rank, pool), value in expected.items():
        x = x3 if rank == 3 else x4
        check_pool(tuple(x.shape), pool, "x")
        (found,) = pooled(x, pool)
        np.testing.assert_allclose(found.numpy(), value, atol=1e-6)
        assert len(found) == 4 * tokens_of(tuple(x.shape), pool)
    assert all(torch.equal(v, x3[:, q]) for q, v in enumerate(pooled(x3, "views")))
    for rank, x in ((3, x3), (4, x4)):
        for pool in (None, *POOLS):
            if (rank, pool) not in expected and (rank, pool) != (3, "views"):
                with pytest.raises(UserError, match=r"pool: .*\(4, .*Allowed"):
                    check_pool(tuple(x.shape), pool, "x")
