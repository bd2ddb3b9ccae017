"""Work on many images, in processes of their own and with a progress bar."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from multiprocessing import connection, parent_process
from typing import Any, Generic, TypeVar

from cxr_pipeline.common.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Task(Generic[Result]):
    """A piece of work.

    Args:
        work: is called, in another process perhaps, so that it must pickle.
        n_images: images that it works on, for the progress bar.
    """

    work: Callable[[], Result]
    n_images: int


def n_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def divided(items: Sequence[Item], *, largest: int, parts: int) -> list[Sequence[Item]]:
    """Divide items into blocks of at most ``largest``, equal to one item, as many for each of ``parts``."""
    n_blocks = min(len(items), -(-len(items) // (largest * parts)) * parts)
    bounds = [len(items) * block // max(n_blocks, 1) for block in range(n_blocks + 1)]
    return [items[start:end] for start, end in pairwise(bounds)]


def sum_exceeds(values: Iterable[int], limit: int) -> bool:
    """Tell whether values sum to more than ``limit``; asks for no more of them than it must."""
    return any(total > limit for total in accumulate(values))


def run_tasks(tasks: Sequence[Task[Result]], *, workers: int, title: str) -> list[Result]:
    """Run tasks and show how many images are done.

    Args:
        tasks: in any order.
        workers: processes; with one, the tasks run in this process.
        title: stands before the progress bar.

    Returns:
        What each task returns.

    Raises:
        BrokenProcessPool: a process was killed.
    """
    import dask
    from dask.callbacks import Callback
    from rich.console import Console
    from rich.progress import Progress

    calls = [dask.delayed(task.work, pure=False, traverse=False)() for task in tasks]
    n_images = {call.key: task.n_images for call, task in zip(calls, tasks, strict=True)}
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task(title, total=sum(n_images.values()))

        def advance(key: str, *_: object) -> None:
            progress.advance(bar, n_images.get(key, 0))

        with Callback(posttask=advance):
            return list(_compute(calls, workers))


def _compute(calls: Sequence[Any], workers: int) -> tuple[Any, ...]:
    import dask

    if workers == 1:
        results: tuple[Any, ...] = dask.compute(*calls, scheduler="synchronous")
        return results
    try:
        results = dask.compute(
            *calls, scheduler="processes", num_workers=workers, chunksize=1, initializer=start_worker
        )
    except UserError as error:  # Dask's version of it, whose text ends in a traceback
        raise UserError(str(getattr(error, "exception", error))) from error
    return results


def start_worker() -> None:
    """Keep to one core, and end when the parent is killed and can no longer say so."""
    import cv2

    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
