import os
import signal
import subprocess
import sys
import time
from functools import partial

import psutil
import pytest
from dask.distributed import LocalCluster

from cxr_pipeline.common import parallel
from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.common.parallel import dask_client, map_in_order, threads_by_host, workers_that_fit


def own_pid(_):
    return os.getpid()


def n_opencv_threads(_):
    import cv2

    return int(cv2.getNumThreads())


def fail(_):
    raise UserError("The disk is full.")


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(marker, item):
    if not marker.exists():
        marker.touch()
        die(item)
    return item


def test_results_are_in_order_from_worker_processes_with_one_thread_each():
    assert list(map_in_order(partial(pow, 2), range(20), workers=2)) == [2**exponent for exponent in range(20)]
    assert os.getpid() not in map_in_order(own_pid, range(2), workers=2)
    assert list(map_in_order(own_pid, range(2), workers=1)) == [os.getpid()] * 2
    assert set(map_in_order(n_opencv_threads, range(2), workers=2)) == {1}


def test_items_are_consumed_lazily():
    items = iter(range(100))
    results = map_in_order(abs, items, workers=2, pending=5)
    assert [next(results), next(results)] == [0, 1]
    results.close()
    assert next(items) == 6


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_function_is_raised(workers):
    with pytest.raises(UserError, match=r"^The disk is full\.$"):
        list(map_in_order(fail, range(2), workers=workers))


def test_a_killed_worker_is_replaced(tmp_path):
    assert list(map_in_order(partial(die_once, tmp_path / "died"), range(4), workers=2)) == [0, 1, 2, 3]


def test_a_worker_killed_every_time_is_an_error():
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
    parent = psutil.Process(process.pid)
    wait_until(lambda: len(parent.children()) >= 2)
    time.sleep(3)
    workers = parent.children(recursive=True)
    assert len(workers) >= 2
    # Ctrl-C reaches the whole process group; SIGKILL only the parent.
    process.kill() if signum == signal.SIGKILL else os.killpg(process.pid, signum)
    assert process.wait(60) != 0
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_unreachable_scheduler_is_an_error(monkeypatch):
    monkeypatch.setattr("cxr_pipeline.common.parallel.CONNECT_SECONDS", 1)
    with (
        pytest.raises(UserError, match="no Dask scheduler answers at tcp:"),
        dask_client("tcp://127.0.0.1:9", workers=1),
    ):
        pass


def test_a_cluster_without_workers_is_an_error():
    with (
        LocalCluster(n_workers=0, dashboard_address=None) as cluster,
        pytest.raises(UserError, match="has no workers"),
        dask_client(cluster.scheduler_address, workers=1),
    ):
        pass


def test_threads_are_counted_by_host_unless_the_scheduler_was_killed():
    with dask_client(None, workers=2) as client:
        assert threads_by_host(client) == {"127.0.0.1": 2}

    class Client:
        def scheduler_info(self, n_workers):
            """Return what a Dask client returns after its scheduler was killed."""
            return {"type": "Scheduler"}

    with pytest.raises(Unavailable, match="The Dask scheduler is no longer available"):
        threads_by_host(Client())


@pytest.mark.parametrize(("n_jobs", "memory_gb", "expected"), [(12, 1, 4), (2, 1, 2), (12, 8, 2), (12, 1000, 1)])
def test_workers_fit_into_cores_and_memory(monkeypatch, n_jobs, memory_gb, expected):
    class Memory:
        available = 16 * 2**30

    monkeypatch.setattr(parallel, "n_cores", lambda: 4)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory)
    assert workers_that_fit(n_jobs, memory_gb) == expected
