"""Images read and decoded ahead of the network, in processes of their own."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from cxr_pipeline.common.errors import ImageRefused, UserError
from cxr_pipeline.common.parallel import n_cores
from cxr_pipeline.data.image_folder import ImageFile
from cxr_pipeline.data.images.inference_inputs import Image, Refusal, prepare_files
from cxr_pipeline.data.images.recipe import Recipe

# Threads prepare the first images: starting processes takes longer than these save.
FEW_IMAGES = 256
_THREADS = 4
_MOST_PROCESSES = 16
# Images that go to a process together, since each message costs.
_IMAGES_A_MESSAGE = 8

Found = TypeVar("Found", bound=ImageFile)


def prepare_ahead(
    root: Path, images: Iterable[Found], recipe: Recipe, *, pending: int
) -> Iterator[tuple[Found, Image | ImageRefused]]:
    """Prepare images in order, a few of them ahead of the one that is asked for.

    Args:
        root: the folder that the images must be in, links resolved.
        images: below ``root``.
        recipe: how they are prepared.
        pending: about as many images are prepared, or being prepared, ahead of the consumer.

    Yields:
        each image, and what became of it.

    Raises:
        UserError: a process was killed.
    """
    images = iter(images)
    work = partial(prepare_files, root, recipe)
    with _closed(ThreadPoolExecutor(_THREADS)) as threads:
        few = islice(images, FEW_IMAGES) if n_cores() > 1 else images
        yield from _in_order(threads, work, few, at_once=1, most_waiting=pending)
    n_processes = min(n_cores(), _MOST_PROCESSES)
    most_waiting = max(pending // _IMAGES_A_MESSAGE, 2 * n_processes)
    # A fork of a process in which TensorFlow runs threads may never answer.
    processes = ProcessPoolExecutor(n_processes, mp_context=get_context("spawn"))
    with _closed(processes):
        try:
            yield from _in_order(processes, work, images, at_once=_IMAGES_A_MESSAGE, most_waiting=most_waiting)
        except BrokenProcessPool as error:
            raise UserError(
                "A process that decodes images was killed, most likely because memory ran out. The images that are "
                "scored are kept. Free some memory and run the same command again; it goes on from there."
            ) from error


def _in_order(
    pool: Executor,
    work: Callable[[list[str]], list[Image | Refusal]],
    images: Iterator[Found],
    *,
    at_once: int,
    most_waiting: int,
) -> Iterator[tuple[Found, Image | ImageRefused]]:
    waiting: deque[tuple[list[Found], Future[list[Image | Refusal]]]] = deque()
    while chunk := list(islice(images, at_once)):
        waiting.append((chunk, pool.submit(work, [image.path for image in chunk])))
        if len(waiting) > most_waiting:
            yield from _finished(*waiting.popleft())
    while waiting:
        yield from _finished(*waiting.popleft())


def _finished(
    images: list[Found], prepared: "Future[list[Image | Refusal]]"
) -> Iterator[tuple[Found, Image | ImageRefused]]:
    for image, result in zip(images, prepared.result(), strict=True):
        yield image, ImageRefused(*result) if isinstance(result, tuple) else result


@contextmanager
def _closed(pool: Executor) -> Iterator[Executor]:
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
