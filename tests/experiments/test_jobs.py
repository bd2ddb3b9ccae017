"""Jobs run a module that is written by a fixture."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.experiments import jobs
from cxr_pipeline.experiments.jobs import Job, Outcome, ready_jobs, run_job, run_jobs

WORK = """
    import os, sys, time
    from pathlib import Path
    from contextlib import nullcontext
    from cxr_pipeline.common.errors import Unavailable, UserError
    from cxr_pipeline.experiments.jobs import receive_payload

    payload = receive_payload()
    folder = Path(payload["folder"])
    with (folder / "started").open("a") as file:
        file.write(f"{payload['name']} {os.getpid()} {os.environ['OMP_NUM_THREADS']}\\n")
    print("output of", payload["name"])
    exit_context = nullcontext
    if {"mistake", "away", "bug", "die"} & set(payload):
        from cxr_pipeline.framework.exit import clean_exit as exit_context
    with exit_context():
        if payload.get("mistake"):
            raise UserError("there is no such image")
        if payload.get("away"):
            raise Unavailable("no server answers")
        if payload.get("bug"):
            raise KeyError("bug")
        if payload.get("die"):
            os.kill(os.getpid(), payload["die"])
        deadline = time.monotonic() + 300
        while payload.get("wait") and not (folder / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        memory = bytearray(payload.get("bytes", 0))
        (folder / f"done {payload['name']}").touch()
"""
HERE = {"scheduler": None, "memory_gb": 1}


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Make a job whose payload controls what it does."""
    (tmp_path / "cxr_test_work.py").write_text(textwrap.dedent(WORK))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))

    def make(name, *, shares=(), **payload):
        payload = {"name": name, "folder": str(tmp_path), **payload}
        return Job(name, "cxr_test_work", payload, log=str(tmp_path / "logs" / f"{name}.txt"), shares=shares)

    return make


def started(folder):
    return [line.split() for line in (folder / "started").read_text().splitlines()]


def test_a_job_is_a_process_with_threads_log_and_peak_memory(job, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "n_cores", lambda: 8)
    # The memory of this process does not count.
    ballast = bytearray(400 * 2**20)
    outcomes = [run_job(job("large", bytes=200 * 2**20), neighbours) for neighbours in (1, 3, 20)]
    assert [outcome.error for outcome in outcomes] == [None] * 3
    del ballast
    assert all(200 < outcome.peak_memory_mb < 300 and outcome.seconds > 0 for outcome in outcomes)
    assert [line[2] for line in started(tmp_path)] == ["8", "2", "1"]
    assert len({os.getpid(), *(int(line[1]) for line in started(tmp_path))}) == 4
    assert "output of large" in (tmp_path / "logs" / "large.txt").read_text()


@pytest.mark.parametrize(
    ("failure", "error", "retryable"),
    [
        ({"mistake": True}, r"^there is no such image$", False),
        ({"away": True}, r"^no server answers$", True),
        ({"bug": True}, r"KeyError: 'bug'", False),
        ({"die": signal.SIGKILL}, r"killed by signal 9", True),
        ({"die": signal.SIGTERM}, r"^Terminated", True),
    ],
)
def test_a_failed_job_has_an_error_and_may_be_retryable(job, failure, error, retryable):
    outcome = run_job(job("a", **failure), neighbours=1)
    assert re.search(error, outcome.error)
    assert outcome.retryable is retryable


def test_jobs_run_in_parallel_but_never_compute_a_shared_result_twice(job, tmp_path):
    submitted = [
        job("a", shares=("x",), wait=True),
        job("b", shares=("x",)),
        job("c", shares=("y",), mistake=True),
        job("d", shares=("y", "z")),
    ]
    outcomes = {}
    for outcome in run_jobs(submitted, width=4, workers=2, **HERE):
        outcomes[outcome.name] = outcome.error
        if outcome.name == "d":
            (tmp_path / "go").touch()
    assert outcomes == {"c": "there is no such image", "d": None, "a": None, "b": None}
    assert list(outcomes)[:2] == ["c", "d"], "a worker was free while a ran"
    order = [line[0] for line in started(tmp_path)]
    assert order.index("c") < order.index("d")
    assert order[-1] == "b"
    assert len({line[1] for line in started(tmp_path)}) == 4


def test_a_job_whose_worker_dies_ends_and_is_run_again(job, tmp_path):
    killed = []

    def kill_worker():
        """Kill the worker of the first attempt when it runs; later attempts need not wait."""
        deadline = time.monotonic() + 60
        while not (tmp_path / "started").exists() or not started(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process = psutil.Process(int(started(tmp_path)[0][1]))
        (tmp_path / "go").touch()
        process.parent().send_signal(signal.SIGKILL)
        killed.append(process.pid)

    killer = threading.Thread(target=kill_worker)
    killer.start()
    # The width of all jobs determines the threads, not the number of jobs left.
    (outcome,) = run_jobs([job("a", wait=True)], width=1000, workers=None, **HERE)
    killer.join()
    assert outcome == Outcome("a", None, outcome.seconds, outcome.peak_memory_mb)
    assert (tmp_path / "done a").exists()
    assert [line[2] for line in started(tmp_path)] == ["1", "1"]
    assert not psutil.pid_exists(killed[0]) or psutil.Process(killed[0]).status() == psutil.STATUS_ZOMBIE


SHARES = st.lists(st.lists(st.sampled_from("wxyz"), unique=True, max_size=2), max_size=9)


@given(SHARES, st.randoms(use_true_random=False))
def test_jobs_wait_only_for_results_that_others_compute(shares, random):
    waiting = [Job(str(number), "m", {}, log="/", shares=tuple(keys)) for number, keys in enumerate(shares)]
    running = []
    computed = set()
    while waiting or running:
        ready = ready_jobs(waiting, running=running, computed=computed)
        running += ready
        waiting = [job for job in waiting if job not in ready]
        computing = [key for job in running for key in job.shares if key not in computed]
        assert len(computing) == len(set(computing)), "two jobs compute the same result"
        assert all(set(job.shares) & set(computing) for job in waiting), "a job waits for nothing"
        computed.update(running.pop(random.randrange(len(running))).shares)


@pytest.mark.parametrize(
    ("prepare", "status"),
    [
        ("", -signal.SIGTERM),
        ("jobs.GRACE_SECONDS = 0.1; signal.signal(signal.SIGTERM, signal.SIG_IGN); ", jobs.ORPHANED),
    ],
)
def test_a_process_ends_when_its_parent_is_gone(prepare, status):
    code = (
        f"import signal, time; from cxr_pipeline.experiments import jobs; {prepare}"
        "print(jobs.receive_payload(), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(json.dumps({"x": 1}).encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"{'x': 1}\n"
        process.stdin.close()
        assert process.wait(timeout=20) == status
