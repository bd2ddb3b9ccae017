"""The page that a run leaves for its reader: one HTML file that needs neither network nor script."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cxr_pipeline.report.pages.card import NOT_KNOWN, monitoring, unknown_fields
from cxr_pipeline.report.rendering import fill, png_uri
from cxr_pipeline.report.words import summary, tables
from cxr_pipeline.report.words.explanations import where_it_looks
from cxr_pipeline.report.words.kinds import Kind, kind_of
from cxr_pipeline.report.words.subgroups import subgroup_sentences, subgroup_table
from cxr_pipeline.report.words.tables import Table
from cxr_pipeline.report.words.text import spelled
from cxr_pipeline.report.words.warnings import cautions

HEATMAPS = "heatmaps"

FIGURES = {
    "class_auc": ("AUC of each class", "With its interval, the best first; n is how many test images of it there are."),
    "roc": ("ROC curve", "Every threshold trades images found against false alarms; the upper left corner is best."),
    "precision_recall": ("Precision and sensitivity", "How many alarms are right, for each share of images found."),
    "score_histogram": ("Probabilities by class", "The less the two classes overlap, the better they are told apart."),
    "confusion": ("Decisions at the threshold", "Test images by true class and decision, with the share of the row."),
    "confusion_matrix": (
        "Which class is taken for which",
        "Test images by true class and decision, with the share of the row; right decisions are on the diagonal.",
    ),
    "classification_report": ("Classification report", "What each class is worth at the decisions made."),
    "reliability": (
        "Are the probabilities honest?",
        "On the dotted line, of images given 30 % just 30 % are positive. The bars are 95 % intervals.",
    ),
    "class_reliability": (
        "Are the probabilities honest?",
        "On the dotted line, of images given 10 % just 10 % are of the class. The bars are 95 % intervals.",
    ),
    "class_roc": (
        "ROC curve of each class",
        "Every threshold trades images found against false alarms; the point is what the decisions reach.",
    ),
    "class_precision_recall": (
        "Precision and sensitivity of each class",
        "How many alarms are right, for each share of images found; guessing reaches the dotted line.",
    ),
    "training_curves": ("Training", "Where the validation loss turns up, the network learns its images by heart."),
    "mistakes": (
        "The most confident mistakes",
        "Test images that were decided wrongly with most confidence, and the probability given.",
    ),
    "class_samples": ("An image of each class", "Training images, as the network is shown them."),
    HEATMAPS: (
        "Where it looks",
        "Test images of each kind of decision of which the model is surest, each beside its heat map; boxes are those "
        "that readers drew.",
    ),
    "augmentation_preview": ("Augmentation", "Training images, and views of them as the network is shown them."),
}
WIDE_FIGURES = ("mistakes", "augmentation_preview", "class_samples")
DENSE_FIGURES = (
    "class_auc",
    "class_roc",
    "class_precision_recall",
    "class_reliability",
    "confusion_matrix",
    "classification_report",
    HEATMAPS,
)


@dataclass(frozen=True)
class ReportContent:
    """Everything that the page shows.

    Args:
        task: ``name``, ``title``, ``kind`` and ``classes``, of two the negative and then the positive one.
        metrics: the content of ``metrics.json``.
        decision_rule: the JSON form of the decision rule.
        data_report: what was read and what was refused, by source.
        quarantine: ``source``, ``image``, ``reason``, ``detail`` of each image refused.
        split_counts: for each split, images of each class, ``patients`` (None where not known), and ``images`` where
            the classes do not add up to them.
        source_counts: for each source, its images in each split.
        history: a row per epoch.
        figures: PNG bytes by name; those of ``FIGURES`` are explained and shown in its order. One that is called
            ``heatmaps``, or ``heatmaps_<class>``, is shown where the page says where the model looks.
        parameters: dotted name to value.
        versions: package, or ``git commit``, to version.
        model: ``name``, ``weights``, ``n_parameters``, and ``size``, the side of its images in pixels.
        explanations: ``method``, ``layer``, ``localisation`` by class and ``randomised``; None where there are none.
        classification_report: a row for each class; None where there is none.
        confusion_table: test images by true class (rows) and decision; None where there is none.
        subgroups: content of ``subgroups.json``; None where groups were not measured.
    """

    task: Mapping[str, Any]
    metrics: Mapping[str, Any]
    decision_rule: Mapping[str, Any]
    data_report: Mapping[str, Any]
    quarantine: pd.DataFrame
    split_counts: Mapping[str, Mapping[str, int | None]]
    source_counts: Mapping[str, Mapping[str, int]]
    history: pd.DataFrame
    figures: Mapping[str, bytes]
    parameters: Mapping[str, Any]
    versions: Mapping[str, str]
    model: Mapping[str, Any]
    explanations: Mapping[str, Any] | None = None
    classification_report: pd.DataFrame | None = None
    confusion_table: pd.DataFrame | None = None
    subgroups: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Picture:
    """A figure with its words; ``uri`` holds the PNG itself, ``shape`` is ``""``, ``"wide"`` or ``"dense"``."""

    title: str
    explanation: str
    uri: str
    shape: str


def render(content: ReportContent) -> str:
    """Write the page.

    Returns:
        HTML that loads nothing from anywhere. Text from images and tables is escaped.
    """
    kind = kind_of(content.task)
    maps = {name: figure for name, figure in content.figures.items() if name.startswith(HEATMAPS)}
    others = {name: figure for name, figure in content.figures.items() if name not in maps}
    return fill(
        "report.html.j2",
        task=content.task,
        phantom=content.metrics["phantom"],
        pictures=pictures(others),
        heatmaps=pictures(maps),
        **_texts(content, kind),
        **_tables(content, kind),
    )


def pictures(figures: Mapping[str, bytes]) -> list[Picture]:
    """Each figure with its words: the known ones in their order, then any other under its own name."""
    order = [name for name in FIGURES if name in figures] + [name for name in figures if name not in FIGURES]
    return [_picture(name, figures[name]) for name in order]


def _picture(name: str, figure: bytes) -> Picture:
    """Of ``heatmaps_<class>`` the words are those of ``heatmaps``."""
    known = HEATMAPS if name.startswith(f"{HEATMAPS}_") else name
    title, explanation = FIGURES.get(known, (spelled(name).capitalize(), ""))
    shapes = {**dict.fromkeys(DENSE_FIGURES, "dense"), **dict.fromkeys(WIDE_FIGURES, "wide")}
    return Picture(
        title if known == name else f"{title} for {name.removeprefix(f'{HEATMAPS}_')}",
        explanation,
        uri=png_uri(figure),
        shape=shapes.get(known, ""),
    )


def _texts(content: ReportContent, kind: Kind) -> dict[str, Any]:
    metrics, data = content.metrics, content.data_report
    return {
        "trained": summary.what_was_trained(kind, content.model),
        "on_whom": summary.on_whom(kind, data, content.split_counts),
        "how_good": summary.how_good(kind, metrics),
        "how_sure": summary.how_sure(kind, metrics),
        "not_for": summary.not_for(kind, content.source_counts),
        "how_decided": summary.how_decided(content.decision_rule),
        "warnings": cautions(kind, metrics, content.decision_rule, data, content.split_counts),
        "where_it_looks": where_it_looks(content.explanations) if content.explanations else [],
        "notes": [f"{name}: {note}" for name, source in data["sources"].items() for note in source["notes"]],
        "n_refused": len(content.quarantine),
        "about_subgroups": subgroup_sentences(content.subgroups) if content.subgroups else [],
        "monitoring": monitoring(content.task["name"], phantom=metrics["phantom"]),
        "not_known": NOT_KNOWN,
    }


def _tables(content: ReportContent, kind: Kind) -> dict[str, Table | None]:
    metrics, data, rule = content.metrics, content.data_report, content.decision_rule
    return {
        "measures": tables.measures(metrics, kind),
        "per_class": tables.per_class(metrics),
        "classification_report": _frame(content.classification_report),
        "confusion_table": _frame(content.confusion_table),
        "per_source": tables.per_source(metrics),
        "per_source_auc": tables.per_source_auc(metrics),
        "policies": tables.policies(metrics),
        "subgroups": subgroup_table(content.subgroups) if content.subgroups else None,
        "unknown_fields": unknown_fields(),
        "decision_rule": tables.whole_rule(rule),
        "rules_of_classes": tables.rules_of_classes(rule),
        "localisation": tables.localisation(content.explanations),
        "sources": tables.sources(data),
        "left_out": tables.left_out(data),
        "confounding": tables.confounding(data),
        "facts": tables.facts(data),
        "splits": tables.splits(content.split_counts, kind.classes),
        "model": tables.pairs(content.model),
        "history": tables.of_frame(content.history),
        **_lists(content),
    }


def _lists(content: ReportContent) -> dict[str, Table]:
    """Reasons for refusal, parameters and versions; the names of images, which may name patients, stay out of it."""
    reasons = content.quarantine["reason"].value_counts()
    parameters = {
        name: json.dumps(value, ensure_ascii=False, default=str) for name, value in content.parameters.items()
    }
    return {
        "reasons": Table(("reason", "images"), tuple((str(name), f"{count:,}") for name, count in reasons.items())),
        "parameters": Table(("parameter", "value"), tuple(parameters.items())),
        "versions": Table(("", ""), tuple(content.versions.items())),
    }


def _frame(frame: pd.DataFrame | None) -> Table | None:
    return None if frame is None or frame.empty else tables.of_frame(frame)
