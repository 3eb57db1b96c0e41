"""Files are whole or not there, however many write them."""

from __future__ import annotations

import threading

import pytest

from fullrank.errors import UserError
from fullrank.train.storage import write_whole


def test_writers_of_one_file_at_once_leave_one_of_their_contents(tmp_path):
    path, failures = tmp_path / "results.json", []
    contents = [bytes([i]) * 100_000 for i in range(4)]

    def write(content):
        try:
            for _ in range(25):
                write_whole(path, content)
                assert path.read_bytes() in contents
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match=r"there cannot be written .*Allowed: a folder that can"):
        write_whole(tmp_path / "there", b"content")
    with pytest.raises(FileNotFoundError):  # no word of the disk's
        write_whole(tmp_path / "nowhere" / "file", b"content")
    assert [place.name for place in tmp_path.iterdir()] == ["there"]
