"""Pages in HTML and Markdown: sections of sentences, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import pandas as pd

from cxr_pipeline.report.figures.captions import captioned
from cxr_pipeline.report.formatting import as_text, markdown
from cxr_pipeline.report.kinds import title

if TYPE_CHECKING:
    from jinja2 import Environment

PHANTOM = "PHANTOM IMAGES: synthetic. These results say nothing about patients."
RESEARCH = "Research use only, not a medical device."


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table, with None for missing values.

    The columns ``x``, ``x_low`` and ``x_high`` become one metric ``x``, with ``value``, ``low`` and ``high``; a value
    without limits is marked as one of too few patients.
    """
    plain = table.astype(object).where(table.notna(), None)
    rows = [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]
    metrics = [name.removesuffix("_low") for name in table.columns if name.endswith("_low")]
    for row in rows:
        for name in metrics:
            measured = {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
            if measured["low"] is None:
                measured["too_few_patients"] = row.get(f"{name}_too_few_patients")
            row[name] = None if row[name] is None else measured
    return rows


@dataclass(frozen=True)
class Table:
    """A table; its cells are formatted by `as_text`, and its headings not shown if all are blank.

    The ``style`` is a CSS class: ``measured`` (intervals below their values), ``counted`` (numbers to the right),
    ``long`` (long words are broken), or another class of ``report.css``.
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
    def of_frame(cls, frame: pd.DataFrame | None, *, style: str = "") -> Table | None:
        """Make a table of a data frame, with its index as the first column if it has names; null is left blank."""
        if frame is None:
            return None
        if not isinstance(frame.index, pd.RangeIndex):
            frame = frame.reset_index(names=str(frame.index.name or ""))
        rows = frame.astype(object).where(frame.notna(), "").to_numpy().tolist()
        return cls(tuple(map(title, frame.columns)), rows, style)


@dataclass(frozen=True)
class Section:
    """A part of a page, omitted if all its blocks are empty.

    Args:
        blocks: its content, in order: a paragraph, a list of sentences (bullets), a table, figures (PNG bytes by a name
            of ``figures.captions``), or a section. None and other empty blocks are skipped.
        intro: paragraph below the heading, omitted with the section.
        items: items of reporting guidelines that it covers, for Markdown.
        anchor: ``id`` of the section, for links.
        style: ``""``, ``"warnings"``, or ``"folded"``, which opens on a click and is omitted in Markdown.
    """

    title: str
    blocks: Sequence[Block]
    intro: str = ""
    items: str = ""
    anchor: str = ""
    style: str = ""

    def __bool__(self) -> bool:
        """Return whether there is any content."""
        return any(self.blocks)

    @classmethod
    def warnings(cls, bullets: Sequence[str]) -> Section:
        """Make the section of warnings, which the top of the page links to."""
        return cls("Warnings", [bullets], anchor="warnings", style="warnings")


Block = str | Sequence[str] | Table | Mapping[str, bytes] | Section | None


@dataclass(frozen=True)
class Page:
    """A page, in HTML or Markdown; all text is escaped.

    Args:
        phantom: whether its results are of phantom images; if so, a warning is shown at the top and in the title.
        intro: blocks before the first section.
        style: CSS class of the page.
    """

    title: str
    sections: Sequence[Section]
    phantom: bool = False
    intro: Sequence[Block] = ()
    style: str = ""

    def html(self) -> str:
        """Render the page as one HTML file with the current time, without external files and scripts."""
        written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        return _environment().get_template("page.html.j2").render(page=self, banner=PHANTOM, written=written)

    def markdown(self) -> str:
        """Render the page as Markdown, without figures and folded sections."""
        return _environment().get_template("page.md.j2").render(page=self, banner=PHANTOM)


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
    environment.filters |= {"text": as_text, "markdown": markdown, "captioned": captioned}
    return environment
