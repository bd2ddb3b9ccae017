"""The tables of a report and a model card, each from one JSON document of a run; a page omits an empty one."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pandas as pd

from cxr_pipeline.common.mappings import flatten
from cxr_pipeline.evaluation import subgroups as groups
from cxr_pipeline.report.formatting import Document, humanize, percent
from cxr_pipeline.report.kinds import Kind, title
from cxr_pipeline.report.page import Table

RATES = ("sensitivity", "specificity", "precision", "f1")
PER_CLASS = ("positive", "labelled", "threshold", "auc", "average_precision", *RATES)
POLICIES = ("threshold", "accuracy", "balanced_accuracy", *RATES)
PER_SOURCE = ("images", "auc", *POLICIES[1:])
PER_GROUP = ("images", "patients", "classes", "prevalence", *groups.MEASURES)
LOCALISATION = {
    "n_images": "images",
    "n_boxes": "boxes",
    "pointing_game": "maximum in a box",
    "pointing_game_centred": "image centre in a box",
    "pointing_game_random": "random point in a box",
    "heat_in_box": "share of heat in boxes",
    "heat_in_box_centred": "share of a central blob in boxes",
    "box_area": "share of area in boxes",
}
EXCLUDED = {
    "other_classes": "no class of this task",
    "several_classes": "more than one class of this task",
    "uncertain": "uncertain label",
    "listed": "a label that the task excludes",
    "by_layout": "excluded by the layout, such as lateral views",
}
UNKNOWN = "unknown"
SplitCounts = Mapping[str, Mapping[str, int | None]]


def overall(metrics: Document, kind: Kind) -> Table:
    """List every metric with its interval and meaning."""
    rows = []
    for name, measured in metrics["metrics"].items():
        low, high = measured["low"], measured["high"]
        bounds = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
        rows.append((title(name), measured["value"], bounds, kind.meanings.get(name, "")))
    level = percent(metrics["intervals"]["confidence"])
    return Table(("metric", "value", f"{level} interval", "meaning"), rows, "explained")


def per_class(metrics: Document) -> Table:
    """List the metrics of each class; empty for a single output."""
    support, thresholds = metrics.get("support", {}), metrics.get("thresholds", {})
    rows = {}
    for name, measures in metrics["per_class"].items():
        counts = {"positive": support[name]["n_positive"], "labelled": support[name]["n_known"]} if support else {}
        rows[name] = {**counts, "threshold": thresholds.get(name, ""), **measures}
    return _compare("class", rows if len(rows) > 1 else {}, PER_CLASS)


def per_source(metrics: Document) -> Table:
    """List the metrics of each source; empty for a single source."""
    rows = {name: {"images": source["n_images"], **source["metrics"]} for name, source in _sources(metrics).items()}
    return _compare("source", rows, PER_SOURCE)


def auc_per_source(metrics: Document) -> Table:
    """List the AUC of each class by source; empty for a single source or output."""
    sources = _sources(metrics)
    rows = [
        (name, *(source["per_class"].get(name, {}).get("auc", "") for source in sources.values()))
        for name in metrics["per_class"]
    ]
    return Table(("class", *sources), rows if sources and len(rows) > 1 else [], "measured")


def policies(metrics: Document) -> Table:
    """List the metrics with other threshold policies; empty if no others were compared."""
    rows = {}
    for row in metrics.get("policies") or []:
        values = [f"{humanize(name)} {value:g}" for name, value in row["policy"].items() if name != "rule"]
        label = ", ".join([humanize(row["policy"]["rule"]), *values]) + " (chosen)" * bool(row.get("chosen"))
        rows[label] = {"threshold": list(row["thresholds"].values()), **row["metrics"]}
    return _compare("policy", rows, POLICIES)


def subgroups(evaluated: Document) -> Table:
    """List the metrics of each subgroup with enough patients."""
    rows = {}
    for attribute, name, group in subgroups_of(evaluated):
        if group["metrics"]:
            measured, n_classes = group["per_class"], len(group["n_known"])
            shares = [group["n_positive"][each] / group["n_known"][each] for each in measured]
            rows[f"{attribute}: {name}"] = {
                "images": group["n_images"],
                "patients": _or_unknown(group["n_patients"]),
                **({"classes": f"{len(measured)} of {n_classes}"} if n_classes > 1 else {}),
                "prevalence": sum(shares) / len(shares),
                **group["metrics"],
            }
    return _compare("group", rows, PER_GROUP)


def subgroups_of(evaluated: Document) -> Iterator[tuple[str, str, Document]]:
    """Yield the attribute, the name and the results of each subgroup."""
    for attribute in groups.ATTRIBUTES:
        for name, group in evaluated.get(attribute, {}).get("groups", {}).items():
            yield attribute, name, group


def decision_rule(rule: Document) -> Table:
    """List the decision rule, without blank values and the part that differs between classes."""
    by_class = ("per_class", "thresholds") if "per_class" in rule else ()
    flat = flatten({key: value for key, value in rule.items() if key not in by_class})
    return Table.of_pairs({humanize(name): value for name, value in flat.items() if value != ""}, style="long")


def rules_of_classes(rule: Document) -> Table:
    """List the decision rule of each class; empty if all classes share one rule."""
    thresholds = rule.get("thresholds", {})
    rules = {
        name: flatten({"threshold": thresholds.get(name, ""), **rule_of_class})
        for name, rule_of_class in rule.get("per_class", {}).items()
    }
    return _compare("class", rules, dict.fromkeys(key for row in rules.values() for key in row), "long")


def sources(data_report: Document) -> Table:
    """Count the rows of each source: read, excluded, missing, quarantined and usable."""
    rows = [
        (
            name,
            source["rows_in_source"],
            sum(source["left_out"].values()),
            source["not_on_disk"],
            sum(source["quarantine"].values()),
            source["manifest"],
            source["n_patients"] if source["has_patients"] else UNKNOWN,
        )
        for name, source in data_report["sources"].items()
    ]
    columns = ("source", "rows", "excluded", "not on disk", "quarantined", "usable", "patients")
    return Table(columns, rows, "counted")


def excluded(data_report: Document) -> Table:
    """Count the rows that were excluded on purpose, by reason."""
    rows = [
        (name, EXCLUDED.get(reason, humanize(reason)), count)
        for name, source in data_report["sources"].items()
        for reason, count in source["left_out"].items()
        if count
    ]
    return Table(("source", "excluded because of", "rows"), rows)


def quarantined(quarantine: pd.DataFrame) -> Table:
    """Count the quarantined images by reason; their names, which may contain patients' names, are not shown."""
    return Table(("reason", "images"), list(quarantine["reason"].value_counts().items()))


def confounding(data_report: Document) -> Table:
    """Count images by class and source, with the AUC of the source alone; empty if it was not measured."""
    measured = data_report.get("confounding") or {"n_images": {}, "per_class": {}}
    names = dict.fromkeys(source for images in measured["n_images"].values() for source in images)
    rows = [
        (name, *(images.get(source, 0) for source in names), measured["per_class"].get(name, {"auc": ""})["auc"])
        for name, images in measured["n_images"].items()
    ]
    return Table(("class", *names, "AUC of the source alone"), rows, "counted")


def all_images(data_report: Document) -> Table:
    """Summarise all images: counts, patients, classes, age, sex and view."""
    unlabelled = data_report.get("unknown_labels", {})
    values = {
        "images": data_report["n_images"],
        "patients": data_report["n_patients"] or UNKNOWN,
        "images without a patient": data_report["n_images_without_patient"],
        **{f"images labelled {name}": count for name, count in data_report["classes"].items()},
        **{f"images with unknown label {name}": count for name, count in unlabelled.items() if count},
        "age in years": _tally(data_report["age"]),
        "sex": _tally(data_report["sex"]),
        "view": _tally(data_report["view"]),
        "data digest": data_report["data_digest"],
    }
    return Table.of_pairs(values, style="long")


def splits(split_counts: SplitCounts, classes: Sequence[str]) -> Table:
    """Count images and patients by class and split, with the share of each class."""
    counts = split_counts.values()
    totals = [images_in(images) for images in counts]
    shares = {
        name: [(images.get(name) or 0) / total if total else None for images, total in zip(counts, totals, strict=True)]
        for name in classes
    }
    rows = [
        *((name, *(images.get(name, 0) for images in counts)) for name in classes),
        ("images", *totals),
        ("patients", *(_or_unknown(images["patients"]) for images in counts)),
        *((f"share of {name}", *shares[name]) for name in classes),
    ]
    return Table(("", *split_counts), rows, "counted")


def images_in(counts: Mapping[str, int | None]) -> int:
    """Return the number of images in a split: ``images``, or else the sum over its classes."""
    images = counts.get("images")
    return sum(count or 0 for name, count in counts.items() if name != "patients") if images is None else images


def localisation(explanations: Document) -> Table:
    """List the agreement of the heat maps of each class with the boxes; empty without boxes."""
    localised = explanations.get("localisation") or {}
    rows = [(name, *(measures.get(key) or "" for key in LOCALISATION)) for name, measures in localised.items()]
    return Table(("class", *LOCALISATION.values()), rows, "measured")


def parameters(values: Document) -> Table:
    """List parameters as JSON."""
    rows = [(name, json.dumps(value, ensure_ascii=False, default=str)) for name, value in values.items()]
    return Table(("parameter", "value"), rows, "long")


def _sources(metrics: Document) -> dict[str, Document]:
    """Return the metrics of all sources together and of each source; empty for a single source."""
    return {"all sources": metrics, **metrics["per_source"]} if "per_source" in metrics else {}


def _compare(heading: str, rows: Mapping[str, Document], names: Iterable[str], style: str = "measured") -> Table:
    """Make a table of rows by label, with the columns among ``names`` that any row has."""
    present = [name for name in names if any(name in row for row in rows.values())]
    cells = [(label, *("" if row.get(name) is None else row[name] for name in present)) for label, row in rows.items()]
    return Table((heading, *map(title, present)), cells, style)


def _or_unknown(count: int | None) -> int | str:
    return UNKNOWN if count is None else count


def _tally(values: Document) -> str:
    """Return ``"F 310, M 402, unknown 5"``."""
    return ", ".join(f"{humanize(name)} {value:,g}" for name, value in values.items() if value is not None)
