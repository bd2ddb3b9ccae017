"""The sentences of a report's summary, each a function of the numbers it speaks of.

``metrics`` and ``data_report`` are the JSON documents of a run, where null stands for a number that is not defined.
``split_counts`` gives, for each split, the number of images of each class, under ``"patients"`` the number of patients
or None, and under ``"images"`` all its images, needed where an image may be of several classes or of none.
``source_counts`` gives, for each source, the number of its images in each split.
"""

from collections.abc import Mapping
from pathlib import PurePath

from cxr_pipeline.report.words.kinds import Document, Kind
from cxr_pipeline.report.words.text import listed, sources_named, value_of
from cxr_pipeline.report.words.warnings import no_good

SplitCounts = Mapping[str, Mapping[str, int | None]]
SourceCounts = Mapping[str, Mapping[str, int]]


def what_was_trained(kind: Kind, model: Document) -> str:
    """Which network, from which start, for which question."""
    starts = {"none": "trained from scratch", "imagenet": "starting from ImageNet weights"}
    start = starts.get(model["weights"], f"starting from the weights in {PurePath(model['weights']).name}")
    return (
        f"A {model['name']} network of {model['n_parameters']:,} parameters, {start}, {kind.question}. It sees each "
        f"image as {model['size']} x {model['size']} grey pixels and gives {kind.answer}."
    )


def on_whom(kind: Kind, data_report: Document, split_counts: SplitCounts) -> str:
    """How many images and patients, and where they come from."""
    images = {split: images_in(counts) for split, counts in split_counts.items()}
    sources = list(data_report["sources"])
    drawn = ", drawn by a program" if data_report["phantom"] else ""
    n_patients, n_unknown = data_report["n_patients"], data_report["n_images_without_patient"]
    if n_patients:
        known = "They" if n_unknown == 0 else f"All but {n_unknown:,} of them"
        patients = f"{known} are of {n_patients:,} patients, each of whom is in one of these parts only."
    else:
        patients = "Whose images they are is not known."
    return (
        f"It learned from {images['train']:,} images. {images['validation']:,} others decided when to stop and "
        f"{kind.tuned}, and it was tested on {images['test']:,} that it had not seen. All come from "
        f"{sources_named(sources)}{drawn}. {patients}"
    )


def how_good(kind: Kind, metrics: Document) -> str:
    """The verdict if it is bad, then the figures as so many of a hundred."""
    return " ".join(filter(None, [no_good(kind, metrics), *kind.quality(metrics)]))


def how_sure(kind: Kind, metrics: Document) -> str:
    """The intervals, what they rest on, and what they leave out."""
    measured = metrics["metrics"]
    bounds = [
        f"the {label} lies between {low:.3f} and {high:.3f}"
        for name, label in kind.bounds.items()
        if (low := value_of(measured, name, "low")) is not None
        and (high := value_of(measured, name, "high")) is not None
    ]
    if not bounds:
        return "No interval could be computed from these test images."
    drawn = {
        "patient": "patients drawn whole, with all their images",
        "image": "images drawn one by one, because it is not known which belong to one patient",
    }
    intervals = metrics["intervals"]
    return (
        f"With {100 * intervals['confidence']:g} % confidence, {listed(bounds)} ({intervals['replicates']:,} "
        f"bootstrap replicates; {drawn[intervals['clustered_by']]}). That covers chance in the choice of the test "
        "images alone: another hospital, another machine or another training run can differ by more."
    )


def not_for(kind: Kind, source_counts: SourceCounts) -> list[str]:
    """What the model must not be used for."""
    return [
        "It is for research. It is not a medical device, and nobody has examined it as one.",
        "It must not be used to diagnose, to sort patients by urgency, or for any decision about a patient.",
        f"It was tested only on images from {_tested_on(source_counts)}. On images from elsewhere expect worse.",
        "It learned what the labels of its sources say. Where they are wrong, so is it, and the test does not show it.",
        kind.limits,
    ]


def tested_elsewhere(source_counts: SourceCounts) -> str:
    """Whether the test had images of a source that the model was not made with."""
    _, others = _tested(source_counts)
    if not others:
        return "It was not tested on images from another source than those it learned from."
    return (
        f"It was tested on images from {sources_named(others)}, which it did not learn from. That tells how good it is "
        "elsewhere only if they are from other places than those it learned from, which this pipeline does not know."
    )


def unsure_labels(uncertain: str) -> str:
    """What becomes of labels that a source does not know, or is not sure of; ``uncertain`` as in the task."""
    if uncertain == "unknown":
        return (
            "Labels that are not known, or that a source calls uncertain, are left out of loss and figures, and are "
            "not filled in."
        )
    return (
        f"A label that a source calls uncertain is taken for {uncertain} (task.uncertain), in training and in test. "
        "Labels that are not known are left out of loss and figures, and are not filled in."
    )


def how_decided(decision_rule: Document) -> str:
    """What of the decision rule was fitted, and to what."""
    thresholds = {
        "argmax": "The most probable class is decided for; no threshold was fitted.",
        "fixed": "The threshold is a number that was set beforehand; it was not fitted.",
    }
    chosen = thresholds.get(decision_rule["policy"]["rule"], "Thresholds were fitted on validation images.")
    fitted = set(_calibrations(decision_rule).values()) != {"none"}
    calibration = "The calibration was fitted on validation images." if fitted else "There is no calibration."
    return f"{chosen} {calibration} The rule is frozen with the model."


def how_calibrated(decision_rule: Document) -> str:
    """What was made of the network's scores, for each class that it is not the same for."""
    methods = _calibrations(decision_rule)
    fitted = sorted(set(methods.values()) - {"none"})
    if not fitted:
        return "Probabilities are not calibrated: they are the network's own scores, and need not be frequencies."
    left = [name for name, method in methods.items() if method == "none"]
    but = f", but for those of {listed(left)}, which could not be" if left else ""
    return (
        f"Probabilities are calibrated by {listed(fitted)}, on validation images{but}. On images of other prevalence "
        "they are off."
    )


def _calibrations(decision_rule: Document) -> dict[str, str]:
    """The method for each class, or for all together under ``""``."""
    calibration = decision_rule["calibration"]
    if "parts" in calibration:
        calibration = dict(zip(decision_rule["classes"], calibration["parts"], strict=True))
    elif isinstance(calibration.get("method"), str):
        calibration = {"": calibration}
    return {name: one["method"] for name, one in calibration.items()}


def _tested_on(source_counts: SourceCounts) -> str:
    said = ("which it learned from too", "which it did not learn from")
    return ", and from ".join(
        f"{sources_named(names)}, {learned}"
        for names, learned in zip(_tested(source_counts), said, strict=True)
        if names
    )


def _tested(source_counts: SourceCounts) -> tuple[list[str], list[str]]:
    """The sources with test images: those with images of other splits too, and those without."""
    tested = {name: images for name, images in source_counts.items() if images["test"]}
    own = [name for name, images in tested.items() if images["train"] or images["validation"]]
    return own, [name for name in tested if name not in own]


def images_in(counts: Mapping[str, int | None]) -> int:
    """Images of one split: all of them, or else the sum over its classes."""
    images = counts.get("images")
    return sum(count or 0 for name, count in counts.items() if name != "patients") if images is None else images
