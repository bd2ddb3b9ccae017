"""Who else is told of an epoch, besides the one who called `fit`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from cxr_pipeline.training.checkpoints import Row

Listener = Callable[[Row], None]

_listeners: ContextVar[tuple[Listener, ...]] = ContextVar("listeners", default=())


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have trainings in this context tell a listener of each epoch.

    Args:
        listener: called with the history row of each epoch, once it is saved; what it raises ends the training.
    """
    token = _listeners.set((*_listeners.get(), listener))
    try:
        yield
    finally:
        _listeners.reset(token)


def tell(row: Row) -> None:
    """Tell all who listen of an epoch."""
    for listener in _listeners.get():
        listener(row)
