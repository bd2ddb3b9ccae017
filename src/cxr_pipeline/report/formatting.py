"""Formatting of numbers, intervals, names and lists, for pages, tables and the terminal."""

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlparse

import yaml
from markupsafe import Markup, escape

Document = Mapping[str, Any]
UNDEFINED = "not defined"
LONGEST_LIST = 10
# A flat row has a metric as ``auc``, ``auc_low``, ``auc_high`` and, without limits, ``auc_too_few_patients``.
SUFFIXES = LOW, HIGH, TOO_FEW = "_low", "_high", "_too_few_patients"
_MARKDOWN = re.compile(r"[\\`*|\[\]]")


@cache
def wording() -> dict[str, Any]:
    """Return the fixed texts of pages, the content of ``templates/wording.yml``."""
    file = files("cxr_pipeline.report") / "templates" / "wording.yml"
    return dict(yaml.safe_load(file.read_text("utf-8")))


class Link(str):
    """A text that is a link in HTML, and plain text elsewhere; only addresses of servers are linked."""

    url: str | None

    def __new__(cls, text: str, url: str | None) -> "Link":
        """Make a link; without an address it is its text."""
        link = super().__new__(cls, text)
        link.url = url
        return link

    def __html__(self) -> str:
        """Return the link for a template; a scheme such as ``javascript:`` is not linked."""
        if not self.url or urlparse(self.url).scheme not in ("http", "https"):
            return str(escape(str(self)))
        return Markup('<a href="{}" rel="noreferrer">{}</a>').format(self.url, str(self))


def number(value: float | None, *, sign: bool = False, digits: int = 3) -> str:
    """Format a number, with a plus sign if ``sign`` is set and it is positive; zero has no minus sign."""
    if value is None or math.isnan(value):
        return UNDEFINED
    return f"{value:{'+' if sign else ''}z.{digits}f}"


def measure(measured: Document | None, *, sign: bool = False, digits: int = 3) -> str:
    """Format a metric with ``value``, ``low`` and ``high``, or ``too_few_patients``; blank if there is none.

    Example:
        >>> measure({"value": 0.889, "low": 0.851, "high": 0.924}), measure({"value": 0.889, "low": None, "high": None})
        ('0.889 (0.851 to 0.924)', '0.889')
    """
    if measured is None:
        return ""
    text, *bounds = (number(measured[key], sign=sign, digits=digits) for key in ("value", "low", "high"))
    if UNDEFINED not in (text, *bounds):
        return f"{text} ({' to '.join(bounds)})"
    return f"{text} ({few})" if (few := too_few(measured)) else text


def too_few(measured: Document) -> str:
    """Say that there are too few patients for an interval, and how many, if known; blank if there are enough.

    Example:
        >>> too_few({"value": 0.4, "low": None, "high": None, "too_few_patients": 1})
        'too few patients: 1'
    """
    if "too_few_patients" not in measured:
        return ""
    count = measured["too_few_patients"]
    return "too few patients" + ("" if count is None else f": {count:.0f}")


def from_columns(row: Document, name: str) -> dict[str, Any] | None:
    """Return the metric that a flat row has in columns (see `SUFFIXES`); None without a value."""
    if row.get(name) is None:
        return None
    measured = {"value": row[name], "low": row.get(f"{name}{LOW}"), "high": row.get(f"{name}{HIGH}")}
    few = row.get(f"{name}{TOO_FEW}")
    return measured if few is None else {**measured, "too_few_patients": few}


def p_value(value: float) -> str:
    """Format a p-value; below 0.0005 it is ``"below 0.001"``."""
    return f"{value:.3f}" if value >= 0.0005 else "below 0.001"


def percent(share: float) -> str:
    """Format a share: ``"95 %"`` for 0.95."""
    return f"{100 * share:g} %"


def of_100(share: float) -> str:
    """Format a share as a count out of 100: ``"83"`` for 0.828."""
    return f"{100 * share:.0f}"


def as_text(value: object) -> str:
    """Format any value of a document; markup stays markup.

    Example:
        >>> as_text(1200), as_text(0.88949), as_text(2e-05), as_text(True), as_text([1, 0.5])
        ('1,200', '0.889', '2e-05', 'yes', '1, 0.500')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return measure(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    # Small numbers such as learning rates would be rounded to zero with three decimals.
    if isinstance(value, float) and 0 < abs(value) < 0.001:
        return f"{value:.3g}"
    if value is None or isinstance(value, float):
        return number(value)
    if isinstance(value, list | tuple):
        return f"{len(value)} values" if len(value) > LONGEST_LIST else ", ".join(map(as_text, value))
    return str(value)


def as_yaml(value: object) -> str:
    """Format a parameter as it is written in a configuration file: ``null``, ``true``, ``0.0001``, ``focal``.

    A table that was read from a CSV file has NaN for null, and 4.0 for 4 in a column with gaps.
    """
    if value is None or value != value:
        return "null"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:.4g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def words(key: object) -> str:
    """Return a key or a value of a document as pages write it: as ``wording.yml`` has it, or with spaces.

    Example:
        >>> words("n_images"), words("youden"), words("balanced_accuracy")
        ('images', "Youden's index", 'balanced accuracy')
    """
    return str(wording()["words"].get(key, str(key).replace("_", " ")))


def plural(count: int, noun: str) -> str:
    """Write a count with its noun: ``"1 image"``, ``"1,200 images"``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def join(words: Sequence[str]) -> str:
    """Join words to a list in a sentence: ``"a, b and c"``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def first_of(words: Sequence[str], most: int = 3) -> str:
    """Join the first words to a list and count the others: ``"a, b, c and 2 others"``."""
    others = len(words) - most
    return join([*words[:most], plural(others, "other")] if others > 0 else words)


def quoted(names: Sequence[str]) -> str:
    """Join names in quotation marks: ``"“a” and “b”"``."""
    return join([f"“{name}”" for name in names])


def sources_named(names: Sequence[str]) -> str:
    """Name data sources in a sentence: ``"the sources “a” and “b”"``."""
    return f"the source{'s' if len(names) > 1 else ''} {quoted(names)}"


def shorten(text: str, longest: int) -> str:
    """Cut a text to at most ``longest`` characters, the last of them an ellipsis."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def markdown(value: object) -> str:
    """Format and escape a value for a paragraph or a table cell of Markdown, and keep it on one line."""
    return _MARKDOWN.sub(r"\\\g<0>", as_text(value).replace("&", "&amp;").replace("<", "&lt;").replace("\n", " "))


def value_of(measures: Document, name: str, key: str = "value") -> float | None:
    """Return ``value``, ``low`` or ``high`` of a metric; None if it is undefined or missing."""
    value = (measures.get(name) or {}).get(key)
    return None if value is None or math.isnan(value) else float(value)
