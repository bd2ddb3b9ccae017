import json
import os
import platform
import signal
import subprocess
import sys

import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.locks import Holder, Locked, RunLock

HOLD = """
import sys, time
from pathlib import Path
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.locks import RunLock
lock = RunLock(Path(sys.argv[1]), "chest")
lock.acquire("chest_retraining")
print("taken", flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chest" / "run.lock"


@pytest.fixture
def other(path):
    """Another process that holds the lock."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"taken\n"
        yield process
        process.kill()


def acquire(path):
    lock = RunLock(path, "chest")
    lock.acquire("chest")
    return lock


def test_the_error_of_a_second_process_names_the_holder(path, other):
    with pytest.raises(Locked, match=r"^chest is already running \(chest_retraining, process") as raised:
        acquire(path)
    holder = raised.value.holder
    assert (holder.host, holder.pid) == (platform.node(), other.pid)
    for part in (str(other.pid), platform.node(), holder.since, "without changes"):
        assert part in str(raised.value)
    assert Holder(**json.loads(path.with_suffix(".json").read_text())) == holder


def test_the_lock_of_a_killed_job_is_free_and_its_record_is_replaced(path, other, caplog):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert path.with_suffix(".json").exists()
    mine = acquire(path)
    assert f"process {other.pid}" in caplog.text
    assert "Taking over its lock" in caplog.text
    assert json.loads(path.with_suffix(".json").read_text())["pid"] == os.getpid()
    mine.release()
    assert not path.with_suffix(".json").exists()


def test_an_unreadable_record_and_that_of_an_ended_process_do_not_name_the_holder(path, other):
    record = json.loads(path.with_suffix(".json").read_text())
    for text in ("{", '{"pid": 1}', json.dumps({**record, "started": record["started"] - 1000})):
        path.with_suffix(".json").write_text(text)
        with pytest.raises(Locked, match="holder unknown"):
            acquire(path)


def test_a_lock_that_cannot_be_taken_is_reported_and_released(path, tmp_path):
    path.with_suffix(".json").mkdir(parents=True)
    with pytest.raises(UserError, match=r"run\.json could not be written"):
        acquire(path)
    path.with_suffix(".json").rmdir()
    acquire(path).release()
    (tmp_path / "effusion").write_text("a file where a folder is expected")
    with pytest.raises(UserError, match=r"run\.lock could not be locked: (Not a directory|File exists)"):
        acquire(tmp_path / "effusion" / "run.lock")


def test_a_process_that_ends_releases_the_lock_and_removes_its_record(path):
    ends = HOLD.replace("time.sleep(60)", "raise KeyboardInterrupt")
    subprocess.run([sys.executable, "-c", ends, str(path)], capture_output=True)
    assert not path.with_suffix(".json").exists()
