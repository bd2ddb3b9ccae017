"""Sections on the performance on the test images, the decision rule, subgroups and heat maps."""

from collections.abc import Iterable, Mapping

from cxr_pipeline.common.mappings import flatten
from cxr_pipeline.evaluation.subgroups import ATTRIBUTES, MEASURES
from cxr_pipeline.report.content import ReportContent
from cxr_pipeline.report.figures.captions import HEATMAPS, TRAINING
from cxr_pipeline.report.formatting import Document, humanize, join, of_100, percent, plural, too_few, value_of
from cxr_pipeline.report.kinds import Kind, title
from cxr_pipeline.report.page import Block, Section, Table
from cxr_pipeline.report.warnings import calibrations, poor_auc

RATES = ("sensitivity", "specificity", "precision", "f1")
PER_CLASS = ("positive", "labelled", "threshold", "auc", "average_precision", *RATES)
POLICIES = ("threshold", "accuracy", "balanced_accuracy", *RATES)
PER_SOURCE = ("images", "auc", *POLICIES[1:])
PER_GROUP = ("images", "patients", "classes", "prevalence", *MEASURES)
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
CLUSTERED = {
    "patient": "They account for the similarity of images of the same patient",
    "image": "They treat each image as one of another patient, because the patients are unknown",
}
# What is said of threshold policies that fit nothing.
NOT_FITTED = {
    "argmax": "The most probable class is predicted; there is no fitted threshold.",
    "fixed": "The threshold was set in advance; it was not fitted.",
}
# If heat maps of randomised weights correlate this much with the model's own, these do not depend on the weights.
SAME_MAPS = 0.5


def performance(content: ReportContent) -> Section:
    """Show the metrics with intervals, the figures, and metrics by class, source and threshold policy."""
    kind, metrics = content.kind, content.metrics
    policies = (
        "Metrics on the same test images with thresholds from other policies, none of them fitted on test images. The "
        "policy was chosen in advance."
    )
    blocks: list[Block] = [
        " ".join(filter(None, [poor_auc(kind, metrics), *kind.describe(metrics)])),
        uncertainty(kind, metrics),
        _all_metrics(kind, metrics),
        {name: png for name, png in content.figures.items() if not name.startswith((HEATMAPS, *TRAINING))},
        Section("Metrics by class", [_by_class(metrics)]),
        Section("Classification report", [Table.of_frame(content.classification_report)]),
        Section(
            "Confusion matrix",
            [Table.of_frame(content.confusion_table, style="counted")],
            "Test images by true class (rows) and predicted class (columns).",
        ),
        *_by_source(metrics),
        Section("Other threshold policies", [_by_policy(metrics)], policies),
    ]
    items = "CLAIM 28, 29, 35, 36; TRIPOD+AI 12, 23"
    return Section("Performance on the test images", blocks, items=items, anchor="performance")


def uncertainty(kind: Kind, metrics: Document) -> str:
    """Give the intervals, how they were computed, and what they do not cover."""
    measured = {label: metrics["metrics"][name] for name, label in kind.bounds.items()}
    bounds = [f"{label} {_bounds(interval)}" for label, interval in measured.items() if interval["low"] is not None]
    few = [f"{label} ({too_few(interval)})" for label, interval in measured.items() if too_few(interval)]
    if not bounds:
        return "No interval could be computed from these test images."
    intervals, none = metrics["intervals"], f"There is none for {join(few)}. " if few else ""
    return (
        f"{percent(intervals['confidence'])} confidence intervals: {join(bounds)}. {none}"
        f"{CLUSTERED[intervals['clustered_by']]}, and cover the choice of test images only: another hospital, another "
        "scanner or another training run can change the results by more."
    )


def _bounds(measured: Document) -> str:
    low, high = measured["low"], measured["high"]
    return too_few(measured) if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _all_metrics(kind: Kind, metrics: Document) -> Table:
    rows = [
        (title(name), measured["value"], _bounds(measured), kind.meanings.get(name, ""))
        for name, measured in metrics["metrics"].items()
    ]
    level = percent(metrics["intervals"]["confidence"])
    return Table(("metric", "value", f"{level} interval", "meaning"), rows, "explained")


def _by_class(metrics: Document) -> Table | None:
    support, thresholds = metrics["support"], metrics["thresholds"]
    rows = {}
    for name, measures in metrics["per_class"].items():
        counts = {"positive": support[name]["n_positive"], "labelled": support[name]["n_known"]}
        rows[name] = {**counts, "threshold": thresholds[name], **measures}
    return _compare("class", rows, PER_CLASS) if len(rows) > 1 else None


def _by_source(metrics: Document) -> list[Section]:
    """Compare sources; nothing for a single source."""
    if "per_source" not in metrics:
        return []
    sources = {"all sources": metrics, **metrics["per_source"]}
    rows = {name: {"images": source["n_images"], **source["metrics"]} for name, source in sources.items()}
    areas = [
        (name, *(source["per_class"].get(name, {}).get("auc", "") for source in sources.values()))
        for name in metrics["per_class"]
    ]
    auc = Table(("class", *sources), areas, "measured") if len(areas) > 1 else None
    return [
        Section("Metrics by source", [_compare("source", rows, PER_SOURCE)]),
        Section("AUC by class and source", [auc]),
    ]


def _by_policy(metrics: Document) -> Table:
    rows = {}
    for row in metrics.get("policies") or []:
        values = [f"{humanize(name)} {value:g}" for name, value in row["policy"].items() if name != "rule"]
        label = ", ".join([humanize(row["policy"]["rule"]), *values]) + " (chosen)" * bool(row.get("chosen"))
        rows[label] = {"threshold": list(row["thresholds"].values()), **row["metrics"]}
    return _compare("policy", rows, POLICIES)


def decision_rule(rule: Document) -> Section:
    """Show how thresholds were chosen and probabilities calibrated, and the rule of each class if they differ."""
    per_class = rule.get("per_class", {})
    # What differs between classes is in the second table.
    common = {key: value for key, value in rule.items() if not per_class or key not in ("per_class", "thresholds")}
    facts = {humanize(name): value for name, value in flatten(common).items() if value != ""}
    rules = {name: flatten({"threshold": rule["thresholds"][name], **each}) for name, each in per_class.items()}
    names = dict.fromkeys(name for each in rules.values() for name in each)
    blocks: list[Block] = [
        f"{_thresholds(rule)} {_calibration(rule)} The rule is stored with the model and does not change.",
        Table.of_pairs(facts, style="long"),
        _compare("class", rules, names, "long"),
    ]
    items = "CLAIM 28; TRIPOD+AI 12, 15, 23"
    return Section("Decision rule and calibration", blocks, items=items, anchor="decision-rule")


def fitted_parts(rule: Document) -> list[str]:
    """Name the parts of a rule that were fitted on validation images."""
    n_outputs = len(rule["thresholds"])
    fitted = {
        "the calibration": any(each["method"] != "none" for each in calibrations(rule).values()),
        f"the threshold{'s' * (n_outputs > 1)}": len(_unfitted(rule)) < n_outputs,
    }
    return [part for part, applies in fitted.items() if applies]


def _thresholds(rule: Document) -> str:
    """Say how thresholds were chosen."""
    if rule["policy"]["rule"] in NOT_FITTED:
        return NOT_FITTED[rule["policy"]["rule"]]
    unfitted = _unfitted(rule)
    if len(unfitted) == len(rule["thresholds"]):
        return "No threshold was fitted, because the validation images are all positive or all negative."
    but = f", except for {join(unfitted)}, whose validation images are all positive or all negative" if unfitted else ""
    return f"Thresholds were fitted on validation images{but}."


def _unfitted(rule: Document) -> list[str]:
    """Name the outputs without a fitted threshold; one needs positive and negative validation images."""
    if rule["policy"]["rule"] in NOT_FITTED:
        return list(rule["thresholds"])
    fitted_on: Document = rule.get("per_class") or dict.fromkeys(rule["thresholds"], rule["fitted_on"])
    return [name for name, each in fitted_on.items() if not 0 < each["n_positive"] < each["n_images"]]


def _calibration(rule: Document) -> str:
    """Say how probabilities are calibrated."""
    fitted = calibrations(rule)
    methods = sorted({each["method"] for each in fitted.values()} - {"none"})
    if not methods:
        return "Probabilities are not calibrated: they are the outputs of the network and may differ from frequencies."
    failed = [name for name, each in fitted.items() if each["method"] == "none"]
    but = f", except for {join(failed)}, where the fit was not possible" if failed else ""
    return (
        f"Probabilities are calibrated with {join(methods)}, fitted on validation images{but}. They are not valid at "
        "another prevalence."
    )


def subgroups(evaluated: Document) -> Section:
    """Show the metrics of each subgroup, how to read them, which ones are too small, and which values are unknown."""
    positive, negative = (f"{evaluated['min_patients']} {sign}" for sign in ("positive", "negative"))
    rows, small, unknown, partly, several = {}, [], [], [], False
    for attribute in ATTRIBUTES:
        for name, group in evaluated[attribute]["groups"].items():
            several |= len(group["n_known"]) > 1
            if group["metrics"]:
                rows[f"{attribute}: {name}"] = _group(group)
            else:
                small.append(f"{attribute} {name} ({plural(group['n_images'], 'image')})")
        if not evaluated[attribute]["groups"]:
            unknown.append(attribute)
        elif evaluated[attribute]["n_unknown"]:
            partly.append(f"{attribute} for {plural(evaluated[attribute]['n_unknown'], 'image')}")
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
    blocks: list[Block] = [*text, _compare("group", rows, PER_GROUP)]
    return Section("Subgroups", blocks, items="CLAIM 30, 34; TRIPOD+AI 14, 23a", anchor="subgroups")


def _group(group: Document) -> Document:
    """Return the row of a subgroup; its prevalence is averaged over the classes that were evaluated."""
    evaluated, n_classes, n_patients = group["per_class"], len(group["n_known"]), group["n_patients"]
    shares = [group["n_positive"][name] / group["n_known"][name] for name in evaluated]
    return {
        "images": group["n_images"],
        "patients": "unknown" if n_patients is None else n_patients,
        **({"classes": f"{len(evaluated)} of {n_classes}"} if n_classes > 1 else {}),
        "prevalence": sum(shares) / len(shares),
        **group["metrics"],
    }


def heat_maps(content: ReportContent) -> Section:
    """Show heat maps, whether they agree with annotated boxes, and whether they depend on the weights.

    References:
        Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018.
    """
    explained, randomised = content.explanations, content.explanations["randomised"]
    localised = explained["localisation"]
    text = [f"Heat maps were computed with {explained['method']} at layer {explained['layer']}."]
    text += [_agreement(name, measured) for name, measured in localised.items()]
    correlation, hits = value_of(randomised, "rank_correlation"), value_of(randomised, "pointing_game")
    if correlation is not None:
        measured_on = f"(rank correlation {correlation:.2f}, mean of {plural(randomised['n_shuffles'], 'shuffle')})"
        inside = "" if hits is None else f"; the maximum is then inside a box in {of_100(hits)} of 100 images"
        text.append(
            f"The heat maps hardly change when the weights are shuffled {measured_on}: they do not explain the model."
            if correlation >= SAME_MAPS
            else f"The heat maps change when the weights are shuffled {measured_on}{inside}."
        )
    rows = [(name, *(measured.get(key) or "" for key in LOCALISATION)) for name, measured in localised.items()]
    blocks: list[Block] = [
        *text,
        Table(("class", *LOCALISATION.values()), rows, "measured"),
        {name: png for name, png in content.figures.items() if name.startswith(HEATMAPS)},
    ]
    return Section("Heat maps", blocks, items="CLAIM 31", anchor="heatmaps")


def _agreement(name: str, measured: Document) -> str:
    """Say how often the maximum of the heat maps of a class is in a box; blank if that is undefined."""
    hits, centred = (value_of(measured, key) for key in ("pointing_game", "pointing_game_centred"))
    if hits is None:
        return ""
    sentence = f"For {name}, the maximum is inside an annotated box in about {of_100(hits)} of 100 images"
    if centred is None:
        return f"{sentence}."
    verb = "is" if (value_of(measured, "pointing_game", "low") or 0) > centred else "is not"
    return (
        f"{sentence}; the centre of the image is in {of_100(centred)}. The heat map {verb} significantly better than "
        "the centre."
    )


def _compare(heading: str, rows: Mapping[str, Document], names: Iterable[str], style: str = "measured") -> Table:
    """Make a table of rows by label, with the columns among ``names`` that any row has."""
    present = [name for name in names if any(name in row for row in rows.values())]
    cells = [(label, *("" if row.get(name) is None else row[name] for name in present)) for label, row in rows.items()]
    return Table((heading, *map(title, present)), cells, style)
