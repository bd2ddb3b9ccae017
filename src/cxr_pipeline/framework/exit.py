"""The end of a command: exit statuses, signals, and messages without a traceback for errors that a user can correct."""

import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from difflib import get_close_matches
from types import FrameType

from kedro.config import MissingConfigException
from kedro.validation import ParameterValidationError

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import Terminated, Unavailable, UserError
from cxr_pipeline.common.locks import Locked
from cxr_pipeline.data.sources.label_tables import Columns
from cxr_pipeline.framework.config import Parameters

# Kinds of pydantic's errors about a key that a model and that a dataclass does not have.
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
PYDANTIC_ERROR = re.compile(
    r"^(?:(\S+)\n)?  (.+) \[type=(\w+), input_value=(.*), input_type=\w+\]$", flags=re.MULTILINE
)


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
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
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
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(signum: int, frame: FrameType | None) -> None:
    """Handle SIGTERM, whose default action would skip the cleanup."""
    # A second signal must not interrupt the cleanup that the first one started.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


def _exit(message: str, status: int) -> None:
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(status)


def explain(error: BaseException) -> tuple[str, int] | None:
    """Return the message and exit status for an error that the user can correct, None for a defect of this program.

    Only explicit causes (``raise ... from ...``) are followed: an error that happens while another one is handled is a
    defect, regardless of the other one.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError | Locked):
            return str(cause), cause.exit_code
        if isinstance(cause, ParameterValidationError):
            return explain_parameters(str(cause)), UserError.exit_code
        if isinstance(cause, MissingConfigException):
            advice = "Expected a folder of the configuration, such as conf/demo for --env demo."
            return f"{cause}. {advice}", UserError.exit_code
        if (message := tracking.unavailable_message(cause)) is not None:
            return message, Unavailable.exit_code
        cause = cause.__cause__
    return None


def explain_parameters(message: str) -> str:
    """Rewrite the message of Kedro's ``ParameterValidationError``, which quotes pydantic's report on each block.

    There is a line for each invalid parameter, such as
    ``effusion.training.epoch: unknown parameter. Did you mean 'epochs'?``
    """
    lines = []
    for block in re.split(r"^- ", message, flags=re.MULTILINE)[1:]:
        name = re.match(r"Parameter '(.+?)': ", block)
        for location, text, kind, value in PYDANTIC_ERROR.findall(block):
            key = ".".join(filter(None, (name.group(1) if name else "", location)))
            lines.append(f"{key}: {_reason(key, text, kind, value)}")
    return "\n".join(lines) or message


def _reason(key: str, text: str, kind: str, value: str) -> str:
    if kind == "value_error":
        return f"{text.removeprefix('Value error, ')}."
    if kind not in UNKNOWN:
        return f"{text.removeprefix('Input ')}, found {value}."
    blocks = [Parameters]
    for block in blocks:
        blocks += block.__subclasses__()
    known = {field for block in blocks for field in block.model_fields} | {field.name for field in fields(Columns)}
    close = get_close_matches(key.rsplit(".", 1)[-1], known, n=1)
    return "unknown parameter." + (f" Did you mean '{close[0]}'?" if close else "")
