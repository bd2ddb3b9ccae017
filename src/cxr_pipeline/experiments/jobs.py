"""Jobs, each in its own process, distributed by Dask on this machine or on a cluster.

Each job has its own process, because memory grows when several models are fitted in one process, and so that a crash
affects one job only. Its standard input is a socket to its parent, from which it reads its payload. The kernel closes
it when a worker dies; the process then ends, and Dask runs the job again on another worker.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_pipeline.common.errors import Unavailable
from cxr_pipeline.common.locks import Locked
from cxr_pipeline.common.parallel import SCHEDULER_GONE, dask_client, n_cores, threads_by_host, workers_that_fit

if TYPE_CHECKING:
    from dask.distributed import Future

THREAD_VARIABLES = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
# Exit statuses of a job that may succeed if it is run again: a service was unavailable, an orphan of a killed run still
# held the lock of the job's folder, or the job received SIGTERM.
RETRYABLE = (Unavailable.exit_code, Locked.exit_code, 128 + signal.SIGTERM)
# Exit status of a job whose parent has died.
ORPHANED = 3
# Seconds that an orphaned process has for its cleanup.
GRACE_SECONDS = 10

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A process to run, with a name that is unique among the jobs that run together.

    Args:
        module: run as ``python -m module``; it reads its JSON-able payload with `receive_payload`.
        log: absolute path of the file for the output of the process.
        shares: keys of results that the job computes unless they are on disk, such as cached features. A job does not
            start while another one computes a result that both share.
    """

    name: str
    module: str
    payload: Mapping[str, Any]
    log: str
    shares: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """Outcome of a job: its ``error`` is None if it succeeded, else the last line of its output.

    ``peak_memory_mb`` is in MiB, and 0 if the process was killed. ``retryable`` is a failed job that may succeed if it
    is run again: it was killed, or a service was unavailable.
    """

    name: str
    error: str | None
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    retryable: bool = False


def run_jobs(
    jobs: Sequence[Job], *, width: int, scheduler: str | None, workers: int | None, memory_gb: float
) -> Iterator[Outcome]:
    """Run jobs in parallel, and yield each outcome as soon as its job ends; a failed job does not stop the others.

    They start in the given order, except that a job waits while another one computes a result that it shares. They run
    on the workers of the Dask ``scheduler`` at an address such as ``tcp://10.0.0.1:8786``, which see the same folders;
    or, if it is None, on this machine, in parallel ``workers``, or as many as cores and the memory of a job (in GiB)
    allow. There, ``width`` jobs would share the cores if all of them ran. Jobs that remain after a kill keep the same
    number of threads, because it affects the last digits of a result.

    Raises:
        UserError: no scheduler answers at the address, or it has no workers.
        Unavailable: the scheduler is no longer available.
    """
    from dask.distributed import as_completed

    if not jobs:
        return
    neighbours = None if scheduler else workers or min(width, n_cores())
    with dask_client(scheduler, workers=workers or workers_that_fit(len(jobs), memory_gb)) as client:
        waiting, running, computed, futures = list(jobs), dict[str, Job](), set[str](), as_completed()

        def submit() -> None:
            # A job is submitted only when a worker is free, because Dask could queue an earlier one behind a long job.
            threads = threads_by_host(client)
            # If all workers have just died, one job is submitted anyway, and waits for workers to return.
            free = max(0, max(1, threads.total()) - len(running))
            for job in ready_jobs(waiting, running=list(running.values()), computed=computed)[:free]:
                waiting.remove(job)
                future = client.submit(run_job, job, neighbours or max(threads.values(), default=1), pure=False)
                running[future.key] = job
                futures.add(future)

        submit()
        for future in futures:
            job = running.pop(future.key)
            outcome = _outcome(future, job.name)
            if outcome.error is None:
                computed.update(job.shares)
            submit()
            yield outcome


def ready_jobs(waiting: Sequence[Job], *, running: Sequence[Job], computed: Collection[str]) -> list[Job]:
    """Return the waiting jobs that can start; ``computed`` are the shared results that are on disk."""
    ready: list[Job] = []
    for job in waiting:
        computing = {key for other in (*running, *ready) for key in other.shares} - set(computed)
        if computing.isdisjoint(job.shares):
            ready.append(job)
    return ready


def _outcome(future: Future, name: str) -> Outcome:
    from dask.distributed import CancelledError

    try:
        outcome: Outcome = future.result()
    except CancelledError as error:
        raise Unavailable(SCHEDULER_GONE) from error
    except Exception as error:
        return Outcome(name, f"its workers died ({error})", retryable=True)
    return outcome


def run_job(job: Job, neighbours: int) -> Outcome:
    """Run a job and wait for it; ``neighbours`` jobs run at once on this machine, including this one."""
    threads = str(max(1, n_cores() // neighbours))
    log = Path(job.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    ours, theirs = socket.socketpair()
    with ours, log.open("wb") as output:
        with theirs:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", job.module],
                stdin=theirs.fileno(),
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | dict.fromkeys(THREAD_VARIABLES, threads) | {"COLUMNS": "200"},
            )
        try:
            ours.sendall(json.dumps(job.payload).encode() + b"\n")
        except BrokenPipeError:
            logger.debug("%s ended before it had read its payload.", job.name)
        returncode = process.wait()
        peak = 0.0
        ours.setblocking(False)  # children of the process may still hold the socket open
        with suppress(OSError):
            peak = float(ours.recv(100) or 0)
    retryable = returncode < 0 or returncode in RETRYABLE
    return Outcome(job.name, _error(returncode, log), time.perf_counter() - started, peak, retryable)


def receive_payload() -> dict[str, Any]:
    """Read the payload of this process from standard input, and end the process when its parent dies."""
    payload: dict[str, Any] = json.loads(sys.stdin.readline())

    def watch() -> None:
        sys.stdin.read()
        # As for a signal from outside, so that the MLflow run of this process ends as KILLED.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os._exit(ORPHANED)

    threading.Thread(target=watch, daemon=True).start()
    atexit.register(_send_peak_memory)
    return payload


def _send_peak_memory() -> None:
    # Not ru_maxrss, which Linux starts at the memory of the parent.
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    with suppress(OSError):
        os.write(sys.stdin.fileno(), str(int(kilobytes) / 1024).encode())


def _error(returncode: int, log: Path) -> str | None:
    if returncode == 0:
        return None
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1].removeprefix("Error: ") if lines else "no output"
    return last if returncode > 0 else f"killed by signal {-returncode}; last line of its output: {last}"
