"""The tables of a report and a model card, each from one document of a run; None if it would be empty.

Documents are the JSON documents that a run writes, where null stands for an undefined number.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from cxr_pipeline.common.mappings import flatten
from cxr_pipeline.evaluation import subgroups as groups
from cxr_pipeline.report.content import Document, Table
from cxr_pipeline.report.formatting import as_text, humanize, measure, number, percent
from cxr_pipeline.report.kinds import Kind, title

PER_CLASS = ("auc", "average_precision", "sensitivity", "specificity", "precision", "f1")
PER_SOURCE = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "f1")
EXCLUDED = {
    "other_classes": "no class of this task",
    "several_classes": "more than one class of this task",
    "uncertain": "uncertain label",
    "listed": "a label that the task excludes",
    "by_layout": "excluded by the layout, such as lateral views",
}
UNKNOWN = "unknown"
COUNTS = {"positive": "n_positive", "labelled": "n_known"}
SplitCounts = Mapping[str, Mapping[str, int | None]]


def overall(metrics: Document, kind: Kind) -> Table:
    """List every metric with its interval and meaning."""
    rows = []
    for name, measured in metrics["metrics"].items():
        low, high = measured["low"], measured["high"]
        bounds = "" if low is None or high is None else f"{number(low)} to {number(high)}"
        rows.append((title(name), number(measured["value"]), bounds, kind.meanings.get(name, "")))
    level = percent(metrics["intervals"]["confidence"])
    return Table(("metric", "value", f"{level} interval", "meaning"), rows, "explained")


def per_class(metrics: Document) -> Table | None:
    """List the metrics of each class; None for a single output."""
    classes, support = metrics["per_class"], metrics.get("support", {})
    counts = {
        name: {label: as_text(support[name][key]) for label, key in COUNTS.items()} if name in support else {}
        for name in classes
    }
    thresholds = {name: number(value) for name, value in metrics.get("thresholds", {}).items()}
    rows = {
        name: ({**counts[name], "threshold": thresholds.get(name, "")}, measures) for name, measures in classes.items()
    }
    return _compare("class", rows, PER_CLASS) if len(classes) > 1 else None


def per_source(metrics: Document) -> Table | None:
    """List the metrics of each source; None for a single source."""
    rows = {
        name: ({"images": as_text(source["n_images"])}, source["metrics"]) for name, source in _sources(metrics).items()
    }
    return _compare("source", rows, PER_SOURCE)


def auc_per_source(metrics: Document) -> Table | None:
    """List the AUC of each class by source; None for a single source or output."""
    sources = _sources(metrics)
    if len(metrics["per_class"]) < 2 or not sources:
        return None
    rows = [
        (name, *(measure(source["per_class"].get(name, {}).get("auc")) for source in sources.values()))
        for name in metrics["per_class"]
    ]
    return Table(("class", *sources), rows, "measured")


def policies(metrics: Document) -> Table | None:
    """List the metrics with other threshold policies; None if no others were compared."""
    rows = {
        _policy(row["policy"]) + (" (chosen)" if row.get("chosen") else ""): (
            {"threshold": as_text(list(row["thresholds"].values()))},
            row["metrics"],
        )
        for row in metrics.get("policies") or []
    }
    return _compare("policy", rows, PER_SOURCE[1:])


def subgroups(evaluated: Document | None) -> Table | None:
    """List the metrics of each subgroup with enough patients; None if there are none."""
    rows: dict[str, tuple[dict[str, str], Document]] = {}
    for attribute, name, group in subgroups_of(evaluated or {}):
        if group["metrics"]:
            n_classes = len(group["n_known"])
            counts = {"images": as_text(group["n_images"]), "patients": _or_unknown(group["n_patients"])}
            classes = {"classes": f"{len(group['per_class'])} of {n_classes}"} if n_classes > 1 else {}
            facts = {**counts, **classes, "prevalence": number(_prevalence(group))}
            rows[f"{attribute}: {name}"] = (facts, group["metrics"])
    return _compare("group", rows, groups.MEASURES)


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


def rules_of_classes(rule: Document) -> Table | None:
    """List the decision rule of each class; None if all classes share one rule."""
    if "per_class" not in rule:
        return None
    flat = {
        name: flatten({"threshold": rule.get("thresholds", {}).get(name, ""), **rule_of_class})
        for name, rule_of_class in rule["per_class"].items()
    }
    keys = list(dict.fromkeys(key for rule_of_class in flat.values() for key in rule_of_class))
    rows = [(name, *(as_text(rule_of_class.get(key, "")) for key in keys)) for name, rule_of_class in flat.items()]
    return Table(("class", *map(humanize, keys)), rows, "long")


def sources(data_report: Document) -> Table:
    """Count the rows of each source: read, excluded, missing, quarantined and usable."""
    columns = {
        "rows_in_source": "rows",
        "left_out": "excluded",
        "not_on_disk": "not on disk",
        "quarantine": "quarantined",
        "manifest": "usable",
        "n_patients": "patients",
    }
    rows = []
    for name, source in data_report["sources"].items():
        summed = {key: sum(source[key].values()) for key in ("left_out", "quarantine")}
        patients = source["n_patients"] if source["has_patients"] else UNKNOWN
        rows.append((name, *(as_text({**source, **summed, "n_patients": patients}[key]) for key in columns)))
    return Table(("source", *columns.values()), rows, "counted")


def excluded(data_report: Document) -> Table:
    """Count the rows that were excluded on purpose, by reason."""
    rows = [
        (name, EXCLUDED.get(reason, humanize(reason)), as_text(count))
        for name, source in data_report["sources"].items()
        for reason, count in source["left_out"].items()
        if count
    ]
    return Table(("source", "excluded because of", "rows"), rows)


def quarantined(quarantine: pd.DataFrame) -> Table:
    """Count the quarantined images by reason; their names, which may contain patients' names, are not shown."""
    reasons = quarantine["reason"].value_counts()
    return Table(("reason", "images"), [(str(name), as_text(int(count))) for name, count in reasons.items()])


def confounding(data_report: Document) -> Table | None:
    """Count images by class and source, with the AUC of the source alone; None if it was not measured."""
    measured = data_report.get("confounding")
    if not measured:
        return None
    names = dict.fromkeys(source for images in measured["n_images"].values() for source in images)
    alone = {name: number(area["auc"]) for name, area in measured["per_class"].items()}
    rows = [
        (name, *(as_text(images.get(source, 0)) for source in names), alone.get(name, ""))
        for name, images in measured["n_images"].items()
    ]
    return Table(("class", *names, "AUC of the source alone"), rows, "counted")


def all_images(data_report: Document) -> Table:
    """Summarise all images: counts, patients, classes, age, sex and view."""
    age = {humanize(name): value for name, value in data_report["age"].items() if value is not None}
    unlabelled = data_report.get("unknown_labels", {})
    values = {
        "images": data_report["n_images"],
        "patients": data_report["n_patients"] or UNKNOWN,
        "images without a patient": data_report["n_images_without_patient"],
        **{f"images labelled {name}": count for name, count in data_report["classes"].items()},
        **{f"images with unknown label {name}": count for name, count in unlabelled.items() if count},
        "age in years": _tally(age),
        "sex": _tally(data_report["sex"]),
        "view": _tally(data_report["view"]),
        "data digest": data_report["data_digest"],
    }
    return Table.of_pairs(values, style="long")


def splits(split_counts: SplitCounts, classes: Sequence[str]) -> Table:
    """Count images and patients by class and split, with the share of each class."""
    counts = split_counts.values()
    rows = [
        *((name, *(as_text(images.get(name, 0)) for images in counts)) for name in classes),
        ("images", *(as_text(images_in(images)) for images in counts)),
        ("patients", *(_or_unknown(images["patients"]) for images in counts)),
        *((f"share of {name}", *(_share(images, name) for images in counts)) for name in classes),
    ]
    return Table(("", *split_counts), rows, "counted")


def images_in(counts: Mapping[str, int | None]) -> int:
    """Return the number of images in a split: ``images``, or else the sum over its classes."""
    images = counts.get("images")
    return sum(count or 0 for name, count in counts.items() if name != "patients") if images is None else images


def localisation(explanations: Document | None) -> Table | None:
    """List the agreement of the heat maps of each class with the boxes; None without boxes."""
    localised = (explanations or {}).get("localisation")
    if not localised:
        return None
    columns = {
        "pointing_game": "maximum in a box",
        "pointing_game_centred": "image centre in a box",
        "pointing_game_random": "random point in a box",
        "heat_in_box": "share of heat in boxes",
        "heat_in_box_centred": "share of a central blob in boxes",
        "box_area": "share of area in boxes",
    }
    rows = [
        (
            name,
            as_text(measures["n_images"]),
            as_text(measures["n_boxes"]),
            *(measure(measures.get(key)) for key in columns),
        )
        for name, measures in localised.items()
    ]
    return Table(("class", "images", "boxes", *columns.values()), rows, "measured")


def parameters(values: Document) -> Table:
    """List parameters as JSON."""
    rows = [(name, json.dumps(value, ensure_ascii=False, default=str)) for name, value in values.items()]
    return Table(("parameter", "value"), rows, "long")


def _sources(metrics: Document) -> dict[str, Document]:
    """Return the metrics of all sources together and of each source; empty for a single source."""
    return {"all sources": metrics, **metrics["per_source"]} if "per_source" in metrics else {}


def _compare(
    heading: str, rows: Mapping[str, tuple[Mapping[str, str], Document]], names: Sequence[str]
) -> Table | None:
    """List metrics side by side, except those that no row has; None without rows.

    Args:
        heading: heading of the first column.
        rows: by name, further columns by heading, and metrics.
        names: the metrics to list.
    """
    if not rows:
        return None
    facts = list(dict.fromkeys(fact for facts_of_row, _ in rows.values() for fact in facts_of_row))
    present = [name for name in names if any(name in measures for _, measures in rows.values())]
    cells = [
        (label, *(facts_of_row.get(fact, "") for fact in facts), *(measure(measures.get(name)) for name in present))
        for label, (facts_of_row, measures) in rows.items()
    ]
    return Table((heading, *facts, *map(title, present)), cells, "measured")


def _policy(policy: Document) -> str:
    """Return ``"fixed, value 0.3"`` for ``{"rule": "fixed", "value": 0.3}``."""
    values = [f"{humanize(name)} {value:g}" for name, value in policy.items() if name != "rule"]
    return ", ".join([humanize(policy["rule"]), *values])


def _prevalence(group: Document) -> float:
    """Return the share of positive images, averaged over the classes that were evaluated."""
    shares = [group["n_positive"][name] / group["n_known"][name] for name in group["per_class"]]
    return float(sum(shares) / len(shares))


def _share(counts: Mapping[str, int | None], name: str) -> str:
    total = images_in(counts)
    return number((counts.get(name) or 0) / total if total else None)


def _or_unknown(count: int | None) -> str:
    return UNKNOWN if count is None else as_text(count)


def _tally(values: Document) -> str:
    """Return ``"F 310, M 402, unknown 5"``."""
    return ", ".join(f"{name} {value:,g}" for name, value in values.items())
