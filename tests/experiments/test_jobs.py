"""Jobs run in processes of a module that is written for the test."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from dask.distributed import LocalCluster

from cxr_pipeline.experiments import jobs
from cxr_pipeline.experiments.jobs import Job, Outcome, run_job, run_jobs

WORK = """
    import os, sys, time
    from pathlib import Path
    from contextlib import nullcontext
    from cxr_pipeline.common.errors import Unavailable, UserError
    from cxr_pipeline.experiments.jobs import receive

    payload = receive()
    folder = Path(payload["folder"])
    with (folder / "started").open("a") as file:
        file.write(f"{payload['name']} {os.getpid()} {os.environ['OMP_NUM_THREADS']}\\n")
    print("said", payload["name"])
    plainly = nullcontext
    if {"mistake", "away", "bug"} & set(payload):
        from cxr_pipeline.framework.exit import clean_exit as plainly
    with plainly():
        if payload.get("mistake"):
            raise UserError("there is no such image")
        if payload.get("away"):
            raise Unavailable("no server answers")
        if payload.get("bug"):
            raise KeyError("bug")
        if payload.get("die"):
            os.kill(os.getpid(), 9)
        deadline = time.monotonic() + 300
        while payload.get("wait") and not (folder / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        memory = bytearray(payload.get("bytes", 0))
        (folder / f"done {payload['name']}").touch()
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a job of a module that does what its payload says."""
    (tmp_path / "cxr_test_work.py").write_text(textwrap.dedent(WORK))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))

    def make(name: str, *, after: str | None = None, **payload: Any) -> Job:
        payload = {"name": name, "folder": str(tmp_path), **payload}
        return Job(name, "cxr_test_work", payload, log=str(tmp_path / "logs" / f"{name}.txt"), after=after)

    return make


def started(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "started").read_text().splitlines()]


def test_a_job_runs_in_a_process_of_its_own_and_is_measured(job: Any, tmp_path: Path) -> None:
    (outcome,) = run_jobs([job("large", bytes=200 * 2**20)], width=1, scheduler=None, workers=1, memory_gb=1)
    assert outcome.error is None
    assert 200 < outcome.peak_memory_mb < 500
    assert 0 < outcome.seconds < 60
    assert (tmp_path / "done large").exists()
    assert int(started(tmp_path)[0][1]) != os.getpid()
    assert "said large" in (tmp_path / "logs" / "large.txt").read_text()


def test_threads_are_shared_out(job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "n_cores", lambda: 8)
    for neighbours in (1, 3, 20):
        run_job(job("a"), neighbours=neighbours)
    assert [line[2] for line in started(tmp_path)] == ["8", "2", "1"]


@pytest.mark.parametrize(
    ("what", "error", "may_pass"),
    [
        ("mistake", r"^there is no such image$", False),
        ("away", r"^no server answers$", True),
        ("bug", r"KeyError: 'bug'", False),
        ("die", r"killed by signal 9", True),
    ],
)
def test_a_job_that_fails_says_why_and_whether_to_try_again(job: Any, what: str, error: str, may_pass: bool) -> None:
    outcome = run_job(job("a", **{what: True}), neighbours=1)
    assert outcome.error is not None
    assert re.search(error, outcome.error)
    assert outcome.may_pass is may_pass


def test_jobs_run_side_by_side_and_one_that_fails_does_not_stop_the_others(job: Any, tmp_path: Path) -> None:
    wanted = [job("a"), job("b", mistake=True), job("c", after="b"), job("d", after="c")]
    found = {outcome.name: outcome for outcome in run_jobs(wanted, width=2, scheduler=None, workers=2, memory_gb=1)}
    assert {name: outcome.error for name, outcome in found.items()} == {
        **dict.fromkeys("acd"),
        "b": "there is no such image",
    }
    order = [line[0] for line in started(tmp_path)]
    assert order.index("b") < order.index("c") < order.index("d")
    assert len({line[1] for line in started(tmp_path)}) == 4


def test_jobs_that_wait_for_each_other_have_the_whole_machine(job: Any, tmp_path: Path) -> None:
    chain = [job("a"), job("b", after="a"), job("c", after="b")]
    assert [outcome.name for outcome in run_jobs(chain, width=1, scheduler=None, workers=None, memory_gb=1)] == list(
        "abc"
    )
    assert [line[2] for line in started(tmp_path)] == [str(jobs.n_cores())] * 3


def test_jobs_that_are_left_have_the_threads_that_the_others_had(job: Any, tmp_path: Path) -> None:
    (outcome,) = run_jobs([job("a")], width=1000, scheduler=None, workers=None, memory_gb=1)
    assert (outcome.error, started(tmp_path)[0][2]) == (None, "1")


def test_no_job_waits_behind_a_long_one_while_a_worker_is_free(job: Any, tmp_path: Path) -> None:
    wanted = [job("a", wait=True), job("b"), job("c"), job("d", after="b"), job("e", after="a")]
    ended = []
    for outcome in run_jobs(wanted, width=2, scheduler=None, workers=2, memory_gb=1):
        ended.append(outcome.name)
        if ended[-1] == "d":
            (tmp_path / "go").touch()
    assert ended == ["b", "c", "d", "a", "e"]


def test_no_jobs_start_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "dask_client", lambda *_, **__: pytest.fail("a cluster was started"))
    assert list(run_jobs([], width=1, scheduler=None, workers=None, memory_gb=1)) == []


def test_a_job_whose_worker_dies_ends_and_is_run_again(job: Any, tmp_path: Path) -> None:
    def kill_worker() -> int:
        """Kill the worker that holds the first job, as soon as that runs; later ones need not wait."""
        deadline = time.monotonic() + 60
        while not (tmp_path / "started").exists() or not started(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process = psutil.Process(int(started(tmp_path)[0][1]))
        (tmp_path / "go").touch()
        process.parent().send_signal(signal.SIGKILL)
        return process.pid

    import threading

    first: list[int] = []
    killer = threading.Thread(target=lambda: first.append(kill_worker()))
    killer.start()
    (outcome,) = run_jobs([job("a", wait=True)], width=1, scheduler=None, workers=1, memory_gb=1)
    killer.join()
    assert outcome == Outcome("a", None, outcome.seconds, outcome.peak_memory_mb)
    assert (tmp_path / "done a").exists()
    assert len(started(tmp_path)) == 2
    assert not psutil.pid_exists(first[0]) or psutil.Process(first[0]).status() == psutil.STATUS_ZOMBIE


def test_jobs_run_on_a_cluster_by_its_address(job: Any, tmp_path: Path) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0) as cluster:
        outcomes = list(
            run_jobs([job("a"), job("b")], width=2, scheduler=cluster.scheduler_address, workers=None, memory_gb=1)
        )
    assert {outcome.name: outcome.error for outcome in outcomes} == {"a": None, "b": None}


def test_as_many_can_run_at_a_time_as_none_waits_for() -> None:
    assert jobs.n_at_a_time({"a": None, "b": "a", "c": "b"}) == 1
    assert jobs.n_at_a_time({"b": "a", "d": None, "e": "d"}) == 2
    assert jobs.n_at_a_time({"a": None, "b": "a", "c": "a"}) == 2


def test_a_process_ends_when_whoever_sent_its_payload_is_gone(tmp_path: Path) -> None:
    code = (
        "import time; from cxr_pipeline.experiments.jobs import receive; print(receive(), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps({"x": 1}).encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"{'x': 1}\n"
        process.stdin.close()
        assert process.wait(timeout=20) == jobs.ORPHANED
