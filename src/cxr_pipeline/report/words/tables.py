"""The tables of a report: finished text in rows, or None where a run has nothing to put in."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cxr_pipeline.common.mappings import flatten
from cxr_pipeline.report.words.kinds import Kind
from cxr_pipeline.report.words.summary import SplitCounts, images_in
from cxr_pipeline.report.words.text import as_text, spelled, value_of

Document = Mapping[str, Any]

MEASURES = {
    "auc": ("AUC", "chance that a positive image gets a higher probability than a negative one"),
    "average_precision": ("average precision", "precision, averaged over all sensitivities"),
    "accuracy": ("accuracy", "share of images that are decided rightly"),
    "balanced_accuracy": ("balanced accuracy", "mean of sensitivity and specificity"),
    "sensitivity": ("sensitivity", "share of positive images that are found"),
    "specificity": ("specificity", "share of negative images that are called negative"),
    "precision": ("precision", "share of images called positive that are"),
    "f1": ("F1", "harmonic mean of precision and sensitivity"),
    "brier": ("Brier score", "mean squared error of the probability; 0 is best"),
    "ece": ("calibration error", "mean distance of probability and frequency, ten bins of equal mass; 0 is best"),
}
OF_A_CLASS = ("auc", "average_precision", "sensitivity", "specificity", "precision", "f1")
OF_ALL_IMAGES = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "f1")
OF_A_POLICY = OF_ALL_IMAGES[1:]
LEFT_OUT = {
    "other_classes": "of no class of this task",
    "several_classes": "of more than one of its classes",
    "uncertain": "called uncertain by the source",
    "listed": "with a label that the task leaves out",
    "by_layout": "left out by the layout, such as lateral views",
}


@dataclass(frozen=True)
class Table:
    """A table as it is printed: columns, and rows of finished text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def measures(metrics: Document, kind: Kind) -> Table:
    """Every measure of the test images with its interval and its meaning."""
    meanings = {name: meaning for name, (_, meaning) in MEASURES.items()} | dict(kind.meanings)
    rows = []
    for name, measure in metrics["metrics"].items():
        bounds = f"{as_text(measure['low'])} to {as_text(measure['high'])}" if measure["low"] is not None else ""
        rows.append((title(name), as_text(measure["value"]), bounds, meanings.get(name, "")))
    interval = f"{100 * metrics['intervals']['confidence']:g} % interval"
    return Table(("measure", "value", interval, "meaning"), tuple(rows))


def per_class(metrics: Document) -> Table | None:
    """The measures of each class; None where there is one output only."""
    classes = metrics["per_class"]
    if len(classes) < 2:
        return None
    names = _present(OF_A_CLASS, classes.values())
    thresholds, support = metrics.get("thresholds", {}), metrics.get("support", {})
    rows = [
        (
            name,
            *_counted(support.get(name)),
            *(with_interval(measured.get(measure)) for measure in names),
            as_text(thresholds[name]) if name in thresholds else "",
        )
        for name, measured in classes.items()
    ]
    return Table(("class", "images of it", "of", *map(title, names), "threshold"), tuple(rows))


def per_source(metrics: Document) -> Table | None:
    """The measures of each source by itself, below those of all; None where there is one source only."""
    if "per_source" not in metrics:
        return None
    sources = {"all together": metrics, **metrics["per_source"]}
    names = _present(OF_ALL_IMAGES, (source["metrics"] for source in sources.values()))
    rows = [
        (name, as_text(source["n_images"]), *(with_interval(source["metrics"].get(measure)) for measure in names))
        for name, source in sources.items()
    ]
    return Table(("source", "images", *map(title, names)), tuple(rows))


def per_source_auc(metrics: Document) -> Table | None:
    """The AUC of each class by source; None where there is one source or one output only."""
    if "per_source" not in metrics or len(metrics["per_class"]) < 2:
        return None
    sources = {"all together": metrics, **metrics["per_source"]}
    rows = [
        (name, *(with_interval(source["per_class"].get(name, {}).get("auc")) for source in sources.values()))
        for name in metrics["per_class"]
    ]
    return Table(("class", *sources), tuple(rows))


def policies(metrics: Document) -> Table | None:
    """What other threshold policies would have given, below the chosen one; None where none was compared."""
    compared = metrics.get("policies")
    if not compared:
        return None
    names = _present(OF_A_POLICY, (row["metrics"] for row in compared))
    rows = [
        (
            _policy(row["policy"]) + (" (chosen)" if row.get("chosen") else ""),
            as_text(list(row["thresholds"].values())),
            *(with_interval(row["metrics"].get(name)) for name in names),
        )
        for row in compared
    ]
    return Table(("policy", "threshold", *map(title, names)), tuple(rows))


def whole_rule(decision_rule: Document) -> Table:
    """The decision rule, without what ``rules_of_classes`` says of each class."""
    told = ("per_class", "thresholds") if "per_class" in decision_rule else ()
    return pairs(flatten({key: value for key, value in decision_rule.items() if key not in told}))


def rules_of_classes(decision_rule: Document) -> Table | None:
    """The decision rule of each class; None where there is one rule only."""
    if "per_class" not in decision_rule:
        return None
    thresholds = decision_rule.get("thresholds", {})
    flat = {name: flatten(rule) for name, rule in decision_rule["per_class"].items()}
    keys = list(dict.fromkeys(key for rule in flat.values() for key in rule))
    rows = [
        (name, as_text(thresholds[name]) if name in thresholds else "", *(as_text(rule.get(key, "")) for key in keys))
        for name, rule in flat.items()
    ]
    return Table(("class", "threshold", *map(spelled, keys)), tuple(rows))


def sources(data_report: Document) -> Table:
    """How the rows of each source were counted."""
    columns = {
        "rows_in_source": "rows",
        "left_out": "left out",
        "not_on_disk": "not on disk",
        "quarantine": "refused",
        "manifest": "usable",
        "n_patients": "patients",
    }
    rows = []
    for name, source in data_report["sources"].items():
        patients = source["n_patients"] if source["has_patients"] else "not known"
        summed = {key: sum(source[key].values()) for key in ("left_out", "quarantine")}
        counts = {**source, **summed, "n_patients": patients}
        rows.append((name, *(as_text(counts[key]) for key in columns)))
    return Table(("source", *columns.values()), tuple(rows))


def left_out(data_report: Document) -> Table | None:
    """Why rows were left out on purpose; None where none was."""
    rows = tuple(
        (name, LEFT_OUT.get(reason, spelled(reason)), as_text(count))
        for name, source in data_report["sources"].items()
        for reason, count in source["left_out"].items()
        if count
    )
    return Table(("source", "left out on purpose", "rows"), rows) if rows else None


def confounding(data_report: Document) -> Table | None:
    """Images by class and source, and how well the source alone tells the class; None where it was not measured."""
    measured = data_report.get("confounding")
    if not measured:
        return None
    names = dict.fromkeys(source for images in measured["n_images"].values() for source in images)
    alone = {name: as_text(area["auc"]) for name, area in measured["per_class"].items()}
    rows = [
        (name, *(as_text(images.get(source, 0)) for source in names), alone.get(name, ""))
        for name, images in measured["n_images"].items()
    ]
    return Table(("class", *names, "AUC of the source alone"), tuple(rows))


def facts(data_report: Document) -> Table:
    """What is known of all images together."""
    age = {name.replace("_", " "): value for name, value in data_report["age"].items() if value is not None}
    unknown = data_report.get("unknown_labels", {})
    labelled = {f"images labelled {name}": count for name, count in data_report["classes"].items()}
    return _named_pairs(
        {
            "images": data_report["n_images"],
            "patients": data_report["n_patients"] or "not known",
            "images whose patient is not known": data_report["n_images_without_patient"],
            **labelled,
            **{f"images of which {name} is not known": count for name, count in unknown.items() if count},
            "age in years": _tally(age),
            "sex": _tally(data_report["sex"]),
            "view": _tally(data_report["view"]),
            "data digest": data_report["data_digest"],
        }
    )


def splits(split_counts: SplitCounts, classes: Sequence[str]) -> Table:
    """Images and patients by class and split."""
    counts = split_counts.values()
    rows = [
        *((name, *(as_text(images.get(name, 0)) for images in counts)) for name in classes),
        ("images", *(as_text(images_in(images)) for images in counts)),
        (
            "patients",
            *("not known" if images["patients"] is None else as_text(images["patients"]) for images in counts),
        ),
    ]
    return Table(("", *split_counts), tuple(rows))


def localisation(explanations: Document | None) -> Table | None:
    """How the maps of each class fit the boxes; None where no source has boxes."""
    if not explanations or not explanations.get("localisation"):
        return None
    columns = {
        "pointing_game": "hottest point in a box",
        "pointing_game_centred": "the image's middle in a box",
        "pointing_game_random": "a random point in a box",
        "heat_in_box": "share of heat in boxes",
        "heat_in_box_centred": "of a blob in the middle",
        "box_area": "share of the image in boxes",
    }
    rows = [
        (
            name,
            as_text(found["n_images"]),
            as_text(found["n_boxes"]),
            *(with_interval(found.get(key)) for key in columns),
        )
        for name, found in explanations["localisation"].items()
    ]
    return Table(("class", "images", "boxes", *columns.values()), tuple(rows))


def pairs(values: Document) -> Table:
    """Keys in words, and values."""
    return _named_pairs({spelled(name): value for name, value in values.items()})


def of_frame(frame: pd.DataFrame) -> Table:
    """A data frame as it is, with its index as the first column if that has names; null is left blank."""
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index(names=str(frame.index.name or ""))
    plain = frame.astype(object).where(frame.notna(), None)
    rows = (["" if cell is None else as_text(cell) for cell in row] for row in plain.itertuples(index=False))
    return Table(tuple(spelled(column) for column in frame.columns), tuple(tuple(row) for row in rows))


def _named_pairs(values: Document) -> Table:
    return Table(("", ""), tuple((name, as_text(value)) for name, value in values.items()))


def title(name: str) -> str:
    """What a measure is called."""
    return MEASURES[name][0] if name in MEASURES else spelled(name)


def _present(wanted: Sequence[str], measured: Iterable[Document]) -> list[str]:
    """Those of the wanted measures that at least one has."""
    found = {name for measures in measured for name in measures}
    return [name for name in wanted if name in found]


def with_interval(measure: Document | None) -> str:
    """The value, and its interval on a line of its own; blank where there is no such measure."""
    if measure is None:
        return ""
    low, high = (value_of({"it": measure}, "it", end) for end in ("low", "high"))
    bounds = "" if low is None or high is None else f"\n{low:.3f} to {high:.3f}"
    return f"{as_text(measure['value'])}{bounds}"


def _counted(support: Document | None) -> tuple[str, str]:
    return ("", "") if support is None else (as_text(support["n_positive"]), as_text(support["n_known"]))


def _policy(policy: Document) -> str:
    """``{"rule": "fixed", "value": 0.3}`` as ``"fixed, value 0.3"``."""
    values = [f"{spelled(name)} {value:g}" for name, value in policy.items() if name != "rule"]
    return ", ".join([spelled(policy["rule"]), *values])


def _tally(values: Document) -> str:
    """``"F 310, M 402, unknown 5"``."""
    return ", ".join(f"{name} {value:,g}" for name, value in values.items())
