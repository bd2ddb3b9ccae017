"""Sections on the performance on the test images, subgroups and heat maps."""

from typing import Any

from cxr_pipeline.evaluation.subgroups import ATTRIBUTES, MEASURES
from cxr_pipeline.report.content import HEATMAPS, TRAINING, ReportContent
from cxr_pipeline.report.formatting import (
    Document,
    join,
    measure,
    of_100,
    percent,
    plural,
    value_of,
    wording,
    words,
)
from cxr_pipeline.report.kinds import Kind
from cxr_pipeline.report.page import Block, Section, Table
from cxr_pipeline.report.sections.decision_rule import in_words

RATES = ("sensitivity", "specificity", "precision", "f1")
PER_CLASS = ("n_positive", "n_known", "threshold", "auc", "average_precision", *RATES)
POLICIES = ("threshold", "accuracy", "balanced_accuracy", *RATES)
PER_SOURCE = ("n_images", "auc", *POLICIES[1:])
PER_GROUP = ("n_images", "n_patients", "classes", "prevalence", *MEASURES)
LOCALISATION = ("n_images", "n_boxes", "pointing_game", "pointing_game_centred", "pointing_game_random",
                "heat_in_box", "heat_in_box_centred", "box_area")  # fmt: skip
# If heat maps of randomised weights correlate this much with the model's own, these do not depend on the weights.
SAME_MAPS = 0.5


def performance(content: ReportContent) -> Section:
    """Show the metrics with intervals, the figures, and metrics by class, source and threshold policy."""
    kind, metrics = content.kind, content.metrics
    level = percent(metrics["intervals"]["confidence"])
    measured = [(words(name), each, kind.meanings.get(name, "")) for name, each in metrics["metrics"].items()]
    matrix = Table.of_frame(content.confusion_table, style="counted")
    policies = (
        "Metrics on the same test images with thresholds from other policies, none of them fitted on test images. The "
        "policy was chosen in advance."
    )
    blocks: list[Block] = [
        " ".join(kind.describe(metrics)),
        uncertainty(kind, metrics),
        Table(("metric", f"value ({level} interval)", "meaning"), measured, "explained"),
        {name: png for name, png in content.figures.items() if not name.startswith((HEATMAPS, *TRAINING))},
        Section("Metrics by class", [_by_class(metrics)]),
        *_cross_validation(kind, metrics),
        *_by_source(metrics),
        Section("Classification report", [Table.of_frame(content.classification_report)], style="folded"),
        Section(
            "Counts by class",
            [matrix],
            "Test images by true class (rows) and predicted class (columns).",
            style="folded",
        ),
        Section("Other threshold policies", [_by_policy(metrics)], policies, style="folded"),
    ]
    items = "CLAIM 28, 29, 35, 36; TRIPOD+AI 12, 23"
    return Section("Performance on the test images", blocks, items=items, anchor="performance")


def uncertainty(kind: Kind, metrics: Document) -> str:
    """Give the intervals, how they were computed, and what they do not cover."""
    measured = {label: metrics["metrics"][name] for name, label in kind.bounds.items()}
    if all(each["low"] is None for each in measured.values()):
        return "No interval could be computed from these test images."
    confidence, clustered_by = metrics["intervals"]["confidence"], metrics["intervals"]["clustered_by"]
    return (
        f"With {percent(confidence)} confidence intervals: "
        f"{join([f'{label} {measure(each)}' for label, each in measured.items() if each['value'] is not None])}. "
        f"{wording()['clustered_by'][clustered_by]}, and cover the choice of test images only: another hospital, "
        "another scanner or another training run can change the results by more."
    )


def _by_class(metrics: Document) -> Table | None:
    rows = {
        name: {**metrics["support"][name], "threshold": metrics["thresholds"][name], **measures}
        for name, measures in metrics["per_class"].items()
    }
    return Table.of_labelled("class", rows, PER_CLASS) if len(rows) > 1 else None


def _cross_validation(kind: Kind, metrics: Document) -> list[Section]:
    """Compare the cross-validated metrics of an ensemble with those on the test images; nothing for one network."""
    if (measured := metrics.get("cross_validation")) is None:
        return []
    trained = f"{plural(measured['n_images'], 'training image')}, cross-validated"
    rows = {
        name: {"n_images": of["n_images"], **of["metrics"]}
        for name, of in ((trained, measured), ("test images", metrics))
    }
    aucs = [each for each in measured["auc_of_members"] if each is not None]
    explanation = (
        "In cross-validation, each training image is scored by the network that was not trained on it. With more "
        "images than the test set, these figures are less uncertain; they say how well one network of this kind does "
        "on new patients of the same sources. No image chose an epoch, but calibration and threshold are fitted on "
        "these scores. The figures on the test images, which chose nothing, are those of the whole ensemble."
    )
    if aucs:
        explanation += (
            f" The {kind.auc} of {len(aucs)} of the {measured['folds']} networks, each on its own fold, is "
            f"{min(aucs):.3f} to {max(aucs):.3f}."
        )
    table = Table.of_labelled("measured on", rows, ("n_images", "auc", "average_precision"))
    return [Section("Cross-validation", [explanation, table])]


def _by_source(metrics: Document) -> list[Section]:
    """Compare sources; nothing for a single source."""
    if "per_source" not in metrics:
        return []
    sources = {"all sources": metrics, **metrics["per_source"]}
    rows = {name: {**source, **source["metrics"]} for name, source in sources.items()}
    areas = [
        {"class": name, **{source: each["per_class"].get(name, {}).get("auc") for source, each in sources.items()}}
        for name in metrics["per_class"]
    ]
    return [
        Section("Metrics by source", [Table.of_labelled("source", rows, PER_SOURCE)]),
        Section("AUC by class and source", [Table.of_rows(areas, style="measured") if len(areas) > 1 else None]),
    ]


def _by_policy(metrics: Document) -> Table:
    rows = {}
    for row in metrics.get("policies") or []:
        name = in_words(row["policy"], "rule") + " (chosen)" * bool(row.get("chosen"))
        rows[name] = {"threshold": list(row["thresholds"].values()), **row["metrics"]}
    return Table.of_labelled("policy", rows, POLICIES)


def subgroups(evaluated: Document) -> Section:
    """Show the metrics of each subgroup, how to read them, which ones are too small, and which values are unknown."""
    positive, negative = (f"{evaluated['min_patients']} {sign}" for sign in ("positive", "negative"))
    rows, small, unknown, partly, several = {}, [], [], [], False
    for attribute in ATTRIBUTES:
        groups, n_unknown = evaluated[attribute]["groups"], evaluated[attribute]["n_unknown"]
        for name, group in groups.items():
            several |= len(group["n_known"]) > 1
            if group["metrics"]:
                rows[f"{attribute}: {name}"] = _group(group)
            else:
                small.append(f"{attribute} {name} ({plural(group['n_images'], 'image')})")
        if not groups:
            unknown.append(attribute)
        elif n_unknown:
            partly.append(f"{attribute} for {plural(n_unknown, 'image')}")
    sentences = {
        "Each group is evaluated with the decision rule of all images; intervals are "
        f"{percent(evaluated['confidence'])} intervals. With many groups, some of them small, one may stand out by "
        "chance.": rows or small,
        f"Metrics are means over the classes with at least {positive} and {negative} patients "
        "in the group; means over different classes are not comparable.": several,
        f"Not evaluated, with fewer than {positive} or {negative} patients: {join(small)}.": small,
        f"Unknown for all test images: {join(unknown)}.": unknown,
        f"Unknown and left out: {join(partly)}.": partly,
    }
    text = [sentence for sentence, applies in sentences.items() if applies]
    blocks: list[Block] = [*text, Table.of_labelled("group", rows, PER_GROUP)]
    return Section("Subgroups", blocks, items="CLAIM 30, 34; TRIPOD+AI 14, 23a", anchor="subgroups")


def _group(group: Document) -> dict[str, Any]:
    """Return the row of a subgroup; its prevalence is averaged over the classes that were evaluated."""
    evaluated, n_classes = group["per_class"], len(group["n_known"])
    shares = [group["n_positive"][name] / group["n_known"][name] for name in evaluated]
    return {
        "n_images": group["n_images"],
        "n_patients": "unknown" if group["n_patients"] is None else group["n_patients"],
        "classes": f"{len(evaluated)} of {n_classes}" if n_classes > 1 else None,
        "prevalence": sum(shares) / len(shares),
        **group["metrics"],
    }


def heat_maps(content: ReportContent) -> Section:
    """Show heat maps, whether they agree with annotated boxes, and whether they depend on the weights.

    References:
        Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018.
    """
    explained, localised = content.explanations, content.explanations["localisation"]
    blocks: list[Block] = [
        f"Heat maps were computed with {explained['method']} at the layer “{explained['layer']}”.",
        _agreement(localised),
        _dependence(explained["randomised"]),
        Table.of_labelled("class", localised, LOCALISATION),
        {name: png for name, png in content.figures.items() if name.startswith(HEATMAPS)},
    ]
    return Section("Heat maps", blocks, items="CLAIM 31", anchor="heatmaps")


def _agreement(localised: Document) -> str:
    """Say for which classes heat maps point to boxes better than the image centre; blank if that is undefined."""
    verdicts: dict[str, list[str]] = {"is": [], "is not": []}
    for name, measured in localised.items():
        centred = value_of(measured, "pointing_game_centred")
        if value_of(measured, "pointing_game") is not None and centred is not None:
            better = (value_of(measured, "pointing_game", "low") or 0) > centred
            verdicts["is" if better else "is not"].append(name)
    return " ".join(
        f"For {join(names)}, the maximum of the heat map {verb} inside an annotated box significantly more often than "
        "the centre of the image."
        for verb, names in verdicts.items()
        if names
    )


def _dependence(randomised: Document) -> str:
    """Say whether heat maps change with the weights; blank if that is unknown."""
    correlation, hits = value_of(randomised, "rank_correlation"), value_of(randomised, "pointing_game")
    if correlation is None:
        return ""
    measured = f"(rank correlation {correlation:.2f}, mean of {plural(randomised['n_shuffles'], 'shuffle')})"
    if correlation >= SAME_MAPS:
        return f"The heat maps hardly change when the weights are shuffled {measured}: they do not explain the model."
    inside = "" if hits is None else f"; the maximum is then inside a box in {of_100(hits)} of 100 images"
    return f"The heat maps change when the weights are shuffled {measured}{inside}."
