"""What a report says differently of each kind of task.

``metrics`` is the content of ``metrics.json``, where null stands for a number that is not defined.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from cxr_pipeline.report.words.text import listed, of_100, value_of

Document = Mapping[str, Any]

ONE_CLASS = 0.05
MEANS_OVER_CLASSES = {
    "auc": "chance that an image of a class gets a higher probability of it than another; mean over the classes",
    "average_precision": "precision, averaged over all sensitivities; mean over the classes",
    "balanced_accuracy": "share of the images of a class that are found; mean over the classes",
    "sensitivity": "share of the images of a class that are found; mean over the classes",
    "specificity": "share of the other images that are not called so; mean over the classes",
    "precision": "share of the images called of a class that are; mean over the classes",
    "f1": "harmonic mean of precision and sensitivity; mean over the classes",
    "brier": "squared error of the probabilities; 0 is best",
    "ece": "distance of probability and frequency, ten bins of equal mass; mean over the classes, 0 is best",
}
MEANS_OVER_LABELS = {
    "auc": "chance that an image with a label gets a higher probability of it than one without; mean over the labels",
    "average_precision": "precision, averaged over all sensitivities; mean over the labels",
    "accuracy": "share of images of which a label is decided rightly; mean over the labels",
    "balanced_accuracy": "mean of sensitivity and specificity; mean over the labels",
    "sensitivity": "share of the images with a label that are found; mean over the labels",
    "specificity": "share of the images without a label that do not get it; mean over the labels",
    "precision": "share of the images given a label that have it; mean over the labels",
    "f1": "harmonic mean of precision and sensitivity; mean over the labels",
    "brier": "squared error of the probability; mean over the labels, 0 is best",
    "ece": "distance of probability and frequency, ten bins of equal mass; mean over the labels, 0 is best",
}


@dataclass(frozen=True)
class Kind(ABC):
    """The words of one kind of task.

    Args:
        classes: names of the task's classes; of two, the last is the positive one.
    """

    classes: Sequence[str]

    auc: ClassVar[str] = "macro AUC"
    tuned: ClassVar[str] = "how a probability becomes a decision"
    meanings: ClassVar[Mapping[str, str]] = {}

    @property
    @abstractmethod
    def question(self) -> str:
        """What the network is there for, beginning with ``to``."""

    @property
    @abstractmethod
    def answer(self) -> str:
        """What it gives for an image."""

    @property
    @abstractmethod
    def limits(self) -> str:
        """What its answers cannot say."""

    @property
    @abstractmethod
    def bounds(self) -> Mapping[str, str]:
        """The measures whose intervals are put in words, and what they are called."""

    @abstractmethod
    def quality(self, metrics: Document) -> list[str]:
        """How good it is, in so many of a hundred."""

    @abstractmethod
    def collapsed(self, metrics: Document) -> str | None:
        """What is to be said where a decision is, but for one image in twenty of either side, always the same."""


class TwoClasses(Kind):
    """An image is of one class or of the other."""

    auc = "AUC"
    tuned = "where to put the threshold"

    @property
    def question(self) -> str:
        """Positive from negative."""
        negative, positive = self.classes
        return f"to tell images labelled {positive} from images labelled {negative}"

    @property
    def answer(self) -> str:
        """One probability."""
        return f"the probability of {self.classes[-1]}"

    @property
    def limits(self) -> str:
        """Two answers."""
        negative, positive = self.classes
        return (
            f"It knows two answers. An image that shows something else is called {positive} or {negative} all the same."
        )

    @property
    def bounds(self) -> Mapping[str, str]:
        """AUC and the two rates."""
        return {"auc": "AUC", "sensitivity": "sensitivity", "specificity": "specificity"}

    def quality(self, metrics: Document) -> list[str]:
        """AUC, sensitivity, specificity and precision."""
        negative, positive = self.classes
        auc, sensitivity, specificity, precision = (
            value_of(metrics["metrics"], name) for name in ("auc", "sensitivity", "specificity", "precision")
        )
        sentences = []
        if auc is not None:
            sentences.append(
                f"Of 100 pairs of images, one labelled {positive} and one labelled {negative}, it gives the {positive} "
                f"image the higher probability in about {of_100(auc)} (AUC {auc:.3f}; guessing gets 50)."
            )
        if sensitivity is not None:
            sentences.append(f"Of 100 images labelled {positive} about {of_100(sensitivity)} are found.")
        if specificity is not None:
            sentences.append(f"Of 100 images labelled {negative} about {of_100(specificity)} are rightly called so.")
        if precision is not None:
            sentences.append(
                f"Of 100 images that it calls {positive} about {of_100(precision)} are labelled so, where "
                f"{of_100(metrics['prevalence'])} of 100 images are, as in the test; where fewer are, its alarms are "
                "wrong more often."
            )
        return sentences

    def collapsed(self, metrics: Document) -> str | None:
        """One class for every image."""
        sensitivity = value_of(metrics["metrics"], "sensitivity")
        if not _is_stuck(metrics["metrics"]) or sensitivity is None:
            return None
        return _one_class(self.classes[-1] if sensitivity > ONE_CLASS else self.classes[0])


class ExclusiveClasses(Kind):
    """An image is of one of several classes."""

    meanings = MEANS_OVER_CLASSES

    @property
    def question(self) -> str:
        """Which of the classes."""
        return f"to decide of which of {len(self.classes)} classes an image is: {listed(self.classes)}"

    @property
    def answer(self) -> str:
        """A share for each class."""
        return "a probability for each class, which add up to one"

    @property
    def limits(self) -> str:
        """One answer of several."""
        return (
            f"It knows {len(self.classes)} answers and gives one of them. An image that shows something else, or two of "
            "them at once, is called one of them all the same."
        )

    @property
    def bounds(self) -> Mapping[str, str]:
        """AUC and the shares that are right."""
        return {"auc": self.auc, "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}

    def quality(self, metrics: Document) -> list[str]:
        """Accuracy beside that of always saying the same, balanced accuracy, AUC and its span."""
        accuracy, balanced = (value_of(metrics["metrics"], name) for name in ("accuracy", "balanced_accuracy"))
        majority = metrics.get("majority")
        sentences = []
        if accuracy is not None:
            same = (
                f"; always saying {majority['class']} is right for {of_100(majority['accuracy'])}" if majority else ""
            )
            sentences.append(f"It decides rightly about {of_100(accuracy)} of 100 test images{same}.")
        if balanced is not None:
            sentences.append(
                f"Averaged over the classes, so that rare ones count like common ones, it finds about "
                f"{of_100(balanced)} of 100 images of a class (guessing gets {of_100(1 / len(self.classes))})."
            )
        pairs = _pairs(metrics, "one of a class and one of another", "classes")
        return [*sentences, *pairs, *_span(metrics)]

    def collapsed(self, metrics: Document) -> str | None:
        """One class for every image."""
        everything = [
            name
            for name, measures in metrics["per_class"].items()
            if _is_stuck(measures) and (value_of(measures, "sensitivity") or 0) > ONE_CLASS
        ]
        return _one_class(everything[0]) if everything else None


class Labels(Kind):
    """An image has any number of labels."""

    meanings = MEANS_OVER_LABELS

    @property
    def question(self) -> str:
        """Which labels, any number of them."""
        return f"to say which of {len(self.classes)} labels an image has, any number at once: {listed(self.classes)}"

    @property
    def answer(self) -> str:
        """A probability for each, apart from the others."""
        return "a probability for each label"

    @property
    def limits(self) -> str:
        """Its labels and no more."""
        return (
            f"It knows {len(self.classes)} labels. Whatever else an image shows goes unsaid: an image without any of them "
            "need not be normal."
        )

    @property
    def bounds(self) -> Mapping[str, str]:
        """AUC and the two rates."""
        return {"auc": self.auc, "sensitivity": "mean sensitivity", "specificity": "mean specificity"}

    def quality(self, metrics: Document) -> list[str]:
        """AUC and its span, and the mean rates at the thresholds."""
        sensitivity, specificity = (value_of(metrics["metrics"], name) for name in ("sensitivity", "specificity"))
        sentences = [*_pairs(metrics, "one with a label and one without it", "labels"), *_span(metrics)]
        if sensitivity is not None and specificity is not None:
            sentences.append(
                f"At its thresholds, averaged over the labels, about {of_100(sensitivity)} of 100 images with a label "
                f"are found, and about {of_100(specificity)} of 100 images without it are left alone."
            )
        return sentences

    def collapsed(self, metrics: Document) -> str | None:
        """Labels that nearly every image gets, or nearly none."""
        stuck = [name for name, measures in metrics["per_class"].items() if _is_stuck(measures)]
        if not stuck:
            return None
        return (
            f"For {len(stuck)} of {len(self.classes)} labels the decision is nearly always the same, whatever the image "
            f"shows: {listed(stuck)}."
        )


KINDS: dict[str, type[Kind]] = {"binary": TwoClasses, "multiclass": ExclusiveClasses, "multilabel": Labels}


def kind_of(task: Mapping[str, Any]) -> Kind:
    """The words for a task with a ``kind`` and ``classes``."""
    return KINDS[task["kind"]](tuple(task["classes"]))


def _is_stuck(measures: Mapping[str, Any]) -> bool:
    rates = [value_of(measures, name) for name in ("sensitivity", "specificity")]
    known = [rate for rate in rates if rate is not None]
    return len(known) == len(rates) and min(known) <= ONE_CLASS and max(known) >= 1 - ONE_CLASS


def _one_class(name: str) -> str:
    return f"This model has collapsed into one class: it calls nearly every image {name}, whatever it shows."


def _pairs(metrics: Document, pair: str, over: str) -> list[str]:
    auc = value_of(metrics["metrics"], "auc")
    if auc is None:
        return []
    return [
        f"Of 100 pairs of images, {pair}, it gives the first the higher probability in about {of_100(auc)}, averaged "
        f"over the {over} (macro AUC {auc:.3f}; guessing gets 50)."
    ]


def _span(metrics: Document) -> list[str]:
    """The class told best and the class told worst; nothing where fewer than two can be compared."""
    areas = {name: value_of(measures, "auc") for name, measures in metrics["per_class"].items()}
    known = {name: area for name, area in areas.items() if area is not None}
    if len(known) < 2:
        return []
    best, worst = max(known, key=lambda name: known[name]), min(known, key=lambda name: known[name])
    return [f"It tells {best} best (AUC {known[best]:.3f}) and {worst} worst (AUC {known[worst]:.3f})."]
