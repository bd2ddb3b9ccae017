"""Pages in HTML and Markdown: sections of sentences, tables and figures."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import pandas as pd

from cxr_pipeline.report.formatting import as_text, from_columns, markdown, words

if TYPE_CHECKING:
    from jinja2 import Environment

PHANTOM = "PHANTOM IMAGES: synthetic. These results say nothing about patients."
RESEARCH = "Research use only, not a medical device."


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table, with None for missing values and the columns of a metric as one metric.

    A metric without limits is marked as one of too few patients.
    """
    plain = table.astype(object).where(table.notna(), None)
    rows = [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]
    metrics = [name.removesuffix("_low") for name in table.columns if name.endswith("_low")]
    for row in rows:
        for name in metrics:
            row[name] = measured = from_columns(row, name)
            if measured and measured["low"] is None:
                measured.setdefault("too_few_patients", None)
    return rows


@dataclass(frozen=True)
class Table:
    """A table; its cells are formatted by `as_text`, and its headings not shown if all are blank.

    The ``style`` is a CSS class: ``measured`` (intervals below their values), ``counted`` (numbers to the right),
    ``long`` (long words are broken), ``code`` (names and values of a configuration), or another class of
    ``report.css``.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    style: str = ""

    def __bool__(self) -> bool:
        """Return whether there are rows; sections omit empty tables."""
        return bool(self.rows)

    @classmethod
    def of_pairs(cls, values: Mapping[str, Any], *, style: str = "") -> Table:
        """Make a table of names and values."""
        return cls(("", ""), list(values.items()), style)

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, Any]], *, style: str = "") -> Table:
        """Make a table of rows by column; missing values are left blank, and columns without values left out."""
        found = [{name: value for name, value in row.items() if value is not None and value != ""} for row in rows]
        columns = list(dict.fromkeys(name for row in found for name in row))
        return cls(columns, [[row.get(name, "") for name in columns] for row in found], style)

    @classmethod
    def of_labelled(
        cls, heading: str, rows: Mapping[str, Mapping[str, Any]], names: Iterable[str], style: str = "measured"
    ) -> Table:
        """Make a table of rows by label, with the columns ``names``."""
        named = [{heading: label, **{words(name): row.get(name) for name in names}} for label, row in rows.items()]
        return cls.of_rows(named, style=style)

    @classmethod
    def of_frame(cls, frame: pd.DataFrame | None, *, style: str = "") -> Table | None:
        """Make a table of a data frame, with its index as the first column if it has names; null is left blank."""
        if frame is None:
            return None
        if not isinstance(frame.index, pd.RangeIndex):
            frame = frame.reset_index(names=str(frame.index.name or ""))
        rows = frame.astype(object).where(frame.notna(), "").to_numpy().tolist()
        return cls(tuple(map(words, frame.columns)), rows, style)


@dataclass(frozen=True)
class Section:
    """A part of a page, omitted if all its blocks are empty.

    A block is a paragraph, a list of sentences (bullets), a table, figures (PNG bytes by name, with their captions in
    ``page.html.j2``), or a section; None and other empty blocks are skipped. ``items`` are those of reporting
    guidelines that the section covers, for Markdown; ``anchor`` is its ``id``, for links; ``style`` is ``"warnings"``,
    ``"folded"``, which opens on a click, or blank. A section that is ``html_only`` is omitted in Markdown.
    """

    title: str
    blocks: Sequence[Block]
    intro: str = ""
    items: str = ""
    anchor: str = ""
    style: str = ""
    html_only: bool = False

    def __bool__(self) -> bool:
        """Return whether there is any content."""
        return any(self.blocks)

    @classmethod
    def warnings(cls, bullets: Sequence[str]) -> Section:
        """Make the section of warnings, which the top of the page links to."""
        return cls("Warnings", [bullets], anchor="warnings", style="warnings")


Block = str | Sequence[str] | Table | Mapping[str, bytes] | Section | None


@dataclass(frozen=True)
class Verdict:
    """The box at the top of a page: the result in a sentence, its figures, and facts such as the date, by name.

    Figures are texts such as ``"0.889 (0.851 to 0.924)"``; an ``alarming`` verdict is emphasised.
    """

    sentence: str
    figures: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    alarming: bool = False


@dataclass(frozen=True)
class Page:
    """A page, in HTML or Markdown; all text is escaped.

    If its results are of ``phantom`` images, a warning is shown at the top and in the title. ``intro`` are blocks
    between the verdict and the first section, ``style`` is a CSS class.
    """

    title: str
    verdict: Verdict
    sections: Sequence[Section]
    phantom: bool = False
    intro: Sequence[Block] = ()
    style: str = ""

    def html(self) -> str:
        """Render the page as one HTML file with the current time, without external files and scripts."""
        return self._render("page.html.j2")

    def markdown(self) -> str:
        """Render the page as Markdown, without figures and sections for HTML only."""
        return self._render("page.md.j2")

    def _render(self, template: str) -> str:
        return _environment().get_template(template).render(page=self, banner=PHANTOM, now=datetime.now(UTC))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("cxr_pipeline.report", "templates"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"text": as_text, "markdown": markdown, "base64": lambda png: b64encode(png).decode("ascii")}
    return environment
