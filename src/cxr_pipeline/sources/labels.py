"""From the labels of a source to the classes of a task."""

from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from cxr_pipeline.errors import UserError


def fold(label: str) -> str:
    """Reduce a label to what is compared: case, spaces and underscores do not count.

    Example:
        >>> fold("No_Finding") == fold("nofinding")
        True
    """
    return label.replace(" ", "").replace("_", "").casefold()


def class_by_label(classes: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Turn the classes of a task round: folded label to class.

    Raises:
        UserError: a label means two classes.
    """
    meaning: dict[str, str] = {}
    for name, labels in classes.items():
        for label in labels:
            other = meaning.setdefault(fold(label), name)
            if other != name:
                raise UserError(
                    f"task.classes: the label '{label}' belongs to {other} and to {name}; expected one class a label "
                    "(case, spaces and underscores do not count). Take it out of one of them."
                )
    return meaning


def classify(labels: "pd.Series[str]", meaning: Mapping[str, str], vocabulary: Collection[str]) -> pd.DataFrame:
    """Find the class of each row of labels.

    Args:
        labels: labels of a film, joined by ``|``.
        meaning: from ``class_by_label``.
        vocabulary: labels that are known without meaning a class.

    Returns:
        ``class``, ``reason`` and ``detail``, with the index of ``labels``. A refused row has no class; a row
        to be left out has neither class nor reason.
    """
    known = {fold(label) for label in vocabulary}
    outcomes = {text: _outcome(text, meaning, known) for text in labels.dropna().unique()}
    nothing = (None, "unknown_label", "no label")
    rows = [outcomes.get(text, nothing) for text in labels]
    return pd.DataFrame(rows, columns=["class", "reason", "detail"], index=labels.index).astype("str")


def _outcome(
    text: str, meaning: Mapping[str, str], known: Collection[str]
) -> tuple[str | None, str | None, str | None]:
    labels = [label.strip() for label in text.split("|") if label.strip()]
    unknown = [label for label in labels if fold(label) not in meaning and fold(label) not in known]
    found = sorted({meaning[fold(label)] for label in labels if fold(label) in meaning})
    if not labels:
        return None, "unknown_label", "no label"
    if unknown:
        return None, "unknown_label", f"the label '{unknown[0]}' means no class of the task"
    if len(found) > 1:
        return None, "contradicting_labels", f"its labels mean {' and '.join(found)}"
    return (found[0] if found else None), None, None
