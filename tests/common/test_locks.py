import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.locks import Holder, JobLock, Locked

HOLD = """
import sys, time
from pathlib import Path
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.locks import JobLock
lock = JobLock(Path(sys.argv[1]), "the retraining of chest")
lock.take("run-of-the-other")
print("taken", flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chest" / "job.lock"


@pytest.fixture
def other(path: Path):
    """Another process, which holds the lock."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"taken\n"
        yield process
        process.kill()


def lock(path: Path) -> JobLock:
    return JobLock(path, "the retraining of chest")


def test_who_comes_second_is_told_who_holds_the_lock_since_when(path: Path, other) -> None:
    with pytest.raises(Locked, match="the retraining of chest is at work already") as raised:
        lock(path).take(None)
    holder = raised.value.holder
    assert holder is not None
    assert (holder.host, holder.pid, holder.run_id) == (platform.node(), other.pid, "run-of-the-other")
    for part in (str(other.pid), platform.node(), holder.since, "run-of-the-other", "nothing was done"):
        assert part in str(raised.value)
    assert Holder(**json.loads(path.with_suffix(".json").read_text())) == holder


def test_the_lock_of_a_killed_job_is_free_and_its_record_is_replaced(path: Path, other, caplog) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert path.with_suffix(".json").exists()
    mine = lock(path)
    left = mine.take("mine")
    assert left is not None
    assert (left.pid, left.run_id) == (other.pid, "run-of-the-other")
    assert f"process {other.pid}" in caplog.text
    assert "its lock is taken over" in caplog.text
    assert json.loads(path.with_suffix(".json").read_text())["pid"] == os.getpid()
    mine.release()
    assert not path.with_suffix(".json").exists()


def test_a_lock_that_was_given_back_can_be_taken_again_in_silence(path: Path, caplog) -> None:
    for _ in range(2):
        mine = lock(path)
        assert mine.take(None) is None
        mine.release()
    assert caplog.text == ""


@pytest.mark.parametrize("record", ["{", "[]", '{"pid": 1}'])
def test_a_record_that_cannot_be_read_harms_nobody(path: Path, other, record: str) -> None:
    path.with_suffix(".json").write_text(record)
    with pytest.raises(Locked, match="a process that has not yet written who it is"):
        lock(path).take(None)


def test_the_record_of_one_that_is_gone_is_not_taken_for_the_holders(path: Path, other) -> None:
    record = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**record, "started": record["started"] - 1000}))
    with pytest.raises(Locked) as raised:
        lock(path).take(None)
    assert raised.value.holder is None


def test_a_process_is_known_by_its_start_too() -> None:
    here = Holder.here(None)
    assert not here.is_gone()
    assert Holder(here.host, here.pid, here.started - 60, here.since, None).is_gone()
    assert not Holder("elsewhere", here.pid, here.started - 60, here.since, None).is_gone()
    free = next(pid for pid in range(2, 10**6) if not psutil.pid_exists(pid))
    assert Holder(here.host, free, here.started, here.since, None).is_gone()


def test_a_lock_whose_record_cannot_be_written_is_given_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(run_id: str | None) -> Holder:
        raise OSError("no space left")

    failed = lock(path)
    with monkeypatch.context() as patched, pytest.raises(UserError, match=r"job\.json could not be written"):
        patched.setattr(Holder, "here", full)
        failed.take(None)
    mine = lock(path)
    mine.take(None)
    mine.release()
