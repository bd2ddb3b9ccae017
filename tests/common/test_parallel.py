import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import partial

import psutil
import pytest
from dask.distributed import LocalCluster

from cxr_pipeline.common import parallel
from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.common.parallel import dask_client, map_in_order, threads_by_host, workers_that_fit


@pytest.fixture(scope="module")
def client():
    """A client of two worker processes."""
    with dask_client(None, workers=2) as client:
        yield client


@pytest.fixture
def shared(client, monkeypatch):
    """Let the tests share the worker processes, which take seconds to start."""
    monkeypatch.setattr(parallel, "dask_client", lambda *_, **__: nullcontext(client))


def describe(item):
    import cv2

    return item, os.getpid(), cv2.getNumThreads()


def fail(_):
    raise UserError("The disk is full.")


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(marker, item):
    if not marker.exists():
        marker.touch()
        die(item)
    return item


def test_threads_are_counted_by_host_unless_the_scheduler_was_killed(client):
    assert threads_by_host(client) == {"127.0.0.1": 2}

    class Client:
        def scheduler_info(self, n_workers):
            """Return what a Dask client returns after its scheduler was killed."""
            return {"type": "Scheduler"}

    with pytest.raises(Unavailable, match="The Dask scheduler is no longer available"):
        threads_by_host(Client())


def test_results_are_in_order_from_worker_processes_with_one_thread_each(shared):
    items, pids, n_threads = zip(*map_in_order(describe, range(20), workers=2), strict=True)
    assert items == tuple(range(20))
    assert os.getpid() not in pids
    assert set(n_threads) == {1}
    assert [pid for _, pid, _ in map_in_order(describe, range(2), workers=1)] == [os.getpid()] * 2


@pytest.mark.parametrize("workers", [1, 2])
def test_items_are_consumed_lazily(workers, shared):
    items = iter(range(100))
    results = map_in_order(abs, items, workers=workers, pending=5)
    assert [next(results), next(results)] == [0, 1]
    results.close()
    assert next(items) == 6


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_function_is_raised(workers, shared):
    with pytest.raises(UserError, match=r"^The disk is full\.$"):
        list(map_in_order(fail, range(2), workers=workers))


def test_a_killed_worker_is_replaced_unless_it_is_killed_every_time(tmp_path, shared):
    assert list(map_in_order(partial(die_once, tmp_path / "died"), range(4), workers=2)) == [0, 1, 2, 3]
    with pytest.raises(Unavailable, match="killed several times, most likely because memory ran out"):
        list(map_in_order(die, range(1), workers=2))


SLEEP = """
import signal, time
from cxr_pipeline.common.parallel import map_in_order
if __name__ == "__main__":
    # A shell starts background processes with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    list(map_in_order(time.sleep, [600, 600], workers=2))
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(signum, tmp_path):
    (tmp_path / "sleep.py").write_text(SLEEP)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "sleep.py")], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    parent, end = psutil.Process(process.pid), time.monotonic() + 60
    while len(parent.children()) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(3)
    workers = parent.children(recursive=True)
    # Ctrl-C reaches the whole process group; SIGKILL only the parent.
    process.kill() if signum == signal.SIGKILL else os.killpg(process.pid, signum)
    assert process.wait(60) != 0
    assert not psutil.wait_procs(workers, timeout=30)[1]


def test_a_scheduler_that_cannot_be_used_is_an_error(monkeypatch):
    monkeypatch.setattr(parallel, "CONNECT_SECONDS", 1)
    with LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        empty = cluster.scheduler_address
        for address, problem in (("tcp://127.0.0.1:9", "no Dask scheduler answers"), (empty, "has no workers")):
            with pytest.raises(UserError, match=problem), dask_client(address, workers=1):
                pass


@pytest.mark.parametrize(("n_jobs", "memory_gb", "expected"), [(12, 1, 4), (2, 1, 2), (12, 8, 2), (12, 1000, 1)])
def test_workers_fit_into_cores_and_memory(monkeypatch, n_jobs, memory_gb, expected):
    class Memory:
        available = 16 * 2**30

    monkeypatch.setattr(parallel, "n_cores", lambda: 4)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory)
    assert workers_that_fit(n_jobs, memory_gb) == expected
