"""The warnings about a model: each is a sentence, or empty if it does not apply."""

from cxr_pipeline.report.content import SplitCounts
from cxr_pipeline.report.formatting import (
    Document,
    first_of,
    join,
    measure,
    number,
    of_100,
    plural,
    sources_named,
    too_few,
    value_of,
)
from cxr_pipeline.report.kinds import Kind, kind_of

POOR_AUC = 0.6
FEW_IMAGES = 30
FEW_PATIENTS = 10


def warnings(
    task: Document, metrics: Document, decision_rule: Document, data_report: Document, split_counts: SplitCounts
) -> list[str]:
    """Return the warnings that apply, the most serious first; see `ReportContent` for the documents."""
    kind = kind_of(task)
    candidates = (
        poor_auc(kind, metrics),
        kind.collapsed(metrics),
        confounded(data_report),
        pretrained_on_test_images(data_report),
        pretrained_on_other_images(data_report),
        majority(metrics),
        chance_classes(metrics),
        policy_missed(decision_rule),
        calibration_failed(decision_rule),
        patients_unknown(metrics, data_report),
        few_test_images(kind, split_counts),
        few_patients(split_counts) or few_patients_of_a_class(kind, metrics),
        unknown_labels(data_report),
    )
    return [warning for warning in candidates if warning]


def poor_auc(kind: Kind, metrics: Document) -> str:
    """Warn of an AUC that is undefined, below 0.6, or may be chance."""
    measured = metrics["metrics"]["auc"]
    auc, low, high = (value_of(metrics["metrics"], "auc", key) for key in ("value", "low", "high"))
    if auc is None:
        return f"The {kind.auc} is undefined on these test images, so performance is unknown."
    if too_few(measured):
        return f"These test images cannot distinguish the model from chance: {kind.auc} {measure(measured)}."
    if high is not None and high < 0.5:
        return f"The model is worse than chance ({kind.auc} {auc:.3f}). Check whether labels are swapped."
    if low is not None and low <= 0.5:
        return f"The model may be no better than chance: {kind.auc} {measure(measured)}."
    if auc < POOR_AUC:
        return f"The model is {'no' if auc <= 0.5 else 'little'} better than chance: {kind.auc} {auc:.3f}."
    return ""


def confounded(data_report: Document) -> str:
    """Warn of sources that alone predict the class."""
    measured = data_report.get("confounding")
    if not measured or not measured["confounded"]:
        return ""
    alone = []
    if measured["auc"] is not None:
        alone.append(f"the source alone reaches an AUC of {measured['auc']:.3f}")
    if measured["accuracy"] is not None:
        alone.append(
            f"predicting the class from the source is correct for {of_100(measured['accuracy'])} of 100 images, where "
            f"always predicting the most frequent class is for {of_100(measured['majority_accuracy'])}"
        )
    return (
        f"Source and class are confounded: {join(alone)}. The model may recognise the hospital instead of the disease. "
        "Rely on the results of each source, not on those of all sources together."
    )


def pretrained_on_test_images(data_report: Document) -> str:
    """Warn of sources whose test images may have been seen in pretraining, because no list says which were."""
    pretraining = data_report.get("pretraining", {})
    if not pretraining.get("unlisted"):
        return ""
    sources = sources_named(pretraining["unlisted"])
    if not pretraining["trained_on"]:
        return (
            f"It is not known which images the weights {pretraining['weights']} were trained on. If test images of "
            f"{sources} are among them, all figures are too good."
        )
    return (
        f"The weights {pretraining['weights']} were trained on images of {join(pretraining['trained_on'])}, and no "
        f"list says on which. If test images of {sources} are among them, all figures are too good."
    )


def pretrained_on_other_images(data_report: Document) -> str:
    """Warn of images outside the test set that were seen in pretraining, on which the decision rule is fitted."""
    pretraining = data_report.get("pretraining", {})
    if not (n := pretraining.get("n_seen_outside_test", 0)):
        return ""
    return (
        f"The weights {pretraining['weights']} were trained on {plural(n, 'image')} outside the test set, or on other "
        "images of their patients. Their scores, on which calibration and threshold are fitted, and cross-validated "
        "figures are too good. The test images are not affected."
    )


def majority(metrics: Document) -> str:
    """Warn of an accuracy that is not clearly above that of always predicting the most frequent class."""
    frequent = metrics.get("majority")
    accuracy, low = (value_of(metrics["metrics"], "accuracy", key) for key in ("value", "low"))
    if not frequent or accuracy is None:
        return ""
    baseline = f"always predicting {frequent['class']} ({frequent['accuracy']:.3f})"
    if accuracy <= frequent["accuracy"]:
        return f"The accuracy of {accuracy:.3f} is not above that of {baseline}."
    if low is not None and low <= frequent["accuracy"]:
        return f"The accuracy of {accuracy:.3f} may be no better than that of {baseline}; the interval includes it."
    return ""


def chance_classes(metrics: Document) -> str:
    """Warn of classes, among several, with an AUC whose interval includes chance or that has too few patients."""
    per_class, chance = metrics["per_class"], []
    for name, measures in per_class.items():
        low, few = value_of(measures, "auc", "low"), too_few(measures["auc"])
        if few or (low is not None and low <= 0.5):
            chance.append(f"{name} (AUC {number(value_of(measures, 'auc'))}{few and f', {few}'})")
    if len(per_class) < 2 or not chance:
        return ""
    return f"For {len(chance)} of {len(per_class)} classes it may be no better than chance: {join(chance)}."


def policy_missed(decision_rule: Document) -> str:
    """Warn of thresholds that do not meet their policy."""
    if decision_rule["policy_met"]:
        return ""
    if "per_class" not in decision_rule:
        return f"The threshold does not meet its policy. {decision_rule['message']}"
    rules = decision_rule["per_class"].items()
    missed = [f"{name}: {rule['message']}" for name, rule in rules if not rule["policy_met"]]
    verb = "does" if len(missed) == 1 else "do"
    return f"{plural(len(missed), 'threshold')} {verb} not meet the policy. {' '.join(missed)}"


def calibrations(decision_rule: Document) -> Document:
    """Return the calibration of each class by its name, or that of all classes together by an empty name."""
    fitted: Document = decision_rule["calibration"]
    if "parts" in fitted:
        return dict(zip(decision_rule["classes"], fitted["parts"], strict=True))
    return {"": fitted} if isinstance(fitted.get("method"), str) else fitted


def calibration_failed(decision_rule: Document) -> str:
    """Warn of calibrations that could not be fitted."""
    messages = {name: fitted.get("message") for name, fitted in calibrations(decision_rule).items()}
    return " ".join(f"{name}: {message}" if name else message for name, message in messages.items() if message)


def patients_unknown(metrics: Document, data_report: Document) -> str:
    """Warn of images without a patient, which may be from patients in another split."""
    n_unknown = data_report["n_images_without_patient"]
    if not n_unknown:
        return ""
    without = [name for name, source in data_report["sources"].items() if not source["has_patients"]]
    where = f" ({sources_named(without)} {'has' if len(without) == 1 else 'have'} no patient IDs)" if without else ""
    those = "" if metrics["intervals"]["clustered_by"] == "image" else " for these images"
    return (
        f"The patient is unknown for {n_unknown:,} of {plural(data_report['n_images'], 'image')}{where}. Images of one "
        "patient may be in both training and test, which makes performance look better than it is. Intervals are "
        f"computed by image{those} and may be too narrow."
    )


def few_test_images(kind: Kind, split_counts: SplitCounts) -> str:
    """Warn of classes with few test images, and name those with the fewest."""
    counts = {name: split_counts["test"].get(name) or 0 for name in kind.classes}
    few = [
        f"{counts[name]} labelled {name}"
        for name in sorted(counts, key=lambda label: counts[label])
        if counts[name] < FEW_IMAGES
    ]
    if not few:
        return ""
    return f"Few test images: {first_of(few)}. With fewer than {FEW_IMAGES} of a class its results are imprecise."


def few_patients(split_counts: SplitCounts) -> str:
    """Warn of splits in which a few patients have most of the images."""
    few = []
    for split, counts in split_counts.items():
        effective, n_patients = counts.get("effective_patients"), counts["patients"]
        if effective is not None and n_patients is not None and effective < FEW_PATIENTS:
            patients = plural(n_patients, "patient")
            few.append(f"the {counts['images']:,} {split} images are from {patients} and count like {effective}")
    if not few:
        return ""
    return f"Few patients, or some with many images: {join(few)}. Results depend on these patients; add others."


def few_patients_of_a_class(kind: Kind, metrics: Document) -> str:
    """Warn of classes with many test images of few patients, or mostly of a few, and name those with the fewest."""
    if metrics["intervals"]["clustered_by"] != "patient":
        return ""
    few = {}
    for name, support in metrics["support"].items():
        images = {"positive": support["n_positive"], "negative": support["n_known"] - support["n_positive"]}
        labels = {"positive": name, "negative": kind.classes[0] if len(metrics["support"]) == 1 else f"not {name}"}
        for side, effective in support["effective_patients"].items():
            if 0 < effective < min(FEW_PATIENTS, images[side]):
                patients = f"{plural(support['patients'][side], 'patient')} (effective number {effective:.1f})"
                few[f"{images[side]} labelled {labels[side]} are of {patients}"] = effective
    if not few:
        return ""
    named = first_of(sorted(few, key=lambda label: few[label]))
    return f"Few test patients: {named}. Results of a class with images of few patients are imprecise."


def unknown_labels(data_report: Document) -> str:
    """Warn of images with unknown labels."""
    unknown = {name: count for name, count in data_report.get("unknown_labels", {}).items() if count}
    if not unknown:
        return ""
    images = join([f"{name} for {plural(count, 'image')}" for name, count in unknown.items()])
    return (
        f"Some labels are unknown among {plural(data_report['n_images'], 'image')}: {images}. These images are ignored "
        "in training and evaluation of that label."
    )
