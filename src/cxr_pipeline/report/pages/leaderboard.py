"""The page of the leaderboard: a table for each set of test images, and the models that could not be ranked."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any
from urllib.parse import quote

import pandas as pd
from markupsafe import Markup, escape

from cxr_pipeline.evaluation.metrics import HEADLINE
from cxr_pipeline.report.figures.intervals import MOST_MODELS, draw_models
from cxr_pipeline.report.formatting import Document, Link, measure, plural, shorten, wording, words
from cxr_pipeline.report.page import PHANTOM, RESEARCH, Block, Page, Section, Table, Verdict, records

KINDS = {"version": "registered version", "cell": "experiment cell"}
NOT_RANKED = ("model", "reason", "AUC", "date (UTC)", "run")
LONGEST_VALUE, SHORT_DIGEST = 160, 12
LOCAL_UI = "http://127.0.0.1:5000"
BREAK, SAME, DIFFERENT = Markup("<br>"), Markup("<code>{}: {}</code>"), Markup("<code>{}: <b>{}</b></code>")


def render_leaderboard(table: pd.DataFrame) -> str:
    """Render a leaderboard, also as a CSV file gives it back, as HTML; only addresses of servers become links."""
    rows, texts = records(table), wording()["leaderboard"]
    groups, unranked = _groups(rows)
    intro = (
        "Registered versions and experiment cells of all tasks, ranked by AUC on the test images. Each table has its "
        f"own test images. {RESEARCH}"
    )
    local = any(row["run_id"] and not row["run_url"] for row in rows)
    not_ranked = [(_model(row), row["not_ranked"], row["auc"] or "", _date(row), _run(row)) for row in unranked]
    sections = [
        Section.warnings(texts["warnings"] if rows else ()),
        *(_group(group, number) for number, group in enumerate(groups, start=1)),
        Section("Not ranked", [Table(NOT_RANKED, not_ranked, "ranked")], anchor="not-ranked"),
    ]
    only_phantoms = bool(groups) and all(group[0]["images"] == "phantom" for group in groups)
    blocks = [intro, texts["local"] if local else None]
    return Page("Leaderboard", _verdict(rows, groups), sections, only_phantoms, blocks, style="leaderboard").html()


def _verdict(rows: Sequence[Document], groups: Sequence[Sequence[Document]]) -> Verdict:
    """Give the first model of each group."""
    if not rows:
        return Verdict(wording()["leaderboard"]["empty"])
    ranked = f"{sum(map(len, groups))} of {plural(len(rows), 'model')} are ranked"
    firsts = {f"{group[0]['name']}: {_images(group[0])}": f"AUC {measure(group[0]['auc'])}" for group in groups}
    return Verdict(f"{ranked}, on {plural(len(groups), 'set')} of test images. First of each set:", firsts)


def first_models(table: pd.DataFrame) -> list[str]:
    """Name the first model of each group, for the terminal; characters that could control it are replaced."""
    groups, unranked = _groups(records(table))
    lines = []
    for group in groups:
        first, tied = group[0], sum(row["rank"] == 1 for row in group)
        place = f"first of {len(group)}" if tied == 1 else f"one of {tied} tied for first of {len(group)}"
        lines.append(f"{first['task']}, {_images(first)}: {first['name']} ({place}), AUC {measure(first['auc'])}")
    if unranked:
        lines.append(f"not ranked: {len(unranked)}; the page gives the reasons")
    lines = lines or [wording()["leaderboard"]["empty"]]
    return ["".join(c if c.isprintable() else "?" for c in line) for line in lines]


def _groups(rows: Sequence[Document]) -> tuple[list[list[Document]], list[Document]]:
    """Split rows into groups with the same test images and the rows that are not ranked."""
    ranked = [row for row in rows if row["group"] is not None]
    groups = [list(group) for _, group in groupby(ranked, key=lambda row: row["group"])]
    return groups, [row for row in rows if row["group"] is None]


def _images(row: Document) -> str:
    return f"{int(row['n_images']):,} {'phantom ' if row['images'] == 'phantom' else ''}test images"


def _group(rows: Sequence[Document], number: int) -> Section:
    usual, (auc, *others) = _parameters(rows[0]), map(words, HEADLINE)
    columns = ("rank", "model", auc, "overlaps first", *others)
    metrics = Table(columns, [_metrics(row) for row in rows], "measured")
    columns = ("rank", "model", *["parameters that differ"] * bool(usual), "data digest", "date (UTC)", "run")
    origin = Table(columns, [_origin(row, usual) for row in rows], "ranked")
    bold = "Parameters that differ between these models; bold where they differ from the first model."
    blocks: list[Block] = [
        Markup('<span class="phantom">{}</span>').format(PHANTOM) if rows[0]["images"] == "phantom" else None,
        f"{plural(len(rows), 'model')}; digest of the test images: {rows[0]['test_digest']}",
        {"leaderboard": draw_models(rows)} if len(rows) > 1 else None,
        f"The figure shows the first {MOST_MODELS} of {len(rows)}." if len(rows) > MOST_MODELS else None,
        metrics,
        Section("Parameters and origin" if usual else "Origin", [origin], bold if usual else "", style="folded"),
    ]
    return Section(f"{rows[0]['task']}: {_images(rows[0])}", blocks, anchor=f"group-{number}")


def _metrics(row: Document) -> tuple[Any, ...]:
    overlaps = row["interval_overlaps_first"]
    auc, *others = (row[name] or "" for name in HEADLINE)
    return int(row["rank"]), _model(row), auc, "" if overlaps is None else bool(overlaps), *others


def _origin(row: Document, usual: Mapping[str, str]) -> tuple[Any, ...]:
    parameters = [
        (SAME if value == usual.get(name) else DIFFERENT).format(name, shorten(value, LONGEST_VALUE))
        for name, value in _parameters(row).items()
    ]
    digest = (row["data_digest"] or "unknown")[:SHORT_DIGEST]
    columns = [BREAK.join(parameters)] if usual else []
    return int(row["rank"]), row["name"], *columns, digest, _date(row), _run(row)


def _model(row: Document) -> Markup:
    aliases = Markup(' <b class="alias">{}</b>').format(row["aliases"]) if row["aliases"] else Markup()
    kind = KINDS[row["kind"]] + (" on phantom images" if row["images"] == "phantom" else "")
    return _linked(row["name"], row, row["url"]) + aliases + Markup('<br><span class="quiet">{}</span>').format(kind)


def _parameters(row: Document) -> dict[str, str]:
    values = json.loads(row["parameters"] or "{}")
    return {name: "not logged" if value is None else value for name, value in values.items()}


def _date(row: Document) -> str:
    return str(row["date"]).replace("T", " ")[:16]


def _run(row: Document) -> Markup:
    return _linked(row["run_id"], row, None) if row["run_id"] else Markup("deleted")


def _linked(text: str, row: Document, url: str | None) -> Markup:
    """Link a text to an address, or else to the run on the server, or in the local MLflow UI without a server."""
    ids = [quote(str(row[name]), safe="") for name in ("experiment_id", "run_id") if row[name]]
    local = f"{LOCAL_UI}/#/experiments/{'/runs/'.join(ids)}" if len(ids) == 2 else None
    return escape(Link(text, url or row["run_url"] or local))
