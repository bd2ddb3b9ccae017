"""Map the labels of sources to the classes of a task."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import pandas as pd

from cxr_pipeline.common.errors import UserError

ANY_OTHER = "*"

_INPUTS = ("labels", "uncertain", "unknown")
_OUTPUTS = ("reason", "detail", "left_out")


def fold(label: str) -> str:
    """Normalise a label for comparison: case, spaces and underscores are ignored.

    Example:
        >>> fold("No_Finding") == fold("nofinding")
        True
    """
    return label.replace(" ", "").replace("_", "").casefold()


@dataclass(frozen=True)
class LabelMap:
    """Meaning of the labels of sources for a task. Case, spaces and underscores in labels are ignored.

    Args:
        classes: labels of each class. ``*`` stands for every other label in a source's vocabulary, except for those in
            ``left_out``.
        left_out: labels whose images the task excludes.
        uncertain: meaning of labels that a source marks as uncertain: ``unknown``, ``positive`` or ``negative``.
        exclusive: whether an image has exactly one class. Otherwise an image may have any number of classes.

    Raises:
        UserError: a label has two meanings.

    Example:
        >>> LabelMap({"normal": ["No Finding"], "abnormal": ["*"]}).class_of("Mass")
        'abnormal'
    """

    classes: Mapping[str, Sequence[str]]
    left_out: Sequence[str] = ()
    uncertain: Literal["unknown", "positive", "negative"] = "unknown"
    exclusive: bool = True

    def __post_init__(self) -> None:
        for name, labels in ((None, self.left_out), *self.classes.items()):
            for label in labels:
                other = self._meanings[fold(label)]
                if other != name:
                    both = f"{name or 'task.left_out'} and {other or 'task.left_out'}"
                    raise UserError(
                        f"task.classes: the label '{label}' belongs to both {both}. Labels are compared without case, "
                        "spaces and underscores. Remove it from one of them."
                    )

    @cached_property
    def _meanings(self) -> dict[str, str | None]:
        """Class of each folded label, None for labels of ``left_out``."""
        classes: list[tuple[str | None, Sequence[str]]] = [(None, self.left_out), *self.classes.items()]
        return {fold(label): name for name, labels in classes for label in labels}

    def class_of(self, label: str) -> str | None:
        """Return the class of a label, None if it has none."""
        return self._meanings.get(fold(label), self._meanings.get(ANY_OTHER))

    def apply(self, images: pd.DataFrame, vocabulary: Collection[str]) -> pd.DataFrame:
        """Return the value of each class for each image.

        An image without known labels, or with a label that is neither in the map nor in the vocabulary, is refused. An
        image with a label of ``left_out`` is left out (``listed``). For the others:

        - If classes are exclusive, an image is left out if its labels mean several classes (``several_classes``) or
          none (``other_classes``), or if that depends on an uncertain label, or on an unknown one where no label means
          a class (``uncertain``).
        - Otherwise a class is 1 if the image has one of its labels; else what ``uncertain`` says if one is uncertain;
          else NaN if one is unknown or if the source does not use any of its labels; else 0. An image without a known
          class is left out (``uncertain``, or ``other_classes`` if its source does not use the labels of any class).

        Args:
            images: rows of a ``Listing``.
            vocabulary: labels that the source is known to use.

        Returns:
            With the index of ``images``: ``label_<class>`` (float64: 1, 0 or NaN; NaN in rows that are not used),
            ``reason`` and ``detail`` of refused rows, and ``left_out``, the reason why a row is left out.
        """
        # A release has few distinct combinations of labels: each is mapped once.
        distinct = images[list(_INPUTS)].drop_duplicates()
        texts = distinct.astype(object).where(distinct.notna(), None).itertuples(index=False, name=None)
        combinations = list(texts)
        known = {fold(label) for label in vocabulary} | self._meanings.keys()
        seen = {label for combination in combinations for text in combination for label in _split(text)}
        used = {self.class_of(label) for label in (*vocabulary, *seen)}
        outcomes = [self._outcome(*combination, known=known, used=used) for combination in combinations]
        types = dict.fromkeys([f"label_{name}" for name in self.classes], "float64") | dict.fromkeys(_OUTPUTS, "str")
        table = pd.DataFrame(outcomes, distinct.index, columns=list(types)).astype(types)
        return images[list(_INPUTS)].merge(distinct.join(table), how="left").set_index(images.index)[list(types)]

    def _outcome(
        self,
        labels: str | None,
        uncertain: str | None,
        unknown: str | None,
        *,
        known: Collection[str],
        used: Collection[str | None],
    ) -> dict[str, float | str]:
        """Return the values of the classes, or why the image is refused or left out, see ``apply``."""
        if labels is None:
            return {"reason": "unknown_label", "detail": "no label"}
        present, possible = _split(labels), _split(uncertain)
        for label in (*present, *possible):
            if fold(label) not in known:
                return {"reason": "unknown_label", "detail": f"the label '{label}' belongs to no class of the task"}
        if self.uncertain == "positive":
            present = [*present, *possible]
        elif self.uncertain == "negative":
            possible = []
        if any(self._meanings.get(fold(label), label) is None for label in present):
            return {"left_out": "listed"}
        has, may_have, not_mentioned = (
            {self.class_of(label) for label in group} - {None} for group in (present, possible, _split(unknown))
        )
        if not self.exclusive:
            unsure = may_have | not_mentioned
            values = {
                f"label_{name}": 1.0 if name in has else math.nan if name in unsure or name not in used else 0.0
                for name in self.classes
            }
            if all(map(math.isnan, values.values())):
                return {"left_out": "uncertain" if unsure else "other_classes"}
            return dict(values)
        if len(has) > 1:
            return {"left_out": "several_classes"}
        if may_have - has or (not_mentioned and not has):
            return {"left_out": "uncertain"}
        if not has:
            return {"left_out": "other_classes"}
        return {f"label_{name}": float(name in has) for name in self.classes}


def _split(text: str | None) -> list[str]:
    return [label.strip() for label in (text or "").split("|") if label.strip()]
