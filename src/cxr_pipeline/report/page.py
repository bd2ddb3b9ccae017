"""The page that a run leaves for its reader: one HTML file that needs neither network nor script."""

import json
import math
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cxr_pipeline.report import wording

QUARANTINE_ROWS = 200

MEASURES = {
    "auc": ("AUC", "chance that a positive film gets a higher probability than a negative one"),
    "average_precision": ("average precision", "precision, averaged over all sensitivities"),
    "accuracy": ("accuracy", "share of films that are decided rightly"),
    "balanced_accuracy": ("balanced accuracy", "mean of sensitivity and specificity"),
    "sensitivity": ("sensitivity", "share of positive films that are found"),
    "specificity": ("specificity", "share of negative films that are called negative"),
    "precision": ("precision", "share of films called positive that are"),
    "f1": ("F1", "harmonic mean of precision and sensitivity"),
    "brier": ("Brier score", "mean squared error of the probability; 0 is best"),
    "ece": ("calibration error", "mean distance of probability and frequency, ten bins of equal mass; 0 is best"),
}

FIGURES = {
    "roc": ("ROC curve", "Every threshold trades films found against false alarms; the upper left corner is best."),
    "precision_recall": ("Precision and sensitivity", "How many alarms are right, for each share of films found."),
    "score_histogram": ("Probabilities by class", "The less the two classes overlap, the better they are told apart."),
    "confusion": ("Decisions at the threshold", "Test films by true class (rows) and decision, with the share of the row."),
    "reliability": (
        "Are the probabilities honest?",
        "On the dotted line, of films given 30 % just 30 % are positive. The bars are 95 % intervals.",
    ),
    "training_curves": ("Training", "Where the validation loss turns up, the network learns its films by heart."),
    "mistakes": ("The most confident mistakes", "Test films on the wrong side of the threshold and farthest from it, "
                 "with the probability given."),
    "augmentation_preview": ("Augmentation", "Training films, and views of them as the network is shown them."),
}  # fmt: skip
WIDE_FIGURES = ("mistakes", "augmentation_preview")


@dataclass(frozen=True)
class ReportContent:
    """Everything that the page shows.

    Args:
        task: ``name``, ``title`` and ``classes``, the negative and then the positive one.
        metrics: the content of ``metrics.json``.
        decision_rule: the JSON form of the decision rule.
        data_report: what was read and what was refused, by source.
        quarantine: ``source``, ``image``, ``reason``, ``detail`` of each film refused.
        split_counts: for each split, films of each class, and ``patients`` (None where not known).
        history: a row per epoch.
        figures: PNG bytes by name; those of ``FIGURES`` are explained and shown in its order.
        parameters: dotted name to value.
        versions: package, or ``git commit``, to version.
        model: ``name``, ``weights``, ``n_parameters``, and ``size``, the side of its films in pixels.
    """

    task: Mapping[str, Any]
    metrics: Mapping[str, Any]
    decision_rule: Mapping[str, Any]
    data_report: Mapping[str, Any]
    quarantine: pd.DataFrame
    split_counts: Mapping[str, Mapping[str, int | None]]
    history: pd.DataFrame
    figures: Mapping[str, bytes]
    parameters: Mapping[str, Any]
    versions: Mapping[str, str]
    model: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A table as it is printed: columns, and rows of finished text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A figure with its words; ``uri`` holds the PNG itself."""

    title: str
    explanation: str
    uri: str
    wide: bool


def render(content: ReportContent) -> str:
    """Write the page.

    Returns:
        HTML that loads nothing from anywhere. Text from films and tables is escaped.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cxr_pipeline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    page = template.render(
        task=content.task,
        phantom=content.metrics["phantom"],
        pictures=pictures(content.figures),
        **_texts(content),
        **_tables(content),
    )
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def pictures(figures: Mapping[str, bytes]) -> list[Picture]:
    """Each figure with its words: the known ones in their order, then any other under its own name."""
    order = [name for name in FIGURES if name in figures] + [name for name in figures if name not in FIGURES]
    return [
        Picture(
            *FIGURES.get(name, (name.replace("_", " ").capitalize(), "")),
            uri="data:image/png;base64," + b64encode(figures[name]).decode("ascii"),
            wide=name in WIDE_FIGURES,
        )
        for name in order
    ]


def figure_of(value: object) -> str:
    """A number as a reader wants it: ``"1,200"``, ``"0.890"``, ``"yes"``, ``"not defined"``; text as it is."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "not defined"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) >= 0.001 or value == 0 else f"{value:.3g}"
    return str(value)


def _texts(content: ReportContent) -> dict[str, Any]:
    metrics, data, classes = content.metrics, content.data_report, tuple(content.task["classes"])
    return {
        "trained": wording.what_was_trained(classes, content.model),
        "on_whom": wording.on_whom(data, content.split_counts),
        "how_good": wording.how_good(metrics, classes),
        "how_sure": wording.how_sure(metrics),
        "not_for": wording.not_for(classes, data),
        "warnings": wording.warnings(metrics, content.decision_rule, data, content.split_counts, classes),
        "n_refused": len(content.quarantine),
        "n_refused_shown": min(len(content.quarantine), QUARANTINE_ROWS),
    }


def _tables(content: ReportContent) -> dict[str, Table]:
    quarantine = content.quarantine
    reasons = quarantine["reason"].value_counts().sort_index(kind="stable").sort_values(ascending=False, kind="stable")
    facts = {key: value for key, value in content.data_report.items() if key not in ("sources", "phantom")}
    return {
        "measures": _measures(content.metrics),
        "sources": _sources(content.data_report),
        "facts": _pairs(_flat(facts).items()),
        "reasons": Table(("reason", "films"), tuple((str(name), f"{count:,}") for name, count in reasons.items())),
        "quarantine": _rows(quarantine[["source", "image", "reason", "detail"]].head(QUARANTINE_ROWS)),
        "splits": _splits(content.split_counts, tuple(content.task["classes"])),
        "decision_rule": _pairs(_flat(content.decision_rule).items()),
        "model": _pairs(content.model.items()),
        "history": _rows(content.history),
        "parameters": Table(
            ("parameter", "value"),
            tuple((name, json.dumps(value, ensure_ascii=False, default=str)) for name, value in content.parameters.items()),
        ),
        "versions": _pairs(content.versions.items()),
    }


def _measures(metrics: Mapping[str, Any]) -> Table:
    rows = []
    for name, measure in metrics["metrics"].items():
        title, meaning = MEASURES.get(name, (name, ""))
        bounds = f"{figure_of(measure['low'])} to {figure_of(measure['high'])}" if measure["low"] is not None else ""
        rows.append((title, figure_of(measure["value"]), bounds, meaning))
    return Table(("measure", "value", f"{100 * metrics['intervals']['confidence']:g} % interval", "meaning"), tuple(rows))


def _sources(data_report: Mapping[str, Any]) -> Table:
    columns = {
        "rows_in_source": "rows",
        "left_out": "of other classes",
        "not_on_disk": "not on disk",
        "quarantine": "refused",
        "manifest": "usable",
        "has_patients": "patients known",
    }
    rows = []
    for name, source in data_report["sources"].items():
        counts = {**source, "quarantine": sum(source["quarantine"].values())}
        rows.append((name, *(figure_of(counts[key]) for key in columns)))
    return Table(("source", *columns.values()), tuple(rows))


def _splits(split_counts: Mapping[str, Mapping[str, int | None]], classes: tuple[str, ...]) -> Table:
    rows = []
    for split, counts in split_counts.items():
        patients = "not known" if counts["patients"] is None else figure_of(counts["patients"])
        rows.append(
            (split, *(figure_of(counts.get(name) or 0) for name in classes), figure_of(wording.films_in(counts)), patients)
        )
    return Table(("split", *classes, "films", "patients"), tuple(rows))


def _flat(nested: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """``{"age": {"median": 50}}`` as ``{"age, median": 50}``."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{above}, {key}" if above else str(key)
        flat.update(_flat(value, name) if isinstance(value, Mapping) else {name: value})
    return flat


def _pairs(items: Iterable[tuple[str, Any]]) -> Table:
    return Table(("", ""), tuple((name.replace("_", " "), figure_of(value)) for name, value in items))


def _rows(frame: pd.DataFrame) -> Table:
    plain = frame.astype(object).where(frame.notna(), None)
    rows = tuple(tuple("" if cell is None else figure_of(cell) for cell in row) for row in plain.itertuples(index=False))
    return Table(tuple(str(column).replace("_", " ") for column in frame.columns), rows)
