"""From the labels of a source to the classes of a task."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd

from cxr_pipeline.common.errors import UserError

ANY_OTHER = "*"

_UNCERTAIN = ("unknown", "positive", "negative")


def fold(label: str) -> str:
    """Reduce a label to what is compared: case, spaces and underscores do not count.

    Example:
        >>> fold("No_Finding") == fold("nofinding")
        True
    """
    return label.replace(" ", "").replace("_", "").casefold()


class _Outcome(NamedTuple):
    """What becomes of a row: a value per class, or why it is refused or left out."""

    classes: tuple[float, ...] | None = None
    reason: str | None = None
    detail: str | None = None
    left_out: str | None = None


@dataclass(frozen=True)
class LabelMap:
    """What the labels of the sources mean to a task. Case, spaces and underscores of a label do not count.

    Args:
        classes: for each class the labels that mean it; ``*`` stands for every other label that a source is known
            to use, those in ``left_out`` apart.
        left_out: labels whose images the task leaves out.
        uncertain: what a label means that a source calls uncertain: ``unknown``, ``positive`` or ``negative``.
        exclusive: whether an image has one class and no more. Otherwise each class is a question of its own.

    Raises:
        UserError: a label has two meanings.
        ValueError: ``uncertain`` is something else.

    Example:
        >>> LabelMap({"normal": ["No Finding"], "abnormal": ["*"]}).class_of("Mass")
        'abnormal'
    """

    classes: Mapping[str, Sequence[str]]
    left_out: Sequence[str] = ()
    uncertain: str = "unknown"
    exclusive: bool = True
    _class_by_label: dict[str, str] = field(init=False, repr=False, compare=False)
    _listed: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.uncertain not in _UNCERTAIN:
            raise ValueError(f"uncertain must be one of {', '.join(_UNCERTAIN)}. Received: {self.uncertain!r}")
        object.__setattr__(self, "_class_by_label", _class_by_label(self.classes, self.left_out))
        object.__setattr__(self, "_listed", frozenset(map(fold, self.left_out)))

    def class_of(self, label: str) -> str | None:
        """Tell which class a label means, if any; where a class has ``*``, every other label means that class."""
        folded = fold(label)
        if folded in self._listed:
            return None
        return self._class_by_label.get(folded, self._class_by_label.get(ANY_OTHER))

    def apply(self, images: pd.DataFrame, vocabulary: Collection[str]) -> pd.DataFrame:
        """Find what each image has of each class.

        An image of which no label is known, or that has a label outside the vocabulary, is refused. An image with a
        label of ``left_out`` is left out (``listed``). Of the others:

        - where classes exclude each other, an image is left out if its labels mean several of them
          (``several_classes``) or none (``other_classes``), or if that hangs on a label that is uncertain
          (``uncertain``), or unknown where nothing else tells the class;
        - otherwise a class is 1 if one of its labels is there; else what the map makes of one that is uncertain; else
          NaN if one is unknown or if the source has no word for the class; else 0. An image of which no class is
          known is left out (``uncertain``, or ``other_classes`` where its source has no word for any).

        Args:
            images: rows with ``labels``, ``uncertain`` and ``unknown``: labels joined by ``|``, null where none. Null
                ``labels``: nothing is known; empty ``labels``: known to have none.
            vocabulary: labels that the source is known to use.

        Returns:
            with the index of ``images``: ``label_<class>`` (float64: 1, 0 or NaN; NaN in rows that are not kept),
            ``reason`` and ``detail`` of rows that are refused, and ``left_out``, why a row is left out.
        """
        texts = images[["labels", "uncertain", "unknown"]].astype(object)
        rows = list(texts.where(texts.notna(), None).itertuples(index=False, name=None))
        known = frozenset(fold(label) for label in vocabulary)
        seen = {label for row in set(rows) for text in row for label in _labels(text)}
        asked = {self.class_of(label) for label in (*vocabulary, *seen)}
        outcomes = {row: self._outcome(*row, known=known, asked=asked) for row in set(rows)}
        nothing = (math.nan,) * len(self.classes)
        found = [(*(outcomes[row].classes or nothing), *outcomes[row][1:]) for row in rows]
        labels = [f"label_{name}" for name in self.classes]
        table = pd.DataFrame(found, columns=[*labels, "reason", "detail", "left_out"], index=images.index)
        return table.astype(dict.fromkeys(labels, "float64") | dict.fromkeys(["reason", "detail", "left_out"], "str"))

    def _outcome(
        self,
        labels: str | None,
        uncertain: str | None,
        unknown: str | None,
        *,
        known: Collection[str],
        asked: Collection[str | None],
    ) -> _Outcome:
        if labels is None:
            return _Outcome(reason="unknown_label", detail="no label")
        there, perhaps = _labels(labels), _labels(uncertain)
        strange = [label for label in (*there, *perhaps) if not self._is_known(label, known)]
        if strange:
            return _Outcome(reason="unknown_label", detail=f"the label '{strange[0]}' means no class of the task")
        if self.uncertain == "positive":
            there = [*there, *perhaps]
        elif self.uncertain == "negative":
            perhaps = []
        if any(fold(label) in self._listed for label in there):
            return _Outcome(left_out="listed")
        has, may_have, not_told = (
            {self.class_of(label) for label in of} - {None} for of in (there, perhaps, _labels(unknown))
        )
        if self.exclusive:
            return self._one_class(has, may_have, not_told)
        return self._each_class(has, may_have | not_told, asked)

    def _is_known(self, label: str, known: Collection[str]) -> bool:
        folded = fold(label)
        return folded in self._class_by_label or folded in self._listed or folded in known

    def _one_class(
        self, has: Collection[str | None], may_have: Collection[str | None], not_told: Collection[str | None]
    ) -> _Outcome:
        if len(has) > 1:
            return _Outcome(left_out="several_classes")
        if set(may_have) - set(has) or (not_told and not has):
            return _Outcome(left_out="uncertain")
        if not has:
            return _Outcome(left_out="other_classes")
        return _Outcome(tuple(float(name in has) for name in self.classes))

    def _each_class(
        self, has: Collection[str | None], unsure: Collection[str | None], asked: Collection[str | None]
    ) -> _Outcome:
        values = tuple(
            1.0 if name in has else math.nan if name in unsure or name not in asked else 0.0 for name in self.classes
        )
        if all(map(math.isnan, values)):
            return _Outcome(left_out="uncertain" if unsure else "other_classes")
        return _Outcome(values)


def _labels(text: str | None) -> list[str]:
    return [label.strip() for label in (text or "").split("|") if label.strip()]


def _class_by_label(classes: Mapping[str, Sequence[str]], left_out: Sequence[str]) -> dict[str, str]:
    """Turn the classes of a task round: folded label to class."""
    meaning: dict[str, str] = {}
    for name, labels in classes.items():
        for label in labels:
            other = meaning.setdefault(fold(label), name)
            if other != name:
                raise UserError(
                    f"task.classes: the label '{label}' belongs to {other} and to {name}; expected one class a label "
                    "(case, spaces and underscores do not count). Take it out of one of them."
                )
    for label in left_out:
        if fold(label) in meaning:
            raise UserError(
                f"task.left_out: the label '{label}' also belongs to the class {meaning[fold(label)]}; expected "
                "one meaning a label (case, spaces and underscores do not count). Take it out of one of them."
            )
    return meaning
