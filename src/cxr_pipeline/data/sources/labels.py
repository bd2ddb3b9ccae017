"""Map the labels of sources to the classes of a task."""

import difflib
import json
import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import pandas as pd

from cxr_pipeline.common.errors import UserError

ANY_OTHER = "*"

_INPUTS = ("labels", "uncertain", "unknown", "outvoted")
_OUTPUTS = ("reason", "detail", "left_out")


# Words for a normal image, such as "no acute disease". A source may use several of them.
NORMAL_WORDS = {"no", "nofinding", "normal", "healthy", "negative", "none", "clear", "unremarkable", "ohne"}
_NOTHING_KNOWN = {"unknown", "unlabelled", "unlabeled", "na", "n/a", "nan", "null", "?", "-"}
_NO_CLASS = "belongs to no class of the task: "
_MIN_SIMILARITY = 0.8
_MISSPELT = 0.9


def fold(label: str) -> str:
    """Normalise a label for comparison: case, spaces, underscores, and hyphens between letters are ignored.

    Example:
        >>> fold("No-Finding") == fold("no_finding") == fold("nofinding")
        True
        >>> fold("1.0") == fold("1") != fold("-1")
        True
    """
    # Some systems write "ü" in file names as two characters.
    text = unicodedata.normalize("NFKC", label).casefold().replace("_", " ")
    text = re.sub(r"(?<=[^\W\d])[-\u2010-\u2014](?=[^\W\d])", "", "".join(text.split()))
    # Tables of numbers with empty cells are often written with a decimal point.
    return re.sub(r"^([+-]?\d+)\.0+$", r"\1", text)


def count_unknown_labels(details: Iterable[str]) -> dict[str, int]:
    """Count the labels in the ``detail`` of refused rows that belong to no class, the most frequent first."""
    named = pd.Series([text.removeprefix(_NO_CLASS) for text in details if text.startswith(_NO_CLASS)], dtype="str")
    return {str(label): int(count) for label, count in named.str.split("|").explode().value_counts().items()}


@dataclass(frozen=True)
class LabelMap:
    """Meaning of the labels of sources for a task. Labels are compared as by ``fold``.

    A label that is not listed but may be another spelling of a listed one, such as ``No Findings`` or
    ``Pleural Effusion`` beside ``Effusion``, has no meaning until it is listed.

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
                        "spaces, underscores and hyphens. Remove it from one of them."
                    )

    @cached_property
    def _meanings(self) -> dict[str, str | None]:
        """Class of each folded label, None for labels of ``left_out``."""
        classes: list[tuple[str | None, Sequence[str]]] = [(None, self.left_out), *self.classes.items()]
        return {fold(label): name for name, labels in classes for label in labels}

    def class_of(self, label: str) -> str | None:
        """Return the class of a label, None if it has none."""
        if fold(label) in self._meanings or self.resembled(label) is not None:
            return self._meanings.get(fold(label))
        return self._meanings.get(ANY_OTHER)

    def resembled(self, label: str) -> str | None:
        """Return the listed label that a label, not listed itself, may be another spelling of; ``""`` for no label.

        Example:
            >>> LabelMap({"normal": ["No Finding"], "abnormal": ["*"]}).resembled("no findings (PA)")
            'No Finding'
        """
        text, words = fold(label), _words(label)
        if text in _NOTHING_KNOWN:
            return ""
        similarities = {listed: _similarity(text, words, listed) for listed in self._listed}
        nearest = max(similarities, key=lambda listed: similarities[listed], default=None)
        return nearest if nearest is not None and similarities[nearest] > 0 else None

    def block(self, unknown: Collection[str], *, task: str) -> str:
        """Return the parameters, as one line of YAML, that list unknown labels under ``left_out``.

        A label that is almost certainly a misspelt one is listed under the class of that.
        """
        additions: dict[str | None, list[str]] = {}
        for label in unknown:
            listed = self.resembled(label)
            # The first letter may negate: "abnormal", "asymptomatic".
            misspelt = listed and fold(listed)[:1] == fold(label)[:1] and _ratio(fold(listed), fold(label)) >= _MISSPELT
            additions.setdefault(self._meanings[fold(listed)] if listed and misspelt else None, []).append(label)
        left_out = additions.pop(None, [])
        lists: dict[str, object] = {"left_out": [*self.left_out, *left_out]} if left_out else {}
        if additions:
            lists["classes"] = {str(name): [*self.classes[str(name)], *labels] for name, labels in additions.items()}
        return json.dumps({task: {"task": lists}}, ensure_ascii=False)

    @cached_property
    def _listed(self) -> list[str]:
        labels = [*self.left_out, *(label for labels in self.classes.values() for label in labels)]
        return [label for label in labels if label != ANY_OTHER]

    def apply(self, images: pd.DataFrame, vocabulary: Collection[str]) -> pd.DataFrame:
        """Return the value of each class for each image.

        An image without known labels is refused, as is one with a label, outvoted or not, that is neither in the map
        nor in the vocabulary, or that ``resembled`` a listed one. An image with a label of ``left_out`` is left out
        (``listed``). A class counts as unknown if several of its labels were outvoted: together, they might not have
        been. For the images that remain:

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
        others = {label for label in vocabulary if fold(label) not in self._meanings}
        known = {fold(label) for label in others if self.resembled(label) is None} | self._meanings.keys()
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
        outvoted: str | None,
        *,
        known: Collection[str],
        used: Collection[str | None],
    ) -> dict[str, float | str]:
        """Return the values of the classes, or why the image is refused or left out, see ``apply``."""
        if labels is None and not outvoted:
            return {"reason": "unknown_label", "detail": "no label"}
        present, possible = _split(labels), _split(uncertain)
        lost = _split(outvoted)
        without_class = [label for label in (*present, *possible, *lost) if fold(label) not in known]
        if without_class:
            return {"reason": "unknown_label", "detail": _NO_CLASS + "|".join(without_class)}
        if labels is None:
            return {"reason": "contradicting_labels", "detail": "its readers found different labels"}
        if self.uncertain == "positive":
            present = [*present, *possible]
        elif self.uncertain == "negative":
            possible = []
        if any(self._meanings.get(fold(label), label) is None for label in present):
            return {"left_out": "listed"}
        has, may_have, not_mentioned = (
            {self.class_of(label) for label in group} - {None} for group in (present, possible, _split(unknown))
        )
        of_lost = [self.class_of(label) for label in lost]
        not_mentioned |= {name for name in of_lost if name is not None and of_lost.count(name) > 1}
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


def _words(label: str) -> list[str]:
    return re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", label).casefold())


def _numbers(label: str) -> str:
    return " ".join(re.findall(r"\d+", label))


def _similarity(text: str, words: list[str], listed: str) -> float:
    """Return how similar a label, or some words in it, is to a listed one; 0 if it is another label."""
    of_listed, parts = fold(listed), _words(listed)
    both_normal = all(NORMAL_WORDS & {whole, *each} for whole, each in ((text, words), (of_listed, parts)))
    if both_normal or f" {' '.join(words)} " in f" {' '.join(parts)} ":
        return 1.0
    inside = ["".join(words[start : start + len(parts)]) for start in range(len(words))]
    # "Grade 2" is not another spelling of "Grade 1".
    candidates = [part for part in (text, *inside) if _numbers(listed) in ("", _numbers(part))]
    close = difflib.get_close_matches(of_listed, candidates, n=1, cutoff=_MIN_SIMILARITY)
    return _ratio(of_listed, close[0]) if close else 0.0


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
