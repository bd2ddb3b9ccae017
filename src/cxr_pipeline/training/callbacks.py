"""A callback for each epoch, in a context variable, because a Kedro session cannot pass it to the training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from cxr_pipeline.training.checkpoints import Row

EpochCallback = Callable[[Row], None]

_callbacks: ContextVar[tuple[EpochCallback, ...]] = ContextVar("epoch_callbacks", default=())


@contextmanager
def epoch_callback(callback: EpochCallback) -> Iterator[None]:
    """Call a function with the row of each saved epoch in this context; an exception in it stops the training."""
    token = _callbacks.set((*_callbacks.get(), callback))
    try:
        yield
    finally:
        _callbacks.reset(token)


def run_epoch_callbacks(row: Row) -> None:
    """Call every callback of this context with the history row of an epoch."""
    for callback in _callbacks.get():
        callback(row)
