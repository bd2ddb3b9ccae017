"""A callback for each epoch, in a context variable, because a Kedro session cannot pass it to the training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from cxr_pipeline.training.checkpoints import Row

EpochCallback = Callable[[Row], None]

_callback: ContextVar[EpochCallback | None] = ContextVar("epoch_callback", default=None)


@contextmanager
def epoch_callback(callback: EpochCallback) -> Iterator[None]:
    """Call a function with the row of each saved epoch in this context; an exception in it stops the training."""
    token = _callback.set(callback)
    try:
        yield
    finally:
        _callback.reset(token)


def run_epoch_callback(row: Row) -> None:
    """Call the callback of this context, if there is one, with the history row of an epoch."""
    if callback := _callback.get():
        callback(row)
