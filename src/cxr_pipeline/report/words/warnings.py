"""What a reader must know before believing a number: each a sentence where it applies, None where it does not.

``metrics``, ``decision_rule`` and ``data_report`` are the JSON documents of a run, where null stands for a number that
is not defined; ``split_counts`` is that of ``cxr_pipeline.report.words.summary``.
"""

from collections.abc import Mapping

from cxr_pipeline.report.words.kinds import Document, Kind
from cxr_pipeline.report.words.text import listed, of_100, sources_named, value_of

POOR_AUC = 0.6
FEW_IMAGES = 30


def cautions(
    kind: Kind,
    metrics: Document,
    decision_rule: Document,
    data_report: Document,
    split_counts: Mapping[str, Mapping[str, int | None]],
) -> list[str]:
    """All that apply, the worst first."""
    found = (
        no_good(kind, metrics),
        kind.collapsed(metrics),
        confounded(data_report),
        no_better_than_the_majority(metrics),
        guessed_classes(metrics),
        policy_missed(decision_rule),
        patients_unknown(metrics, data_report),
        few_test_images(split_counts, kind),
        unknown_labels(data_report),
    )
    return [caution for caution in found if caution is not None]


def no_good(kind: Kind, metrics: Document) -> str | None:
    """A model that may be guessing, or does little better, or whose AUC is unknown."""
    auc, low, high = (value_of(metrics["metrics"], "auc", key) for key in ("value", "low", "high"))
    if auc is None:
        return f"Nobody can tell whether this model is any good: its {kind.auc} is not defined on these test images."
    if high is not None and high < 0.5:
        return f"This model is no good: it is worse than guessing ({kind.auc} {auc:.3f}). Are the labels swapped?"
    if low is not None and low <= 0.5:
        of = f"a{'n' if kind.auc == 'AUC' else ''} {kind.auc} of {auc:.3f} ({low:.3f} to {high:.3f})"
        return f"This model is no good: with {of} it may be guessing."
    if auc < POOR_AUC:
        better = "no" if auc <= 0.5 else "little"
        return f"This model is no good: its {kind.auc} of {auc:.3f} is {better} better than guessing."
    return None


def confounded(data_report: Document) -> str | None:
    """Sources that tell the class by themselves, with how well they do."""
    measured = data_report.get("confounding")
    if not measured or not measured["confounded"]:
        return None
    told = []
    if measured["auc"] is not None:
        told.append(f"knowing the source alone gives an AUC of {measured['auc']:.3f}")
    if measured["accuracy"] is not None:
        told.append(
            f"the source names the class of {of_100(measured['accuracy'])} of 100 images rightly, where always naming "
            f"the commonest class does so for {of_100(measured['majority_accuracy'])}"
        )
    return (
        f"Source and class are confounded: {listed(told)}. The model may tell the hospital instead of the disease. "
        "Believe the figures of each source by itself, not those of all together."
    )


def no_better_than_the_majority(metrics: Document) -> str | None:
    """An accuracy that saying the commonest class of every image reaches too, or may reach."""
    majority, accuracy = metrics.get("majority"), value_of(metrics["metrics"], "accuracy")
    if not majority or accuracy is None:
        return None
    low = value_of(metrics["metrics"], "accuracy", "low")
    always = f"that of always saying {majority['class']} ({majority['accuracy']:.3f})"
    if accuracy <= majority["accuracy"]:
        return f"Its accuracy of {accuracy:.3f} is not above {always}."
    if low is not None and low <= majority["accuracy"]:
        return f"Its accuracy of {accuracy:.3f} may be no better than {always}: chance alone could explain it."
    return None


def guessed_classes(metrics: Document) -> str | None:
    """Classes among several for which the interval of the AUC reaches guessing."""
    per_class = metrics["per_class"]
    if len(per_class) < 2:
        return None
    lows = {name: value_of(measures, "auc", "low") for name, measures in per_class.items()}
    guessed = [f"{name} (AUC {value_of(per_class[name], 'auc'):.3f})" for name, low in lows.items() if _reaches(low)]
    if not guessed:
        return None
    return f"It may be guessing for {len(guessed)} of {len(per_class)} classes: {listed(guessed)}."


def policy_missed(decision_rule: Document) -> str | None:
    """Thresholds that do not do what their policy asks."""
    if "per_class" not in decision_rule:
        if decision_rule.get("policy_met", True):
            return None
        return f"The threshold does not keep to its policy. {decision_rule['message']}"
    missed = [
        f"{name}: {rule['message']}" for name, rule in decision_rule["per_class"].items() if not rule["policy_met"]
    ]
    if not missed:
        return None
    plural = "thresholds do" if len(missed) > 1 else "threshold does"
    return f"{len(missed)} {plural} not keep to the policy. {' '.join(missed)}"


def patients_unknown(metrics: Document, data_report: Document) -> str | None:
    """Images whose patient nobody knows, so that one patient's may lie on both sides of the split."""
    n_unknown = data_report["n_images_without_patient"]
    if not n_unknown:
        return None
    silent = [name for name, source in data_report["sources"].items() if not source["has_patients"]]
    where = f" ({sources_named(silent)} {'does' if len(silent) == 1 else 'do'} not say)" if silent else ""
    drawn = "by image" if metrics["intervals"]["clustered_by"] == "image" else "by image where the patient is not known"
    return (
        f"The patient is not known for {n_unknown:,} of {data_report['n_images']:,} images{where}. One "
        "patient's images may be in training and in test, which makes a model look better than it is. The intervals are "
        f"{drawn}, and may be too narrow."
    )


def few_test_images(split_counts: Mapping[str, Mapping[str, int | None]], kind: Kind) -> str | None:
    """Classes with so few test images that what is said of them is rough."""
    counts = {name: split_counts["test"].get(name) or 0 for name in kind.classes}
    few = [f"{count} labelled {name}" for name, count in counts.items() if count < FEW_IMAGES]
    if not few:
        return None
    return f"There are few test images: {listed(few)}. Below {FEW_IMAGES} of a class every number about it is rough."


def unknown_labels(data_report: Document) -> str | None:
    """Labels that some images neither have nor lack."""
    unknown = {name: count for name, count in data_report.get("unknown_labels", {}).items() if count}
    if not unknown:
        return None
    images = listed([f"{name} for {count:,}" for name, count in unknown.items()])
    return (
        f"Of {data_report['n_images']:,} images some labels are not known: {images}. Where a label is not known the image "
        "taught nothing about it, and is left out of its figures."
    )


def _reaches(low: float | None) -> bool:
    return low is not None and low <= 0.5
