"""The page that a run leaves for its reader: one HTML file that needs neither network nor script."""

import json
import math
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cxr_pipeline.provenance import flatten
from cxr_pipeline.report import wording

QUARANTINE_ROWS = 200
LISTED_VALUES = 10

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
    "confusion": ("Decisions at the threshold", "Test films by true class and decision, with the share of the row."),
    "reliability": (
        "Are the probabilities honest?",
        "On the dotted line, of films given 30 % just 30 % are positive. The bars are 95 % intervals.",
    ),
    "training_curves": ("Training", "Where the validation loss turns up, the network learns its films by heart."),
    "mistakes": (
        "The most confident mistakes",
        "Test films on the wrong side of the threshold and farthest from it, with the probability given.",
    ),
    "augmentation_preview": ("Augmentation", "Training films, and views of them as the network is shown them."),
}
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
        loader=PackageLoader("cxr_pipeline.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    return template.render(
        task=content.task,
        phantom=content.metrics["phantom"],
        pictures=pictures(content.figures),
        **_texts(content),
        **_tables(content),
    )


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


def as_text(value: object) -> str:
    """A number as a reader wants it: ``"1,200"``, ``"0.890"``, ``"yes"``, ``"not defined"``; text as it is."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "not defined"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) >= 0.001 or value == 0 else f"{value:.3g}"
    if isinstance(value, list | tuple):
        if len(value) > LISTED_VALUES:
            return f"{len(value)} values"
        return ", ".join(as_text(item) for item in value)
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
        "notes": [f"{name}: {note}" for name, source in data["sources"].items() for note in source["notes"]],
        "n_refused": len(content.quarantine),
        "n_refused_shown": min(len(content.quarantine), QUARANTINE_ROWS),
    }


def _tables(content: ReportContent) -> dict[str, Table]:
    quarantine = content.quarantine
    reasons = quarantine["reason"].value_counts()
    parameters = {
        name: json.dumps(value, ensure_ascii=False, default=str) for name, value in content.parameters.items()
    }
    return {
        "measures": _measures(content.metrics),
        "sources": _sources(content.data_report),
        "facts": _facts(content.data_report),
        "reasons": Table(("reason", "films"), tuple((str(name), f"{count:,}") for name, count in reasons.items())),
        "quarantine": _rows(quarantine[["source", "image", "reason", "detail"]].head(QUARANTINE_ROWS)),
        "splits": _splits(content.split_counts, tuple(content.task["classes"])),
        "decision_rule": _pairs(flatten(content.decision_rule)),
        "model": _pairs(content.model),
        "history": _rows(content.history),
        "parameters": Table(("parameter", "value"), tuple(parameters.items())),
        "versions": Table(("", ""), tuple(content.versions.items())),
    }


def _measures(metrics: Mapping[str, Any]) -> Table:
    rows = []
    for name, measure in metrics["metrics"].items():
        title, meaning = MEASURES.get(name, (name, ""))
        bounds = f"{as_text(measure['low'])} to {as_text(measure['high'])}" if measure["low"] is not None else ""
        rows.append((title, as_text(measure["value"]), bounds, meaning))
    interval = f"{100 * metrics['intervals']['confidence']:g} % interval"
    return Table(("measure", "value", interval, "meaning"), tuple(rows))


def _sources(data_report: Mapping[str, Any]) -> Table:
    columns = {
        "rows_in_source": "rows",
        "left_out": "of other classes",
        "not_on_disk": "not on disk",
        "quarantine": "refused",
        "manifest": "usable",
        "n_patients": "patients",
    }
    rows = []
    for name, source in data_report["sources"].items():
        patients = source["n_patients"] if source["has_patients"] else "not known"
        counts = {**source, "quarantine": sum(source["quarantine"].values()), "n_patients": patients}
        rows.append((name, *(as_text(counts[key]) for key in columns)))
    return Table(("source", *columns.values()), tuple(rows))


def _facts(data_report: Mapping[str, Any]) -> Table:
    age = {name.replace("_", " "): value for name, value in data_report["age"].items() if value is not None}
    facts = {
        "films": data_report["n_films"],
        "patients": data_report["n_patients"] or "not known",
        "films whose patient is not known": data_report["n_films_without_patient"],
        **{f"films labelled {name}": count for name, count in data_report["classes"].items()},
        "age in years": _tally(age),
        "sex": _tally(data_report["sex"]),
        "view": _tally(data_report["view"]),
        "data digest": data_report["data_digest"],
    }
    return _pairs(facts)


def _tally(values: Mapping[str, Any]) -> str:
    """``"F 310, M 402, unknown 5"``."""
    return ", ".join(f"{name} {value:,g}" for name, value in values.items())


def _splits(split_counts: Mapping[str, Mapping[str, int | None]], classes: tuple[str, ...]) -> Table:
    rows = []
    for split, counts in split_counts.items():
        patients = "not known" if counts["patients"] is None else counts["patients"]
        cells = (*(counts.get(name, 0) for name in classes), wording.films_in(counts), patients)
        rows.append((split, *(as_text(cell) for cell in cells)))
    return Table(("split", *classes, "films", "patients"), tuple(rows))


def _pairs(values: Mapping[str, Any]) -> Table:
    """Names as words: ``fitted_on.n_films`` as ``"fitted on, n films"``."""
    words = {name.replace("_", " ").replace(".", ", "): as_text(value) for name, value in values.items()}
    return Table(("", ""), tuple(words.items()))


def _rows(frame: pd.DataFrame) -> Table:
    plain = frame.astype(object).where(frame.notna(), None)
    columns = tuple(str(column).replace("_", " ") for column in frame.columns)
    rows = (["" if cell is None else as_text(cell) for cell in row] for row in plain.itertuples(index=False))
    return Table(columns, tuple(tuple(row) for row in rows))
