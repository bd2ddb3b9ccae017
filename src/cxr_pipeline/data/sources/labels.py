"""Map the labels of sources to the classes of a task, and propose classes for them."""

import difflib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Literal

import pandas as pd

from cxr_pipeline.common.errors import UserError

ANY_OTHER = "*"

_INPUTS = ("labels", "uncertain", "unknown", "outvoted")
_OUTPUTS = ("reason", "detail", "left_out")

_NORMAL_WORDS = {"no", "normal", "healthy", "negative", "none", "clear", "unremarkable"}
_NORMAL_WORDS |= {"ohne", "gesund", "unauffällig", "unauffaellig"}
# Only as the whole label: "well" may be the first word of a finding.
_NORMAL_LABELS = _NORMAL_WORDS | {"nofinding", "nofindings", "withinnormallimits", "well"}
_NOTHING_KNOWN = {"unknown", "unlabelled", "unlabeled", "na", "n/a", "nan", "null", "?", "-"}
# CheXpert labels devices beside No Finding.
_NO_DISEASE = "supportdevices"
_NO_CLASS = "belongs to no class of the task: "
_MIN_SIMILARITY = 0.8
_MAX_SHARE_OF_A_MISSPELLING = 0.1


def fold(label: str) -> str:
    """Normalise a label for comparison: case, spaces, underscores, and hyphens between letters are ignored.

    Example:
        >>> fold("No-Finding") == fold("no_finding"), fold("1.0") == fold("1"), fold("-1") == fold("1")
        (True, True, False)
    """
    # Some systems write "ü" in file names as two characters.
    text = unicodedata.normalize("NFKC", label).casefold().replace("_", " ")
    text = re.sub(r"(?<=[^\W\d])[-\u2010-\u2014](?=[^\W\d])", "", "".join(text.split()))
    # Tables of numbers with empty cells are often written with a decimal point.
    return re.sub(r"^([+-]?\d+)\.0+$", r"\1", text)


def is_normal(label: str) -> bool:
    """Return whether a label means a normal image: whether it or its first word, without numbers, is one for that.

    Example:
        >>> [is_normal(label) for label in ("0_normal", "No acute disease", "abnormal", "Effusion, no nodule")]
        [True, True, False, False]
    """
    words = [word for word in _words(label) if not word.isdigit()]
    return "".join(words) in _NORMAL_LABELS or not _NORMAL_WORDS.isdisjoint(words[:1])


def propose_classes(labels: "pd.Series[str]") -> tuple[str, dict[str, list[str]], list[str]]:
    """Return the kind of task for the labels of images, joined by ``|``, the labels of each class, and what to check.

    Example:
        >>> propose_classes(pd.Series(["Mass", "normal", "Normal", "normal"]))
        ('binary', {'normal': ['normal', 'Normal'], 'Mass': ['Mass']}, [])
    """
    of_images = [text.split("|") for text in labels.dropna()]
    spellings = Counter(name for names in of_images for name in names if name)
    # A run compares labels as folded. A class is named by the most frequent spelling.
    same: dict[str, list[str]] = {}
    for name, _ in spellings.most_common():
        same.setdefault(fold(name), []).append(name)
    counts = {names[0]: sum(map(spellings.__getitem__, names)) for names in same.values()}
    names = sorted(counts, key=lambda name: (not is_normal(name), int(name) if name.isdecimal() else -counts[name]))
    several = any(len(set(map(fold, found))) > 1 for found in of_images)
    kind = "multilabel" if several or len(names) == 1 else "binary" if len(names) == 2 else "multiclass"
    classes: dict[str, list[str]] = {}
    for name in names:
        # An image with a label for normal images is negative for all classes of a multi-label task.
        if kind != "multilabel" or not is_normal(name):
            cleaned = re.sub(r"[^A-Za-z0-9_ -]+", "_", name).strip("_ ")
            classes.setdefault(cleaned if cleaned[:1].isalpha() else f"class_{cleaned}", []).extend(same[fold(name)])
    if not classes:
        raise UserError("No image has a finding as its label. Expected labels of two kinds or more.")
    return kind, classes, _check_classes(kind, classes, counts, len(of_images))


def _check_classes(kind: str, classes: Mapping[str, Sequence[str]], counts: Mapping[str, int], n: int) -> list[str]:
    """Return what has to be checked, given the images with each class, by its first label, and all labelled images."""
    of_class = {name: counts[labels[0]] for name, labels in classes.items()}
    notes = []
    if list(counts.values()) == [n]:
        notes.append(f"all images have the label {next(iter(counts))}. A task needs images without it, too.")
    elif kind == "binary" and not any(map(is_normal, counts)):
        notes.append(f"no class was recognised as the normal one. The last, {list(classes)[-1]}, is the positive one.")
    for name, rare in combinations(sorted(of_class, key=lambda name: -of_class[name]), 2):
        one, other = classes[name][0], classes[rare][0]
        is_rare = of_class[rare] <= _MAX_SHARE_OF_A_MISSPELLING * of_class[name]
        if _resembles(other, one) and (is_rare or (is_normal(one) and is_normal(other))):
            notes.append(
                f"is {rare} (images: {of_class[rare]:,}) another spelling of {name}? Then move it to the labels of "
                f"{name}, and remove its own line{' (the kind is then binary)' * (len(classes) == 3)}."
            )
    return notes


def count_unknown_labels(details: Iterable[str]) -> dict[str, int]:
    """Count the labels in the ``detail`` of refused rows that belong to no class, the most frequent first."""
    named = pd.Series([text.removeprefix(_NO_CLASS) for text in details if text.startswith(_NO_CLASS)], dtype="str")
    return {str(label): int(count) for label, count in named.str.split("|").explode().value_counts().items()}


@dataclass(frozen=True)
class LabelMap:
    """Meaning of the labels of sources for a task. Labels are compared as by ``fold``.

    A label that is not listed but may be another spelling of a listed one, such as ``No Findings`` or
    ``Pleural Effusion`` beside ``Effusion``, has no meaning until it is listed.

    ``classes`` are the labels of each class. ``*`` stands for every other label in a source's vocabulary, except for
    those in ``left_out``, whose images the task excludes. ``uncertain`` is the meaning of labels that a source marks as
    uncertain. If classes are exclusive, an image has exactly one, otherwise any number.

    Example:
        >>> LabelMap({"normal": ["No Finding"], "abnormal": ["*"]}).class_of("Mass")
        'abnormal'
    """

    classes: Mapping[str, Sequence[str]]
    left_out: Sequence[str] = ()
    uncertain: Literal["unknown", "positive", "negative"] = "unknown"
    exclusive: bool = True
    task: str = field(default="<task>", compare=False)

    def __post_init__(self) -> None:
        for name, labels in ((None, self.left_out), *self.classes.items()):
            for label in labels:
                other = self._meanings[fold(label)]
                if other != name:
                    both = f"{name or 'task.left_out'} and {other or 'task.left_out'}"
                    raise UserError(
                        f"{self.task}.task.classes: the label '{label}' belongs to both {both}. Labels are compared "
                        "without case, spaces, underscores and hyphens. Remove it from one of them."
                    )

    @cached_property
    def _meanings(self) -> dict[str, str | None]:
        """Class of each folded label, None for labels of ``left_out``."""
        classes: list[tuple[str | None, Sequence[str]]] = [(None, self.left_out), *self.classes.items()]
        return {fold(label): name for name, labels in classes for label in labels}

    def class_of(self, label: str) -> str | None:
        """Return the class of a label, None if it has none."""
        if fold(label) in self._meanings or self._resembles_listed(label):
            return self._meanings.get(fold(label))
        return self._meanings.get(ANY_OTHER)

    def _resembles_listed(self, label: str) -> bool:
        """Return whether a label may be another spelling of a listed one, or says that nothing is known."""
        listed = [*self.left_out, *(each for labels in self.classes.values() for each in labels if each != ANY_OTHER)]
        return fold(label) in _NOTHING_KNOWN or any(_resembles(label, each) for each in listed)

    def apply(self, images: pd.DataFrame, vocabulary: Collection[str]) -> pd.DataFrame:
        """Return the value of each class for each image, a row of a ``Listing`` whose source uses the vocabulary.

        An image is refused if it has no known labels, if it is both normal and has a finding, or if one of its labels,
        outvoted or not, is neither in the map nor in the vocabulary or may be another spelling of a listed label. An
        image with a label of ``left_out`` is left out (``listed``). A class counts as unknown if several of its labels
        were outvoted: together, they might not have been. For the images that remain:

        - If classes are exclusive, an image is left out if its labels mean several classes (``several_classes``) or
          none (``other_classes``), or if that depends on an uncertain label, or on an unknown one where no label means
          a class (``uncertain``).
        - Otherwise a class is 1 if the image has one of its labels; else what ``uncertain`` says if one is uncertain;
          else NaN if one is unknown or if the source does not use any of its labels; else 0. An image without a known
          class is left out (``uncertain``, or ``other_classes`` if its source does not use the labels of any class).

        The table has the index of ``images``, ``label_<class>`` (float64: 1, 0 or NaN; NaN in rows that are not used),
        ``reason`` and ``detail`` of refused rows, and ``left_out``, the reason why a row is left out.
        """
        # A release has few distinct combinations of labels: each is mapped once.
        distinct = images[list(_INPUTS)].drop_duplicates()
        combinations = distinct.astype(object).where(distinct.notna(), None).to_numpy().tolist()
        known = {fold(label) for label in vocabulary if not self._resembles_listed(label)} | self._meanings.keys()
        seen = {label for combination in combinations for text in combination for label in _split(text)}
        classes = {label: self.class_of(label) for label in (*vocabulary, *seen)}
        outcomes = [self._outcome(combination, known, classes) for combination in combinations]
        types = dict.fromkeys([f"label_{name}" for name in self.classes], "float64") | dict.fromkeys(_OUTPUTS, "str")
        table = pd.DataFrame(outcomes, distinct.index, columns=list(types)).astype(types)
        return images[list(_INPUTS)].merge(distinct.join(table), how="left").set_index(images.index)[list(types)]

    def _outcome(
        self, combination: Sequence[str | None], known: Collection[str], classes: Mapping[str, str | None]
    ) -> dict[str, float | str]:
        """Return the values of the classes, or why the image is refused or left out, see ``apply``."""
        labels, uncertain, unknown, outvoted = combination
        if labels is None and not outvoted:
            return {"reason": "unknown_label", "detail": "no label"}
        certain, possible, lost = _split(labels), _split(uncertain), _split(outvoted)
        without_class = [label for label in (*certain, *possible, *lost) if fold(label) not in known]
        if without_class:
            return {"reason": "unknown_label", "detail": _NO_CLASS + "|".join(without_class)}
        if labels is None:
            return {"reason": "contradicting_labels", "detail": "its readers found different labels"}
        present = [*certain, *possible] if self.uncertain == "positive" else certain
        if any(self._meanings.get(fold(label), label) is None for label in present):
            return {"left_out": "listed"}
        if _contradict(certain):
            return {"reason": "contradicting_labels", "detail": f"no finding and a finding: {', '.join(certain)}"}
        if _contradict(present):
            return {"left_out": "uncertain"}
        if self.uncertain == "negative":
            possible = []
        has, may_have, not_mentioned = (
            {classes[label] for label in group} - {None} for group in (present, possible, _split(unknown))
        )
        # All labels for a normal image are one label.
        of_lost = [classes[label] for label in {"" if is_normal(each) else each: each for each in lost}.values()]
        not_mentioned |= {name for name in of_lost if name is not None and of_lost.count(name) > 1}
        if not self.exclusive:
            unsure, used = may_have | not_mentioned, set(classes.values())
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


def _contradict(labels: Sequence[str]) -> bool:
    """Return whether labels say that an image is normal and that it has a finding."""
    findings = [label for label in labels if not is_normal(label) and fold(label) != _NO_DISEASE]
    return bool(findings) and any(map(is_normal, labels))


def _resembles(label: str, listed: str) -> bool:
    """Return whether a label, or some words in it, may be another spelling of a listed one."""
    words, of_listed = _words(label), _words(listed)
    if all(fold(each) in _NORMAL_LABELS or not _NORMAL_WORDS.isdisjoint(_words(each)) for each in (label, listed)):
        return True
    if f" {' '.join(words)} " in f" {' '.join(of_listed)} ":
        return True
    inside = ["".join(words[start : start + len(of_listed)]) for start in range(len(words))]
    # "Grade 2" is not another spelling of "Grade 1".
    candidates = [part for part in (fold(label), *inside) if _numbers(listed) in ("", _numbers(part))]
    return bool(difflib.get_close_matches(fold(listed), candidates, n=1, cutoff=_MIN_SIMILARITY))
