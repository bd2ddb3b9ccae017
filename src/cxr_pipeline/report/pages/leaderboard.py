"""The page of the leaderboard: a table for each set of test images, and what could not be ranked.

``table`` is that of :func:`cxr_pipeline.experiments.leaderboard.leaderboard`, also as a CSV file gives it back.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlparse

import pandas as pd

from cxr_pipeline.report.figures.style import BLUE, GREY, INCHES_DENSE, LIGHT, png, sheet
from cxr_pipeline.report.pages.page import Picture
from cxr_pipeline.report.rendering import fill, png_uri
from cxr_pipeline.report.words.text import as_text

Row = Mapping[str, Any]

COLUMNS = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ece": "calibration error",
}
KINDS = {"version": "registered version", "cell": "cell of an experiment"}
LONGEST_NAME, LONGEST_VALUE, SHORT_DIGEST, MOST_DRAWN = 44, 160, 12, 40
NONE_YET = (
    "MLflow knows of no model that was measured on test images. Train one, then compare: kedro run --env demo "
    "--pipeline=effusion (on phantom images), or kedro run --pipeline=effusion (on your own); then kedro run "
    "--pipeline=comparison."
)


@dataclass(frozen=True)
class Link:
    """Text, and the address that it leads to; null where there is none."""

    text: str
    url: str | None


@dataclass(frozen=True)
class Parameter:
    """A parameter that differs within a group; ``emphasised`` where it is not what the first model had."""

    name: str
    value: str
    emphasised: bool


@dataclass(frozen=True)
class Model:
    """A model as the page shows it: everything finished text, but for the links."""

    rank: str
    name: Link
    kind: str
    aliases: str
    measures: tuple[str, ...]
    overlaps: str
    parameters: tuple[Parameter, ...]
    data_digest: str
    date: str
    run: Link
    experiment: str
    not_ranked: str


@dataclass(frozen=True)
class Group:
    """Models that were measured on the same test images, the best first."""

    title: str
    phantom: bool
    test_digest: str
    models: tuple[Model, ...]
    pictures: tuple[Picture, ...]
    varied: bool


def render_leaderboard(table: pd.DataFrame) -> str:
    """Write the page.

    Args:
        table: see above; without rows the page says how to get some.

    Returns:
        HTML that loads nothing from anywhere. Names and parameters are escaped, only links to servers are links.
    """
    rows = _rows(table)
    groups = [_group(group) for group in _ranked(rows)]
    left = [_model(row, {}) for row in rows if row["group"] is None]
    return fill(
        "leaderboard.html.j2",
        groups=groups,
        left=left,
        columns=list(COLUMNS.values()),
        only_phantoms=bool(groups) and all(group.phantom for group in groups),
        none_yet=NONE_YET,
        local=any(row["run_id"] and not row["run_url"] for row in rows),
    )


def name_the_first(table: pd.DataFrame) -> list[str]:
    """Say in a line which model comes first on each set of test images, for the terminal.

    Args:
        table: see above.
    """
    rows = _rows(table)
    lines = []
    for group in _ranked(rows):
        first, images = group[0], "phantom test images" if group[0]["images"] == "phantom" else "test images"
        shared = sum(row["rank"] == 1 for row in group)
        others = f"first of {len(group)}" if shared == 1 else f"one of {shared} that share the first of {len(group)}"
        lines.append(
            f"{first['task']}, {as_text(int(first['n_images']))} {images}: {first['name']} ({others}), "
            f"AUC {first['auc']:.3f} ({first['auc_low']:.3f} to {first['auc_high']:.3f})"
        )
    left = sum(row["group"] is None for row in rows)
    lines += [f"not ranked: {left}, see the page for the reasons"] if left else []
    return ["".join(c if c.isprintable() else "?" for c in line) for line in lines or [NONE_YET]]


def draw_group(rows: Sequence[Row]) -> bytes:
    """AUC of each model with its interval, the best first; the grey band is the interval of the first.

    Args:
        rows: of one group, as ``table`` has them; the first ``MOST_DRAWN`` are drawn.

    Returns:
        PNG bytes.
    """
    drawn = rows[:MOST_DRAWN]
    with sheet(height=1.0 + 0.34 * len(drawn), width=INCHES_DENSE) as figure:
        axes = figure.subplots()
        axes.axvspan(drawn[0]["auc_low"], drawn[0]["auc_high"], color=LIGHT)
        for place, row in enumerate(drawn):
            axes.plot([row["auc_low"], row["auc_high"]], [place, place], color=BLUE)
            axes.plot(row["auc"], place, "o", color=BLUE, markerfacecolor="white" if row["kind"] == "cell" else BLUE)
        axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1.5)
        axes.set_yticks(range(len(drawn)), [_cut(row["name"], LONGEST_NAME) for row in drawn], fontsize=9)
        axes.set(ylim=(len(drawn) - 0.5, -0.5), xlabel="AUC; the dotted line is guessing")
        axes.set_xlim(right=1.01)
        axes.grid(visible=False, axis="y")
        return png(figure)


def _rows(table: pd.DataFrame) -> list[Row]:
    """The rows of the table, None where something is missing."""
    plain = table.astype(object).where(table.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


def _ranked(rows: Sequence[Row]) -> list[list[Row]]:
    groups: dict[int, list[Row]] = {}
    for row in rows:
        if row["group"] is not None:
            groups.setdefault(int(row["group"]), []).append(row)
    return list(groups.values())


def _group(rows: Sequence[Row]) -> Group:
    first = rows[0]
    picture = Picture(
        "AUC",
        "With its interval; hollow points are cells of experiments, the grey band is the interval of the first."
        + (f" The first {MOST_DRAWN} of {len(rows)}." if len(rows) > MOST_DRAWN else ""),
        png_uri(draw_group(rows)),
        "dense",
    )
    phantom = first["images"] == "phantom"
    usual = _values(first)
    return Group(
        title=f"{first['task']}: {as_text(int(first['n_images']))} {'phantom ' if phantom else ''}test images",
        phantom=phantom,
        test_digest=first["test_digest"],
        models=tuple(_model(row, usual) for row in rows),
        pictures=(picture,) if len(rows) > 1 else (),
        varied=bool(usual),
    )


def _model(row: Row, usual: Mapping[str, str]) -> Model:
    overlaps = row["interval_overlaps_first"]
    return Model(
        rank="" if row["rank"] is None else str(int(row["rank"])),
        name=_link(row["name"], row["url"]),
        kind=KINDS[row["kind"]] + (" on phantom images" if row["images"] == "phantom" else ""),
        aliases=row["aliases"] or "",
        measures=tuple(_with_interval(row, name) for name in COLUMNS),
        overlaps="" if overlaps is None else as_text(bool(overlaps)),
        parameters=tuple(
            Parameter(name, _cut(value, LONGEST_VALUE), value != usual.get(name))
            for name, value in _values(row).items()
        ),
        data_digest=(row["data_digest"] or "not known")[:SHORT_DIGEST],
        date=row["date"].replace("T", " ").removesuffix(":00+00:00")[:16],
        run=_link(row["run_id"] or "gone", row["run_url"]),
        experiment=row["experiment_id"] or "",
        not_ranked=row["not_ranked"] or "",
    )


def _with_interval(row: Row, name: str) -> str:
    if row[name] is None:
        return ""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return as_text(row[name]) + ("" if low is None or high is None else f"\n{low:.3f} to {high:.3f}")


def _values(row: Row) -> dict[str, str]:
    values = json.loads(row["parameters"] or "{}")
    return {name: "not logged" if value is None else value for name, value in values.items()}


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _link(text: str, url: str | None) -> Link:
    return Link(text, url if url and urlparse(url).scheme in ("http", "https") else None)
