"""Score tables: what images are, what a model says of them, and what is decided.

A table names the images (``source``, ``image``, ``sha256``, ``patient_id``) and has, for each output of the model,
``true_<output>`` and ``score_<output>``; once it is decided also ``probability_<output>``, ``called_<output>`` and one
``decision``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.evaluation.decision_rule import DecisionRule


@dataclass(frozen=True, eq=False)
class Scores:
    """The n images of a score table, and the k outputs of the model that judged them.

    Args:
        outputs: the classes that the model gives a probability for: of a binary task the positive one.
        y_true: float64 [n, k], 1 or 0, NaN where unknown.
        probability: float64 [n, k], calibrated, in [0, 1].
        called: bool [n, k], what is decided.
    """

    outputs: tuple[str, ...]
    y_true: NDArray[np.float64]
    probability: NDArray[np.float64]
    called: NDArray[np.bool_]

    @classmethod
    def from_table(cls, table: pd.DataFrame, outputs: Sequence[str]) -> Self:
        """Take the columns ``true_<output>``, ``probability_<output>`` and ``called_<output>`` of a table."""
        true, probability, called = (columns_of(table, what, outputs) for what in ("true", "probability", "called"))
        return cls(tuple(outputs), true, probability, called.astype(np.bool_))


def score_table(images: pd.DataFrame, outputs: Sequence[str], y_score: NDArray[np.floating]) -> pd.DataFrame:
    """Put scores beside the images and their labels.

    Args:
        images: n rows of the manifest.
        outputs: the k outputs of the model.
        y_score: [n, k], raw outputs.
    """
    table = images[["source", "image", "sha256", "patient_id"]].reset_index(drop=True)
    for column, output in enumerate(outputs):
        table[f"true_{output}"] = images[f"label_{output}"].to_numpy()
        table[f"score_{output}"] = y_score[:, column]
    return table


def columns_of(table: pd.DataFrame, what: str, outputs: Sequence[str]) -> NDArray[np.float64]:
    """Take the columns ``<what>_<output>`` of a table, float64 [n, k]."""
    return table[[f"{what}_{output}" for output in outputs]].to_numpy(dtype=np.float64)


def decide(table: pd.DataFrame, rule: DecisionRule) -> pd.DataFrame:
    """Add to scores what a frozen decision rule makes of them."""
    decisions = rule.apply(columns_of(table, "score", rule.outputs))
    decided = table.copy()
    for column, output in enumerate(rule.outputs):
        decided[f"probability_{output}"] = decisions.probability[:, column]
        decided[f"called_{output}"] = decisions.called[:, column]
    return decided.assign(decision=decisions.decision)


def patients_of(table: pd.DataFrame) -> "pd.Series[str] | None":
    """Name the patient of each image, null where not known; None where no patient is known."""
    patients = table["source"].str.cat(table["patient_id"], sep="/")
    return patients if patients.notna().any() else None
