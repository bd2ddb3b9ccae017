"""Parallel work in processes with Dask, on this machine or on a cluster."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from cxr_pipeline.common.errors import Unavailable, UserError

if TYPE_CHECKING:
    from dask.distributed import Client

Item = TypeVar("Item")
Result = TypeVar("Result")

CONNECT_SECONDS = 10
# Decoding releases the GIL, so that a few threads keep ahead of a consumer without starting processes.
THREADS = 4
SCHEDULER_GONE = (
    "The Dask scheduler is no longer available. Finished work is kept. Start it, then run the same command again."
)
WORKER_KILLED = (
    "A worker process was killed several times, most likely because memory ran out. Finished work is kept. Free some "
    "memory or use fewer workers (--params <task>.resolution.workers=1), then run the same command again."
)


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_that_fit(n_jobs: int, memory_gb: float) -> int:
    """Return how many of ``n_jobs`` this machine has cores and memory for, at least one; ``memory_gb`` (GiB) each."""
    import psutil

    by_memory = int(psutil.virtual_memory().available / 2**30 / memory_gb)
    return max(1, min(n_jobs, n_cores(), by_memory))


@contextmanager
def dask_client(scheduler: str | None, *, workers: int) -> Iterator[Client]:
    """Connect to a Dask scheduler such as ``tcp://10.0.0.1:8786``, or start worker processes of one thread each here.

    Local workers end with this process, even if it is killed: each watches a pipe that the kernel closes. `UserError`
    is raised if no scheduler answers at the address, or if it has no workers.
    """
    from dask.distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError, ValueError) as error:
            raise UserError(
                f"parallel.scheduler: no Dask scheduler answers at {scheduler} ({error}). Start one there (dask "
                "scheduler, and dask worker on each machine), or set parallel.scheduler to null to use this machine."
            ) from error
        with client:
            if not client.scheduler_info(n_workers=-1)["workers"]:
                raise UserError(
                    f"parallel.scheduler: the Dask scheduler at {scheduler} has no workers. Start some: "
                    f"dask worker {scheduler} --nthreads 1."
                )
            yield client
        return
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            # Jobs may start processes of their own, which a limit on the worker would not measure.
            memory_limit=0,
            # Any user of this machine could otherwise send code to the scheduler's port.
            security=True,
            env={"OPENCV_FOR_THREADS_NUM": "1"},
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def threads_by_host(client: Client) -> Counter[str]:
    """Return the number of worker threads of each machine; raise `Unavailable` if the scheduler is gone."""
    info = client.scheduler_info(n_workers=-1)
    if "workers" not in info:
        raise Unavailable(SCHEDULER_GONE)
    threads: Counter[str] = Counter()
    for worker in info["workers"].values():
        threads[worker["host"]] += int(worker["nthreads"])
    return threads


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, pending: int | None = None
) -> Iterator[Result]:
    """Apply a function to items, ahead of the consumer, and yield the results in the order of the items.

    The function runs in ``workers`` processes, for which it must be picklable; with one, in threads of this process.
    Items are read as the workers need them: at most ``pending``, by default twice the workers or threads, are submitted
    but not yet yielded. A worker that is killed is replaced, and its item is tried again a few times before
    `Unavailable` is raised.
    """
    if workers == 1:
        threads = ThreadPoolExecutor(THREADS)
        try:
            yield from _in_order(lambda item: threads.submit(function, item), items, pending or 2 * THREADS)
        finally:
            threads.shutdown(cancel_futures=True)
        return
    from dask.distributed import CancelledError, KilledWorker

    try:
        with dask_client(None, workers=workers) as client:
            yield from _in_order(partial(client.submit, function, pure=False), items, pending or 2 * workers)
    except KilledWorker as error:
        raise Unavailable(WORKER_KILLED) from error
    except CancelledError as error:
        raise Unavailable(SCHEDULER_GONE) from error


def _in_order(submit: Callable[[Item], Any], items: Iterable[Item], pending: int) -> Iterator[Any]:
    futures: deque[Any] = deque()
    for item in items:
        futures.append(submit(item))
        if len(futures) >= pending:
            yield futures.popleft().result()
    while futures:
        yield futures.popleft().result()
