"""Jobs, each in a process of its own, run side by side by Dask on this machine or on a cluster.

The process of a job ends with whoever started it: it watches its standard input, which the kernel closes when a
worker dies. Dask then runs the job again on another worker.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from dask.distributed import CancelledError, Client, Future, as_completed

from cxr_pipeline.common.errors import Unavailable
from cxr_pipeline.common.parallel import SCHEDULER_GONE, dask_client, n_cores, threads_by_host, workers_that_fit

THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
ORPHANED = 3
# Seconds that an orphaned process has for its cleanup.
GRACE_SECONDS = 10

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A process that does one thing.

    Args:
        name: of the job, unique among those that run together.
        module: run as ``python -m module``; it takes its payload by `receive`.
        payload: JSON-able.
        log: file that gets what the process prints; an absolute path.
        after: name of the job that must have ended before, whether it succeeded or not; None for none.
    """

    name: str
    module: str
    payload: Mapping[str, Any]
    log: str
    after: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        name: of the job.
        error: None where it succeeded, else the last line that it printed.
        seconds: of wall time.
        peak_memory_mb: the most memory that its process held, in MiB.
        may_pass: whether a job that failed may succeed when it is run again as it is: it was killed, or something
            was away that it needs.
    """

    name: str
    error: str | None
    seconds: float
    peak_memory_mb: float
    may_pass: bool = False


def run_jobs(
    jobs: Sequence[Job], *, width: int, scheduler: str | None, workers: int | None, memory_gb: float
) -> Iterator[Outcome]:
    """Run jobs side by side.

    Args:
        jobs: those that others wait for come before them.
        width: jobs that could run at a time if none were done yet. They share this machine's cores: those that are
            left after a kill have as many threads as the others had, since threads change the last digits.
        scheduler: address of a Dask scheduler whose workers see the same folders, such as
            ``tcp://10.0.0.1:8786``; None for this machine.
        workers: jobs at a time on this machine; None for as many as cores and memory allow.
        memory_gb: memory that a job needs, in GiB.

    Yields:
        Each outcome as soon as it is there. A job that fails does not stop the others.

    Raises:
        UserError: no scheduler answers at the address, or it has no workers.
        Unavailable: the scheduler went away.
    """
    if not jobs:
        return
    neighbours = None if scheduler else workers or min(width, n_cores())
    at_a_time = n_at_a_time({job.name: job.after for job in jobs})
    with dask_client(scheduler, workers=workers or workers_that_fit(at_a_time, memory_gb)) as client:
        waiting, names, running = list(jobs), dict[str, str](), as_completed()
        _hand_out(client, waiting, names, running, neighbours)
        for future in running:
            outcome = _outcome_of(future, names.pop(future.key))
            _hand_out(client, waiting, names, running, neighbours)
            yield outcome


def _outcome_of(future: Future, name: str) -> Outcome:
    try:
        outcome: Outcome = future.result()
    except CancelledError as error:
        raise Unavailable(SCHEDULER_GONE) from error
    except Exception as error:
        return Outcome(name, f"its workers died ({error})", seconds=0.0, peak_memory_mb=0.0, may_pass=True)
    return outcome


def _hand_out(
    client: Client, waiting: list[Job], names: dict[str, str], running: as_completed, neighbours: int | None
) -> None:
    """Give as many jobs to Dask as there are hands free: what it is given early can end up behind a long one.

    Args:
        client: of the cluster, whose workers may come and go.
        waiting: jobs that are left; those that are given away are taken out.
        names: of the jobs at work, by key.
        running: gets their futures.
        neighbours: jobs that share a machine; None for as many as each machine takes at a time.
    """
    threads = threads_by_host(client)
    # Of workers that have just died some come back: one job waits for them, else none would be left to go on from.
    share, hands = neighbours or max(threads.values(), default=1), max(1, threads.total())
    for job in list(waiting):
        before = {other.name for other in waiting} | set(names.values())
        if len(names) < hands and job.after not in before:
            waiting.remove(job)
            # Other runs may give the same scheduler jobs of the same name.
            future = client.submit(run_job, job, share, key=f"{job.name}-{uuid4().hex}")
            names[future.key] = job.name
            running.add(future)


def n_at_a_time(waits: Mapping[str, str | None]) -> int:
    """The most jobs that can run at a time: those that no other waits for.

    Args:
        waits: for each job by name the one that it waits for, or None.
    """
    return len(waits.keys() - set(waits.values()))


def run_job(job: Job, neighbours: int) -> Outcome:
    """Run a job to its end; on a worker, but it can be called anywhere.

    Args:
        job: what is run.
        neighbours: jobs that share this machine at a time, itself included.
    """
    threads = str(max(1, n_cores() // neighbours))
    log = Path(job.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with log.open("wb") as printed:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", job.module],
            stdin=subprocess.PIPE,
            stdout=printed,
            stderr=subprocess.STDOUT,
            env=os.environ | dict.fromkeys(THREADS, threads) | {"COLUMNS": "200"},
        )
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(job.payload).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            logger.debug("%s ended before it took its payload.", job.name)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    may_pass = process.returncode < 0 or process.returncode == Unavailable.exit_code
    return Outcome(job.name, _error(process.returncode, log), seconds, used.ru_maxrss / 1024, may_pass)


def receive() -> dict[str, Any]:
    """Read this process's payload from standard input, and end the process when the sender is gone."""
    payload: dict[str, Any] = json.loads(sys.stdin.readline())

    def watch() -> None:
        sys.stdin.read()
        # Like a termination from outside, so that the MLflow run of this process ends as KILLED.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os._exit(ORPHANED)

    threading.Thread(target=watch, daemon=True).start()
    return payload


def _error(returncode: int, log: Path) -> str | None:
    if returncode == 0:
        return None
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "it printed nothing"
    return last if returncode > 0 else f"it was killed by signal {-returncode}; its last words: {last}"
