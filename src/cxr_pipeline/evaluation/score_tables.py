"""Score tables: labels, scores and decisions of images.

A table identifies each image by ``source``, ``image``, ``sha256`` and ``patient_id``, and has ``true_<output>`` and
``score_<output>`` for each output of the model. :func:`decide` adds ``probability_<output>``, ``predicted_<output>``
and ``decision``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.evaluation.decision_rule import DecisionRule
from cxr_pipeline.evaluation.metrics import Indices, SortedImages


@dataclass(frozen=True, eq=False)
class Scores:
    """The columns of a decided score table as arrays, for n images and k outputs.

    Args:
        outputs: names of the outputs; of a binary task the positive class.
        y_true: float64 [n, k], 1 or 0, NaN if unknown.
        probability: float64 [n, k], calibrated, in [0, 1].
        predicted: bool [n, k], the decisions.
    """

    outputs: tuple[str, ...]
    y_true: NDArray[np.float64]
    probability: NDArray[np.float64]
    predicted: NDArray[np.bool_]

    @classmethod
    def from_table(cls, table: pd.DataFrame, outputs: Sequence[str]) -> Self:
        """Read the columns ``true_<output>``, ``probability_<output>`` and ``predicted_<output>`` of a table."""
        columns = (columns_of(table, prefix, outputs) for prefix in ("true", "probability", "predicted"))
        true, probability, predicted = columns
        return cls(tuple(outputs), true, probability, predicted.astype(np.bool_))

    def sort_outputs(self, images: Indices) -> list[SortedImages]:
        """Sort the images of each output, among the images with the given indices."""
        columns = (values[images].T for values in (self.y_true, self.probability, self.predicted))
        return [SortedImages(*column) for column in zip(*columns, strict=True)]


def predict_scores(model: Any, prepared: PreparedImages, images: pd.DataFrame, outputs: Sequence[str]) -> pd.DataFrame:
    """Score rows of the manifest with a model, from their prepared images, as by `score_table`."""
    from cxr_pipeline.training.fitting import predict

    return score_table(images, outputs, predict(model, prepared, images["sha256"].tolist()))


def score_table(images: pd.DataFrame, outputs: Sequence[str], y_score: NDArray[np.floating]) -> pd.DataFrame:
    """Combine the raw scores [n, k] of a model with n rows of the manifest and their labels."""
    table = images[["source", "image", "sha256", "patient_id"]].reset_index(drop=True)
    for column, output in enumerate(outputs):
        table[f"true_{output}"] = images[f"label_{output}"].to_numpy()
        table[f"score_{output}"] = y_score[:, column]
    return table


def columns_of(table: pd.DataFrame, prefix: str, outputs: Sequence[str]) -> NDArray[np.float64]:
    """Return the columns ``<prefix>_<output>`` of a table, float64 [n, k]."""
    return table[[f"{prefix}_{output}" for output in outputs]].to_numpy(dtype=np.float64)


def decide(table: pd.DataFrame, rule: DecisionRule) -> pd.DataFrame:
    """Add the probabilities and decisions of a frozen decision rule to a score table."""
    decisions = rule.apply(columns_of(table, "score", rule.outputs))
    decided = table.copy()
    for column, output in enumerate(rule.outputs):
        decided[f"probability_{output}"] = decisions.probability[:, column]
        decided[f"predicted_{output}"] = decisions.predicted[:, column]
    return decided.assign(decision=decisions.decision)


def patients_of(table: pd.DataFrame) -> "pd.Series[str] | None":
    """Return ``<source>/<patient_id>`` of each image, null if unknown; None if no patient is known."""
    patients = table["source"].str.cat(table["patient_id"], sep="/")
    return patients if patients.notna().any() else None


def confusion_table(scores: Scores, *, exclusive: bool) -> pd.DataFrame:
    """Count images by true class and decision.

    Returns:
        For exclusive classes, a row for each true class (``class``) and a column for each decision. Otherwise a row for
        each output with ``true_negative``, ``false_positive``, ``false_negative`` and ``true_positive``, counted over
        the images with a known label.
    """
    names, positive, negative = list(scores.outputs), scores.y_true == 1, scores.y_true == 0
    if exclusive:
        counts = positive.T.astype(np.int64) @ scores.predicted.astype(np.int64)
        return pd.DataFrame(counts, columns=names).assign(**{"class": names})[["class", *names]]
    cells = {
        "true_negative": (negative & ~scores.predicted).sum(axis=0),
        "false_positive": (negative & scores.predicted).sum(axis=0),
        "false_negative": (positive & ~scores.predicted).sum(axis=0),
        "true_positive": (positive & scores.predicted).sum(axis=0),
    }
    return pd.DataFrame({"class": names, **cells})
