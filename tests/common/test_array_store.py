import errno
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.common import array_store
from cxr_pipeline.common.array_store import ArrayStore
from cxr_pipeline.common.errors import UserError

ROW = np.dtype([("score", "<f8", (2,)), ("label", "S7")])


def opened(folder):
    return ArrayStore(folder / "store", np.float16, (2, 3))


def keys(*numbers):
    return [f"{number:064x}" for number in numbers]


def values(*numbers):
    return np.add.outer(np.array(numbers, float), np.arange(6).reshape(2, 3) / 8)


def filled(folder, n=8, rows=4):
    store = opened(folder)
    for start in range(0, n, rows):
        numbers = range(start, min(start + rows, n))
        store.write(keys(*numbers), values(*numbers))
    return store


@settings(max_examples=12)
@given(order=st.lists(st.integers(0, 10), max_size=30), rows=st.integers(1, 11))
def test_arrays_are_read_in_the_order_of_the_keys(order, rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    written = filled(folder, 11, rows)
    for store in (written, opened(folder), pickle.loads(pickle.dumps(written))):
        assert len(store) == 11
        read = store.read(keys(*order))
        assert read.dtype == np.float16
        np.testing.assert_array_equal(read, values(*order))


def test_structured_rows_and_keys_with_any_text(tmp_path):
    rows = np.array([([0.1, np.nan], b"yes"), ([0.3, 0.4], "é".encode())], ROW)
    ArrayStore(tmp_path, ROW).write(["ward 1/лёгкое.png", ""], rows)
    read = ArrayStore(tmp_path, ROW).read(["", "ward 1/лёгкое.png"])
    assert read.tobytes() == rows[::-1].tobytes()


def test_missing_keys_are_listed_once_in_the_given_order(tmp_path):
    store = filled(tmp_path)
    assert store.missing(keys(9, 0, 8, 9)) == keys(9, 8)
    assert keys(0)[0] in store
    with pytest.raises(KeyError):
        store.read(keys(0, 8))
    store.write([], np.empty((0, 2, 3)))
    assert len(list(store.folder.iterdir())) == 2


def test_reading_loads_only_the_requested_rows_into_memory(tmp_path):
    store = ArrayStore(tmp_path, np.uint8, (2**20,))
    store.write(keys(*range(64)), np.ones((64, 2**20), np.uint8))
    code = f"""
import resource, numpy as np
from pathlib import Path
from cxr_pipeline.common.array_store import ArrayStore
store = ArrayStore(Path({str(tmp_path)!r}), np.uint8, (2**20,))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert store.read([f"{{33:064x}}"]).all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16 * 1024


def assert_written_again(store):
    """Assert that the first of the two shards is missing, and that it can be written again."""
    assert store.missing(keys(*range(8))) == keys(0, 1, 2, 3)
    store.write(keys(0, 1, 2, 3), values(0, 1, 2, 3))
    np.testing.assert_array_equal(store.read(keys(*range(8))), values(*range(8)))


DAMAGE = {
    "empty": lambda content: b"",
    "values cut": lambda content: content[:130],
    "table cut": lambda content: content[:-1],
    "without table": lambda content: content[: content.rindex(b"\x93NUMPY")],
    "text": lambda content: b"not an array",
    "other type": lambda content: content.replace(b"'<f2'", b"'<i2'"),
    "header": lambda content: content.replace(b"}", b"(", 1),
    "key": lambda content: content.replace(keys(3)[0].encode(), keys(2)[0].encode()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_detected_when_the_store_is_opened(damage, tmp_path, caplog):
    path = filled(tmp_path).shard_of(keys(0)[0])
    content = path.read_bytes()
    path.write_bytes(DAMAGE[damage](content))
    assert path.read_bytes() != content
    reopened = opened(tmp_path)
    assert f"{path} is damaged and will be written again" in caplog.text
    assert_written_again(reopened)


@pytest.mark.parametrize("checked", [False, True])
@settings(max_examples=12)
@given(position=st.integers(24, 35), bit=st.integers(0, 7))
def test_a_changed_bit_is_detected_and_written_again(checked, position, bit, tmp_path_factory):
    store = filled(tmp_path_factory.mktemp("store"))
    path = store.shard_of(keys(2)[0])
    content = bytearray(path.read_bytes())
    content[128 + position] ^= 1 << bit
    path.write_bytes(content)
    if checked:
        assert store.missing(keys(5, 6)) == []
        assert store.missing(keys(5, 1)) == keys(1)
    else:
        np.testing.assert_array_equal(store.read(keys(0, 1, 3)), values(0, 1, 3))
        with pytest.raises(UserError, match=r"is damaged and has been removed\. Run the same command again"):
            store.read(keys(1, 2))
    assert not path.exists()
    assert_written_again(ArrayStore(store.folder, np.float16, (2, 3)))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.ESTALE])
@pytest.mark.parametrize("action", ["missing", "read", "open"])
def test_a_shard_that_cannot_be_opened_now_is_kept(number, action, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    store = filled(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(array_store.np, "load", fail)
        with pytest.raises(OSError, match=os.strerror(number)):
            opened(tmp_path) if action == "open" else getattr(store, action)(keys(0))
    assert store.missing(keys(0)) == []
    np.testing.assert_array_equal(opened(tmp_path).read(keys(*range(8))), values(*range(8)))


def test_a_shard_removed_by_another_process_is_missing(tmp_path):
    reading, checking = filled(tmp_path), opened(tmp_path)
    reading.shard_of(keys(0)[0]).unlink()
    assert checking.missing(keys(0, 7)) == keys(0)
    with pytest.raises(UserError, match="Run the same command again"):
        reading.read(keys(0))


def test_old_temporary_files_of_killed_processes_are_removed(tmp_path):
    folder = filled(tmp_path).folder
    old, young = folder / ".0123-old.npy", folder / ".0123-young.npy"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert len(opened(tmp_path)) == 8
    assert [old.exists(), young.exists()] == [False, True]


def test_a_full_disk_keeps_what_was_written(tmp_path, monkeypatch):
    store = filled(tmp_path, 4)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="could not be written: No space left on device"):
        store.write(keys(8), values(8))
    assert len(list(store.folder.iterdir())) == 1
    assert store.missing(keys(0, 8)) == keys(8)


WRITE = """
import sys
from pathlib import Path
import numpy as np
from cxr_pipeline.common.array_store import ArrayStore
store = ArrayStore(Path(sys.argv[1]), np.uint8, (1000,))
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    store.write([str(number)], np.full((1, 1000), number % 256, np.uint8))
"""


def start(folder, first, last):
    return subprocess.Popen([sys.executable, "-c", WRITE, str(folder), str(first), str(last)])


def test_a_killed_writer_loses_only_the_shard_that_it_was_writing(tmp_path):
    writer, stop = start(tmp_path, 0, 10**6), time.monotonic() + 60
    while len(list(tmp_path.glob("[!.]*.npy"))) < 50:
        assert time.monotonic() < stop
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    store = ArrayStore(tmp_path, np.uint8, (1000,))
    assert len(store) >= 50
    written = store.read([str(number) for number in range(len(store))])[:, 0]
    np.testing.assert_array_equal(written, np.arange(len(store), dtype=np.uint8))


def test_simultaneous_writers_with_common_keys_lose_nothing(tmp_path):
    writers = [start(tmp_path, 0, 100), start(tmp_path, 50, 150)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    store = ArrayStore(tmp_path, np.uint8, (1000,))
    assert store.read([str(number) for number in range(150)])[:, 999].tolist() == list(range(150))
    assert not list(tmp_path.glob(".*"))
