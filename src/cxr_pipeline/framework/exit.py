"""The end of a command: exit statuses, signals, and messages without a traceback for errors that a user can correct."""

import errno
import re
import signal
import sqlite3
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import click
from kedro.config import MissingConfigException
from kedro.io import DatasetNotFoundError
from kedro.validation import DataValidationError, ParameterValidationError
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from cxr_pipeline.common.errors import Terminated, Unavailable, UserError
from cxr_pipeline.common.locks import Locked
from cxr_pipeline.common.progress import close_bars

# The exception of the last signal, if one arrived.
_received: BaseException | None = None


@contextmanager
def clean_exit(*, separator: str = "\n") -> Iterator[None]:
    """Exit the process with a status and one message, instead of a traceback, if the block fails.

    ``separator`` is printed between the lines of a message with several lines.

    ``docs/reference/exit_statuses.md`` is the table of statuses. After SIGINT (Ctrl-C) or SIGTERM the active MLflow run
    ends as KILLED. Any other exception passes through with its traceback.
    """
    global _received
    _received = None
    # A process that ignores Ctrl-C, such as a trial of a search, continues to do so.
    ignored = signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    handled = (signal.SIGTERM,) if ignored else (signal.SIGTERM, signal.SIGINT)
    before = {signum: signal.signal(signum, _stop) for signum in handled}
    try:
        try:
            yield
        finally:
            close_bars()
    except (KeyboardInterrupt, Terminated) as stopped:
        _exit_stopped(stopped)
    except Exception as error:
        if (signalled := stop_behind(error)) is not None:
            _exit_stopped(signalled)
        explained = explain(error)
        if explained is None:
            raise
        message, status = explained
        _exit(message.replace("\n", separator), status)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    """Handle SIGTERM, whose default action would skip the cleanup, and SIGINT, to know later that it arrived."""
    global _received
    if signum == signal.SIGTERM:
        # A second signal must not interrupt the cleanup that the first one started.
        signal.signal(signum, signal.SIG_IGN)
    _received = Terminated() if signum == signal.SIGTERM else KeyboardInterrupt()
    raise _received


def stop_behind(error: BaseException) -> BaseException | None:
    """Return `KeyboardInterrupt` or `Terminated` if a signal ended the work, whatever the ``error`` is, or None.

    A library that is interrupted may raise an error of its own, which does not name the signal.
    """
    return error if isinstance(error, KeyboardInterrupt | Terminated) else _received


def _exit_stopped(stopped: BaseException) -> NoReturn:
    from cxr_pipeline.tracking import runs

    # Kedro calls the hook for a failed run only for subclasses of `Exception`.
    runs.end_active_run("KILLED")
    end, status = ("Interrupted", 130) if isinstance(stopped, KeyboardInterrupt) else ("Terminated", 143)
    _exit(f"{end}. Finished work is kept: run the same command to resume.", status)


def _exit(message: str, status: int) -> NoReturn:
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(status)


def explain(error: BaseException) -> tuple[str, int] | None:
    """Return the message and exit status for an error that the user can correct, None for a defect of this program.

    Only explicit causes (``raise ... from ...``) are followed: an error that happens while another one is handled is a
    defect, whatever the other one is. A signal is handled before, see `stop_behind`.
    """
    for cause in _causes(error):
        if isinstance(cause, UserError | Locked):
            return str(cause), cause.exit_code
        if isinstance(cause, click.ClickException):
            return _problem_of_click(cause), cause.exit_code
        if isinstance(cause, ParameterValidationError):
            from cxr_pipeline.framework.invalid_parameters import explain_parameters

            return explain_parameters(str(cause)), UserError.exit_code
        if (problem := _problem_of_kedro(cause)) is not None:
            return " ".join(problem.split()), UserError.exit_code
        if (problem := _problem_of_disk(cause)) is not None:
            return problem, UserError.exit_code
        # Imported here, because MLflow takes seconds.
        from cxr_pipeline.tracking.server import unavailable_message

        if (message := unavailable_message(cause)) is not None:
            # A SQLite file on a full disk is unavailable, too.
            full = next(filter(None, map(_problem_of_disk, _causes(cause))), None)
            return (message, Unavailable.exit_code) if full is None else (full, UserError.exit_code)
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _problem_of_click(error: click.ClickException) -> str:
    """Return the message for wrong arguments, or for a package that a command of Kedro needs."""
    missing = error.__cause__
    if isinstance(missing, ModuleNotFoundError):
        return (
            f"This command needs the package {missing.name}. Install it: {sys.executable} -m pip install {missing.name}"
        )
    message = error.format_message()
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return message
    options = {option for each in error.ctx.command.params for option in each.opts} & {"--pipeline", "--folder"}
    if options and (extra := re.match(r"Got unexpected extra argument \((.+)\)", message)):
        message = f"{message}. Did you mean {options.pop()}={extra[1]}?"
    elif "must contain a key and a value" in message:
        message += " Put no spaces around =. A value with commas or spaces: in a file below conf/local/parameters/."
    return f"{_sentence(message)} {error.ctx.command_path} --help lists the options."


def _problem_of_kedro(error: BaseException) -> str | None:
    """Return the message for an error of Kedro about the command line or a configuration file, otherwise None."""
    if isinstance(error, MissingConfigException):
        return f"{error}. Expected a folder of the configuration, such as conf/demo for --env demo."
    if isinstance(error, DataValidationError) and error.mode == "load":
        return f"{error} Restore a copy of its file, or delete it and run the pipeline of the task from its start."
    if isinstance(error, MarkedYAMLError):
        if error.problem_mark is None:  # Kedro's message names the file
            return f"{error} Correct the file: text with spaces and colons needs quotes."
        return (
            f"The value of an option is not valid YAML: {error.problem}. Put the whole option in quotes, for example "
            "--params 'effusion.task.classes.effusion=[Pleural Effusion]'."
        )
    if isinstance(error, OmegaConfBaseException):
        return f"The configuration cannot be read: {error}. Correct the file in conf/ or the option --params."
    if isinstance(error, ValueError | AttributeError | DatasetNotFoundError) and _is_raised_by_run(error):
        return f"{_sentence(str(error))} kedro run --help describes the options."
    return None


def _sentence(message: str) -> str:
    return message if message.endswith((".", "?")) else f"{message}."


def _problem_of_disk(error: BaseException) -> str | None:
    """Return the message for a disk that is full or read-only, otherwise None."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        place, reason = error.filename2 or error.filename or "A file", error.strerror
    elif getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY):
        place, reason = "The SQLite file of MLflow", str(error)
    else:
        return None
    return f"{place} could not be written: {reason}. Free some disk space and run the same command again: it resumes."


def _is_raised_by_run(error: BaseException) -> bool:
    """Return whether ``kedro run`` raised an error before it called anything of this or another package."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    command = "kedro.framework.cli.project"
    below = modules[modules.index(command) :] if command in modules else []
    return bool(below) and all(module.partition(".")[0] == "kedro" for module in below)
