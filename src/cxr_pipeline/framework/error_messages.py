"""Messages and exit statuses for errors that a user can correct."""

import re
from collections.abc import Iterator
from dataclasses import fields
from difflib import get_close_matches

from kedro.validation import ParameterValidationError

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.data.sources.label_tables import Columns
from cxr_pipeline.framework.config import Parameters

# Kinds of pydantic's errors about a key that a model and that a dataclass does not have.
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
PYDANTIC_ERROR = re.compile(
    r"^(?:(\S+)\n)?  (.+) \[type=(\w+), input_value=(.*), input_type=\w+\]$", flags=re.MULTILINE
)


def user_message(error: BaseException) -> str | None:
    """Return the message for an error that the user can correct, or None for a defect of this program.

    Only explicit causes (``raise ... from ...``) are followed: an error that happens while another one is handled is a
    defect, regardless of the other one.
    """
    for cause in _causes(error):
        if isinstance(cause, UserError):
            return str(cause)
        if isinstance(cause, ParameterValidationError):
            return explain_parameters(str(cause))
        if (message := tracking.unavailable_message(cause)) is not None:
            return message
    return None


def exit_status(error: BaseException) -> int:
    """Return the exit status for an error: 69 if the same command may succeed later, else 1."""
    for cause in _causes(error):
        if isinstance(cause, Unavailable) or tracking.unavailable_message(cause) is not None:
            return Unavailable.exit_code
        if isinstance(cause, UserError):
            return 1
    return 1


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def explain_parameters(message: str) -> str:
    """Rewrite the message of Kedro's ``ParameterValidationError``, one line for each invalid parameter.

    Args:
        message: quotes pydantic's report on each block of parameters.

    Returns:
        lines such as ``effusion.training.epoch: unknown parameter. Did you mean 'epochs'?``
    """
    lines = []
    for block in re.split(r"^- ", message, flags=re.MULTILINE)[1:]:
        name = re.match(r"Parameter '(.+?)': ", block)
        for location, text, kind, value in PYDANTIC_ERROR.findall(block):
            key = ".".join(filter(None, (name.group(1) if name else "", location)))
            lines.append(_unknown(key) if kind in UNKNOWN else f"{key}: {_invalid(text, kind, value)}")
    return "\n".join(lines) or message


def _unknown(key: str) -> str:
    blocks = [Parameters]
    for block in blocks:
        blocks += block.__subclasses__()
    known = {field for block in blocks for field in block.model_fields} | {field.name for field in fields(Columns)}
    close = get_close_matches(key.rsplit(".", 1)[-1], known, n=1)
    return f"{key}: unknown parameter." + (f" Did you mean '{close[0]}'?" if close else "")


def _invalid(text: str, kind: str, value: str) -> str:
    if kind == "value_error":
        return f"{text.removeprefix('Value error, ')}."
    return f"{text.removeprefix('Input ')}, found {value}."
