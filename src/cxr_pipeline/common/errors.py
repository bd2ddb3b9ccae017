"""The ways in which the pipeline says no."""

import os


class UserError(Exception):
    """A mistake that its user can mend.

    The message is one sentence or a few: what is wrong, where, what was expected, what was found and
    what to type next. The command line shows it without a traceback.
    """


class Unavailable(UserError):
    """Something outside this project is away, or a process was killed: the same command may succeed later."""

    # The exit status of a process that should be tried again: EX_UNAVAILABLE of sysexits.h.
    exit_code = os.EX_UNAVAILABLE


class ImageRefused(Exception):
    """One image that cannot be used; the run goes on without it.

    Args:
        reason: a word from ``cxr_pipeline.data.manifest.REASONS``, such as ``"truncated"``.
        detail: what was found, in a few words, without the image's path.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
