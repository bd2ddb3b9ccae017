"""The wording for each kind of task: binary, multiclass (exclusive classes) and multilabel."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from cxr_pipeline.report.formatting import Document, join, number, of_100, value_of

# A decision is constant if at most this share of the images on either side get the other one.
CONSTANT = 0.05
_MEANINGS = {
    "auc": "probability that a positive image gets a higher score than a negative one",
    "average_precision": "area under the precision-recall curve",
    "accuracy": "share of images that are classified correctly",
    "balanced_accuracy": "mean of sensitivity and specificity",
    "sensitivity": "share of positive images that are predicted positive",
    "specificity": "share of negative images that are predicted negative",
    "precision": "share of images predicted positive that are positive",
    "f1": "harmonic mean of precision and sensitivity",
    "brier": "mean squared error of the probability; lower is better",
    "ece": "mean gap between probability and frequency in ten bins; lower is better",
}
_MEANS = {name: f"{meaning}; mean over the classes" for name, meaning in _MEANINGS.items()}
_MACRO_AUC = (
    "the first gets the higher probability in about {auc_100}, averaged over the classes (macro AUC {auc}; 50 by "
    "chance)."
)
_RANGE = "AUC is highest for {best} ({best_auc}) and lowest for {worst} ({worst_auc})."


@dataclass(frozen=True)
class Kind:
    """The wording for one kind of task; ``{negative}``, ``{positive}``, ``{names}`` and ``{n}`` are its classes.

    ``purpose``, ``output`` and ``limits`` say what the model does, returns and cannot tell; ``collapse`` warns of
    ``{constant}`` decisions; ``bounds`` are the metrics whose intervals are put in words. Of the sentences on
    ``performance``, one is left out if a metric that it names is undefined.
    """

    auc: str
    purpose: str
    output: str
    limits: str
    exclusive: bool
    collapse: str
    bounds: Mapping[str, str]
    performance: tuple[str, ...]
    meanings: Mapping[str, str]
    classes: tuple[str, ...] = ()

    def text(self, template: str, **values: str | int) -> str:
        """Fill a text with the names of the classes and with values."""
        names = {"names": join(self.classes), "n": len(self.classes)}
        return template.format(negative=self.classes[0], positive=self.classes[-1], **names, **values)

    def describe(self, metrics: Document) -> list[str]:
        """Describe the performance in sentences."""
        values, sentences = _values(metrics, len(self.classes)), []
        for sentence in self.performance:
            with suppress(KeyError):
                sentences.append(self.text(sentence, **values))
        return sentences

    def collapsed(self, metrics: Document) -> str:
        """Warn if the decision is almost always the same, regardless of the image; empty if it is not."""
        per_class = metrics["per_class"]
        constant = [name for name, measures in per_class.items() if _is_constant(measures)]
        if constant and self.exclusive:
            always = [name for name in constant if (value_of(per_class[name], "sensitivity") or 0) > CONSTANT]
            # With one output, an image that is not predicted positive is predicted negative.
            constant = always or ([self.classes[0]] if len(per_class) == 1 else [])
        return self.text(self.collapse, constant=join(constant), n_constant=len(constant)) if constant else ""


BINARY = Kind(
    auc="AUC",
    purpose="to distinguish images labelled {positive} from images labelled {negative}",
    output="the probability of {positive}",
    limits="An image with any other finding is still classified as {positive} or {negative}.",
    exclusive=True,
    collapse="The model has collapsed: it predicts {constant} for almost every image.",
    bounds={"auc": "AUC", "sensitivity": "sensitivity", "specificity": "specificity"},
    performance=(
        "Of 100 pairs of images, one labelled {positive} and one labelled {negative}, the {positive} image gets the "
        "higher probability in about {auc_100} (AUC {auc}; 50 by chance).",
        "Of 100 images labelled {positive}, about {sensitivity_100} are predicted {positive}.",
        "Of 100 images labelled {negative}, about {specificity_100} are predicted {negative}.",
        "Of 100 images predicted {positive}, about {precision_100} are labelled {positive}. This is the "
        "result at the prevalence of the test images ({prevalence_100} of 100); at a lower prevalence, more of them "
        "are false positives.",
    ),
    meanings=_MEANINGS,
)
MULTICLASS = Kind(
    auc="macro AUC",
    purpose="to assign an image to one of {n} classes: {names}",
    output="a probability for each class; they add up to one",
    limits="An image with any other finding, or with two of the {n} classes, is still assigned to one of them.",
    exclusive=True,
    collapse=BINARY.collapse,
    bounds={"auc": "macro AUC", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"},
    performance=(
        "About {accuracy_100} of 100 test images are classified correctly.",
        "Always predicting {majority} would be correct for {majority_100} of 100.",
        "Averaged over the classes, with equal weights for rare and frequent ones, about {balanced_accuracy_100} of "
        "100 images of a class are classified correctly ({chance_100} by chance).",
        f"Of 100 pairs of images, one of a class and one of another, {_MACRO_AUC}",
        _RANGE,
    ),
    meanings=_MEANS | {"accuracy": _MEANINGS["accuracy"], "balanced_accuracy": "sensitivity; mean over the classes"},
)
MULTILABEL = Kind(
    auc="macro AUC",
    purpose="to predict which of {n} labels, any number at once, an image has: {names}",
    output="a probability for each label",
    limits="It predicts these {n} labels only: an image without any of them is not necessarily normal.",
    exclusive=False,
    collapse="For {n_constant} of {n} labels the decision is almost always the same: {constant}.",
    bounds={"auc": "macro AUC", "sensitivity": "mean sensitivity", "specificity": "mean specificity"},
    performance=(
        f"Of 100 pairs of images, one with a label and one without it, {_MACRO_AUC}",
        _RANGE,
        "At the thresholds, averaged over the labels, about {sensitivity_100} of 100 images with a label are predicted "
        "to have it, and about {specificity_100} of 100 images without it are predicted not to have it.",
    ),
    meanings=_MEANS,
)
KINDS = {"binary": BINARY, "multiclass": MULTICLASS, "multilabel": MULTILABEL}


def kind_of(task: Document) -> Kind:
    """Return the wording for a task with a ``kind`` and ``classes``."""
    return replace(KINDS[task["kind"]], classes=tuple(task["classes"]))


def _is_constant(measures: Document) -> bool:
    sensitivity, specificity = (value_of(measures, name) for name in ("sensitivity", "specificity"))
    if sensitivity is None or specificity is None:
        return False
    return min(sensitivity, specificity) <= CONSTANT and max(sensitivity, specificity) >= 1 - CONSTANT


def _values(metrics: Document, n_classes: int) -> dict[str, str]:
    """Return the defined numbers that sentences may name: ``auc`` is ``"0.889"``, ``auc_100`` is ``"89"``."""
    shares: dict[str, float | None] = {name: value_of(metrics["metrics"], name) for name in metrics["metrics"]}
    shares["chance"] = 1 / n_classes
    # Of several classes there is a prevalence for each.
    if isinstance(metrics.get("prevalence"), float):
        shares["prevalence"] = metrics["prevalence"]
    words = {}
    if majority := metrics.get("majority"):
        words = {"majority": majority["class"], "majority_100": of_100(majority["accuracy"])}
    for name, share in shares.items():
        if share is not None:
            words |= {name: number(share), f"{name}_100": of_100(share)}
    areas = {name: value_of(measures, "auc") for name, measures in metrics["per_class"].items()}
    ranked = sorted((area, name) for name, area in areas.items() if area is not None)
    if len(ranked) > 1:
        (lowest, worst), (highest, best) = ranked[0], ranked[-1]
        words |= {"worst": worst, "worst_auc": number(lowest), "best": best, "best_auc": number(highest)}
    return words
