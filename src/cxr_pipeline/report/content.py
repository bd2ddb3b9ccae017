"""The content of pages: sections of sentences, tables and figures, and the results of a report."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from cxr_pipeline.report.formatting import as_text, humanize

Document = Mapping[str, Any]


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table, with None for missing values."""
    plain = table.astype(object).where(table.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


@dataclass(frozen=True)
class Table:
    """A table of text; a cell may also be ``markupsafe.Markup``.

    Args:
        columns: column headings; not shown if all are blank.
        rows: rows of cells.
        style: CSS class: ``measured`` (intervals below their values), ``counted`` (numbers to the right), ``long``
            (long words are broken), or another class of ``report.css``.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    style: str = ""
    kind: ClassVar[str] = "table"

    def __bool__(self) -> bool:
        """Return whether there are rows; sections omit empty tables."""
        return bool(self.rows)

    @classmethod
    def of_pairs(cls, values: Document, *, style: str = "") -> Table:
        """Make a table of names and values."""
        return cls(("", ""), [(name, as_text(value)) for name, value in values.items()], style)

    @classmethod
    def of_frame(cls, frame: pd.DataFrame | None, *, style: str = "") -> Table | None:
        """Make a table of a data frame, with its index as the first column if it has names; null is left blank."""
        if frame is None:
            return None
        if not isinstance(frame.index, pd.RangeIndex):
            frame = frame.reset_index(names=str(frame.index.name or ""))
        plain = frame.astype(object).where(frame.notna(), "").map(as_text)
        return cls(tuple(map(humanize, frame.columns)), plain.to_numpy().tolist(), style)


@dataclass(frozen=True)
class Picture:
    """A figure with its title and explanation.

    Args:
        title: its caption.
        explanation: how to read it.
        png: PNG bytes.
        shape: ``""``, ``"wide"`` (the width of the page), or ``"dense"`` (scrolls on a narrow screen).
    """

    title: str
    explanation: str
    png: bytes
    shape: str = ""

    @property
    def uri(self) -> str:
        """The PNG as a ``data:`` URL, so that the page loads no files."""
        return "data:image/png;base64," + b64encode(self.png).decode("ascii")


@dataclass(frozen=True)
class Pictures:
    """Figures side by side."""

    pictures: Sequence[Picture]
    kind: ClassVar[str] = "pictures"

    def __bool__(self) -> bool:
        """Return whether there are figures."""
        return bool(self.pictures)


@dataclass(frozen=True)
class Section:
    """A part of a page, omitted if all its blocks are empty.

    Args:
        title: its heading.
        blocks: its content, in order: a paragraph, a list of sentences (bullets), a table, figures, or a section. None
            and other empty blocks are skipped.
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
    kind: ClassVar[str] = "section"

    def __bool__(self) -> bool:
        """Return whether there is any content."""
        return any(self.blocks)

    @classmethod
    def warnings(cls, bullets: Sequence[str]) -> Section:
        """Make the section of warnings, which the top of the page links to."""
        return cls("Warnings", [bullets], anchor="warnings", style="warnings")


Block = str | Sequence[str] | Table | Pictures | Section | None


@dataclass(frozen=True)
class Page:
    """A page, in HTML or Markdown.

    Args:
        title: its heading.
        sections: its parts.
        phantom: whether its results are of phantom images; if so, a warning is shown at the top and in the title.
        intro: blocks before the first section.
        style: CSS class of the page.
    """

    title: str
    sections: Sequence[Section]
    phantom: bool = False
    intro: Sequence[Block] = ()
    style: str = ""

    @property
    def warnings(self) -> Block:
        """The bullets of the section of warnings; None without one."""
        return next((section.blocks[0] for section in self.sections if section.style == "warnings"), None)


@dataclass(frozen=True)
class ReportContent:
    """Everything in the report and the model card of a task.

    Args:
        task: ``name``, ``title``, ``kind`` and ``classes``; of two classes, the negative one is first.
        metrics: content of ``metrics.json``, where null stands for an undefined number.
        decision_rule: content of ``decision_rule.json``.
        data_report: content of ``data_report.json``, with that of ``confounding.json`` as ``confounding``.
        quarantine: ``source``, ``image``, ``reason`` and ``detail`` of each quarantined image.
        split_counts: for each split, the images of each class, ``patients`` (None where unknown), and ``images`` where
            an image may have several classes or none.
        source_counts: for each source, its images in each split.
        history: a row for each epoch.
        figures: PNG bytes by name; those called ``heatmaps`` or ``heatmaps_<class>`` go to the section on heat maps.
        parameters: dotted name to value.
        versions: package, or ``git commit``, to version.
        model: ``name``, ``weights``, ``n_parameters``, and ``size``, the side of its input in pixels.
        explanations: content of ``explanations.json``; None without heat maps.
        classification_report: a row for each class; None for a binary task.
        confusion_table: test images by true (rows) and predicted class; None unless classes are exclusive.
        subgroups: content of ``subgroups.json``; None where subgroups were not evaluated.
    """

    task: Document
    metrics: Document
    decision_rule: Document
    data_report: Document
    quarantine: pd.DataFrame
    split_counts: Mapping[str, Mapping[str, int | None]]
    source_counts: Mapping[str, Mapping[str, int]]
    history: pd.DataFrame
    figures: Mapping[str, bytes]
    parameters: Document
    versions: Mapping[str, str]
    model: Document
    explanations: Document | None = None
    classification_report: pd.DataFrame | None = None
    confusion_table: pd.DataFrame | None = None
    subgroups: Document | None = None
