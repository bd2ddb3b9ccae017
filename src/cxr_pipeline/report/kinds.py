"""The wording for each kind of task: binary, multiclass (exclusive classes) and multilabel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from cxr_pipeline.report.formatting import Document, join, number, of_100, value_of, wording

# A decision is constant if at most this share of the images on either side get the other one.
CONSTANT = 0.05


@dataclass(frozen=True)
class Kind:
    """The wording for one kind of task; ``{negative}``, ``{positive}``, ``{names}`` and ``{n}`` are its classes.

    ``purpose``, ``output`` and ``limits`` say what the model does, returns and cannot tell; ``collapse`` warns of
    ``{constant}`` decisions; ``bounds`` are the metrics whose intervals are put in words. Of the sentences on
    ``performance``, one is left out if a metric that it names is undefined.
    """

    auc: str
    exclusive: bool
    purpose: str
    output: str
    limits: str
    collapse: str
    bounds: Mapping[str, str]
    performance: Sequence[str]
    meanings: Mapping[str, str]
    classes: Sequence[str]

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


def kind_of(task: Document) -> Kind:
    """Return the wording for a task with a ``kind`` and ``classes``."""
    words = dict(wording()["kinds"][task["kind"]])
    averaged, own = words.pop("averaged"), words.pop("meanings")
    meanings = {name: f"{meaning}{averaged}" for name, meaning in wording()["meanings"].items()} | own
    return Kind(**words, meanings=meanings, classes=tuple(task["classes"]))


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
