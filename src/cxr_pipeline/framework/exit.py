"""The end of a command: exit statuses, messages without a traceback, and signals."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import Terminated
from cxr_pipeline.common.locks import Locked
from cxr_pipeline.framework.error_messages import explain


@contextmanager
def clean_exit(*, separator: str = "\n") -> Iterator[None]:
    """Exit the process with a status and one message, instead of a traceback, if the block fails.

    ``separator`` is printed between the lines of a message with several lines.

    ============ ==============================================================================
    exit status  cause
    ============ ==============================================================================
    1            a `UserError`
    69           a service is unavailable; the same command may succeed later (EX_UNAVAILABLE)
    75           another run holds the lock (EX_TEMPFAIL)
    130, 143     SIGINT (Ctrl-C), SIGTERM: 128 plus the signal; the active MLflow run ends as KILLED
    ============ ==============================================================================

    Any other exception passes through with its traceback.
    """
    try:
        with _sigterm_as_exception():
            yield
    except Locked as locked:
        _exit(str(locked), Locked.exit_code)
    except (KeyboardInterrupt, Terminated) as stopped:
        # Kedro calls the hooks for a failed run only for subclasses of `Exception`, which these are not.
        tracking.end_active_run("KILLED")
        end, status = ("Interrupted", 130) if isinstance(stopped, KeyboardInterrupt) else ("Terminated", 143)
        _exit(f"{end}. Finished work is kept: run the same command to resume.", status)
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        message, status = explained
        _exit(message.replace("\n", separator), status)


@contextmanager
def _sigterm_as_exception() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM, whose default action would skip the cleanup."""

    def terminate(signum: int, frame: FrameType | None) -> None:
        # A second signal must not interrupt the cleanup that the first one started.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not the main thread, for example in a notebook server
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit(message: str, status: int) -> None:
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(status)
