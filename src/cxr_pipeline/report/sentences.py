"""The sentences of a report and a model card, each from the documents of a run that it describes.

``split_counts`` and ``source_counts`` are those of :class:`cxr_pipeline.report.pages.report.ReportContent`.
"""

from collections.abc import Mapping
from pathlib import PurePath

from cxr_pipeline.evaluation.subgroups import ATTRIBUTES
from cxr_pipeline.report.formatting import Document, join, of_100, percent, plural, sources_named, value_of
from cxr_pipeline.report.kinds import Kind
from cxr_pipeline.report.tables import SplitCounts, images_in, subgroups_of

SourceCounts = Mapping[str, Mapping[str, int]]
# If heat maps of randomised weights correlate this much with the model's own, these do not depend on the weights.
SAME_MAPS = 0.5


def model(kind: Kind, network: Document) -> str:
    """Describe the network, its initial weights and its purpose."""
    weights = {"none": "trained from scratch", "imagenet": "initialised with ImageNet weights"}
    start = weights.get(network["weights"], f"initialised with the weights in {PurePath(network['weights']).name}")
    size = network["size"]
    return (
        f"A {network['name']} network with {network['n_parameters']:,} parameters, {start}, "
        f"{kind.text(kind.purpose)}. Its input is a greyscale image of {size} x {size} pixels; its output is "
        f"{kind.text(kind.output)}."
    )


def data(kind: Kind, data_report: Document, split_counts: SplitCounts) -> str:
    """Count images and patients, and name their sources."""
    images = {split: images_in(counts) for split, counts in split_counts.items()}
    drawn = " (synthetic)" if data_report["phantom"] else ""
    n_patients, n_unknown = data_report["n_patients"], data_report["n_images_without_patient"]
    if n_patients:
        known = f"The patient is known for all but {n_unknown:,} of them. The others" if n_unknown else "They"
        patients = f"{known} are from {plural(n_patients, 'patient')}, each in one split only."
    else:
        patients = "Their patients are unknown."
    return (
        f"The model was trained on {plural(images['train'], 'image')}. {images['validation']:,} others were used to "
        f"choose the epoch and {kind.decision}, and {images['test']:,} to test it. All images are from "
        f"{sources_named(list(data_report['sources']))}{drawn}. {patients}"
    )


def uncertainty(kind: Kind, metrics: Document) -> str:
    """Give the intervals, how they were computed, and what they do not cover."""
    measured = {label: metrics["metrics"].get(name) or {} for name, label in kind.bounds.items()}
    bounds = [
        f"{label} {interval['low']:.3f} to {interval['high']:.3f}"
        for label, interval in measured.items()
        if interval.get("low") is not None and interval.get("high") is not None
    ]
    if not bounds:
        return "No interval could be computed from these test images."
    intervals = metrics["intervals"]
    resampled = {
        "patient": "resampling patients with all their images",
        "image": "resampling images, because their patients are unknown",
    }
    return (
        f"{percent(intervals['confidence'])} confidence intervals: {join(bounds)} ({intervals['replicates']:,} "
        f"bootstrap replicates, {resampled[intervals['clustered_by']]}). They cover the choice of test images only: "
        "another hospital, another scanner or another training run can change the results by more."
    )


def out_of_scope(kind: Kind, source_counts: SourceCounts) -> list[str]:
    """List uses for which the model is unsuitable."""
    internal, external = _tested(source_counts)
    tested = " and from ".join(
        f"{sources_named(names)}, {trained}"
        for names, trained in ((internal, "which it was also trained on"), (external, "which it was not trained on"))
        if names
    )
    return [
        "It is for research use only. It is not a medical device and has not been assessed as one.",
        "Do not use it for diagnosis, for triage, or for any decision about a patient.",
        f"It was tested only on images from {tested}. Expect worse results on images from elsewhere.",
        "It was trained and tested on the labels of its sources. The results do not reveal errors in these labels.",
        kind.text(kind.limits),
    ]


def external_test(source_counts: SourceCounts) -> str:
    """State whether the model was tested on a source that it was not trained on."""
    _, external = _tested(source_counts)
    if not external:
        return "It was not tested on images from a source that it was not trained on."
    return (
        f"It was tested on images from {sources_named(external)}, which it was not trained on. This is an external "
        "test only if these images are from another institution, which this pipeline cannot know."
    )


def uncertain_labels(policy: str) -> str:
    """State how uncertain and unknown labels are treated; ``policy`` is ``task.uncertain``."""
    ignored = "are ignored in the loss and in the metrics; they are not imputed."
    if policy == "unknown":
        return f"Unknown labels, and labels that a source marks as uncertain, {ignored}"
    return f"Labels that a source marks as uncertain count as {policy} (task.uncertain). Unknown labels {ignored}"


def decision_rule(rule: Document) -> str:
    """State how thresholds were chosen and how probabilities are calibrated, and for which classes they are not."""
    thresholds = {
        "argmax": "The most probable class is predicted; there is no fitted threshold.",
        "fixed": "The threshold was set in advance; it was not fitted.",
    }
    chosen = thresholds.get(rule["policy"]["rule"], "Thresholds were fitted on validation images.")
    methods = _calibrations(rule)
    fitted = sorted(set(methods.values()) - {"none"})
    failed = [name for name, method in methods.items() if method == "none"]
    but = f", except for {join(failed)}, where the fit was not possible" if failed else ""
    calibration = (
        f"Probabilities are calibrated with {join(fitted)}, fitted on validation images{but}. They are not valid at "
        "another prevalence."
        if fitted
        else "Probabilities are not calibrated: they are the outputs of the network and may differ from frequencies."
    )
    return f"{chosen} {calibration} The rule is stored with the model and does not change."


def heat_maps(explanations: Document) -> list[str]:
    """State how heat maps were computed, whether they agree with boxes, and whether they depend on the weights.

    References:
        Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018.
    """
    sentences = [f"Heat maps were computed with {explanations['method']} at layer {explanations['layer']}."]
    for name, measured in explanations.get("localisation", {}).items():
        hits, centred = (value_of(measured, key) for key in ("pointing_game", "pointing_game_centred"))
        if hits is None:
            continue
        sentence = f"For {name}, the maximum is inside an annotated box in about {of_100(hits)} of 100 images"
        if centred is not None:
            better = (value_of(measured, "pointing_game", "low") or 0) > centred
            sentence += (
                f"; the centre of the image is in {of_100(centred)}. The heat map is {'' if better else 'not '}"
                "significantly better than the centre"
            )
        sentences.append(f"{sentence}.")
    randomised = explanations.get("randomised") or {}
    correlation, hits = value_of(randomised, "rank_correlation"), value_of(randomised, "pointing_game")
    if correlation is not None:
        measured_on = f"(rank correlation {correlation:.2f}, mean of {plural(randomised['n_shuffles'], 'shuffle')})"
        inside = "" if hits is None else f"; the maximum is then inside a box in {of_100(hits)} of 100 images"
        sentences.append(
            f"The heat maps hardly change when the weights are shuffled {measured_on}: they do not explain the model."
            if correlation >= SAME_MAPS
            else f"The heat maps change when the weights are shuffled {measured_on}{inside}."
        )
    return sentences


def subgroups(evaluated: Document) -> list[str]:
    """State how to read the table of subgroups, which ones are too small, and which values are unknown."""
    least, groups = evaluated["min_patients"], list(subgroups_of(evaluated))
    small = [
        f"{attribute} {name} ({plural(group['n_images'], 'image')})"
        for attribute, name, group in groups
        if not group["metrics"]
    ]
    unknown = [name for name in ATTRIBUTES if not evaluated[name]["groups"]]
    n_unknown = {name: evaluated[name]["n_unknown"] for name in ATTRIBUTES if name not in unknown}
    partly = [f"{name} for {plural(count, 'image')}" for name, count in n_unknown.items() if count]
    sentences = []
    if groups:
        sentences.append(
            f"Each group is evaluated with the decision rule of all images; intervals are "
            f"{percent(evaluated['confidence'])} intervals. With many groups, some of them small, one may stand out by "
            "chance."
        )
    if any(len(group["n_known"]) > 1 for *_, group in groups):
        sentences.append(
            f"Metrics are means over the classes with at least {least} positive and {least} negative patients in the "
            "group; means over different classes are not comparable."
        )
    if small:
        sentences.append(
            f"Not evaluated, with fewer than {least} positive or {least} negative patients: {join(small)}."
        )
    if unknown:
        sentences.append(f"Unknown for all test images: {join(unknown)}.")
    if partly:
        sentences.append(f"Unknown and left out: {join(partly)}.")
    return sentences


def _calibrations(rule: Document) -> dict[str, str]:
    """Return the calibration method of each class, or of all classes together under ``""``."""
    fitted = rule["calibration"]
    if "parts" in fitted:
        fitted = dict(zip(rule["classes"], fitted["parts"], strict=True))
    elif isinstance(fitted.get("method"), str):
        fitted = {"": fitted}
    return {name: calibrator["method"] for name, calibrator in fitted.items()}


def _tested(source_counts: SourceCounts) -> tuple[list[str], list[str]]:
    """Return the sources with test images: those used in training or validation, and the others."""
    tested = {name: images for name, images in source_counts.items() if images["test"]}
    internal = [name for name, images in tested.items() if images["train"] or images["validation"]]
    return internal, [name for name in tested if name not in internal]
