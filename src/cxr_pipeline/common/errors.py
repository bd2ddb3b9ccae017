"""Exceptions of the pipeline and their exit statuses."""

import os
from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """An error that the user can correct.

    The message says what is wrong and where, what was expected, what was found and what to do next. The command line
    prints it without a traceback and exits with `exit_code`.
    """

    exit_code = 1


class Unavailable(UserError):
    """A service is unavailable or a process was killed; the same command may succeed later."""

    # EX_UNAVAILABLE of sysexits.h. Schedulers retry on it, and not on 1.
    exit_code = os.EX_UNAVAILABLE


# Not an Exception: code that recovers from errors, such as Kedro's runner, must not catch it.
class Terminated(BaseException):
    """The process received SIGTERM; raised in the main thread, so that ``finally`` blocks run before it exits."""


class ImageRefused(Exception):
    """An image that cannot be used, for one of ``cxr_pipeline.data.manifest.REASONS``; the run continues without it.

    ``detail`` says what was found, without the path of the image.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def did_you_mean(name: str, known: Iterable[str], *, shown: str = "{}") -> str:
    """Return a question for the known name that is nearest to a wrong one, for a message; empty if none is near.

    Example:
        >>> did_you_mean("efusion", ["effusion", "pneumonia"], shown="--pipeline={}")
        ' Did you mean --pipeline=effusion?'
    """
    near = get_close_matches(name, list(known), n=1)
    return f" Did you mean {shown.format(near[0])}?" if near else ""
