"""Classification report and confusion table."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cxr_pipeline.evaluation.metrics import binary_metrics

MACRO = "mean"
_COLUMNS = ("precision", "sensitivity", "specificity", "f1", "auc", "average_precision")


def classification_report(
    y_true: ArrayLike, predicted: ArrayLike, probability: ArrayLike, outputs: Sequence[str]
) -> pd.DataFrame:
    """Tabulate the metrics of each output and their mean.

    Args:
        y_true: [n, k], 1, 0 or NaN.
        predicted: bool [n, k], the decisions.
        probability: [n, k], in [0, 1].
        outputs: names of the k outputs.

    Returns:
        A row for each output with ``class``, precision, sensitivity, specificity, f1, auc, average_precision and
        ``support``, the number of positive images. If there are several outputs, a last row has the means over the
        outputs for which a metric is defined.
    """
    true = np.asarray(y_true, dtype=np.float64)
    decided, scores = np.asarray(predicted, dtype=np.bool_), np.asarray(probability, dtype=np.float64)
    rows = []
    for place, output in enumerate(outputs):
        found = binary_metrics(true[:, place], scores[:, place], decided[:, place])
        support = int(np.nansum(true[:, place]))
        rows.append({"class": output, **{name: found[name] for name in _COLUMNS}, "support": support})
    report = pd.DataFrame(rows)
    if len(outputs) > 1:
        mean = {"class": MACRO, **report[list(_COLUMNS)].mean().to_dict(), "support": int(report["support"].sum())}
        report = pd.concat([report, pd.DataFrame([mean])], ignore_index=True)
    return report


def confusion_table(
    y_true: ArrayLike, predicted: ArrayLike, outputs: Sequence[str], *, exclusive: bool
) -> pd.DataFrame:
    """Count images by true class and decision.

    Args:
        y_true: [n, k], 1, 0 or NaN.
        predicted: bool [n, k], the decisions.
        outputs: names of the k outputs.
        exclusive: whether each image has exactly one class.

    Returns:
        For exclusive classes, a row for each true class (``class``) and a column for each decision. Otherwise a row for
        each output with ``true_negative``, ``false_positive``, ``false_negative`` and ``true_positive``, counted over
        the images with a known label.
    """
    true, decided = np.asarray(y_true, dtype=np.float64), np.asarray(predicted, dtype=np.bool_)
    if exclusive:
        counts = (true == 1).T.astype(np.int64) @ decided.astype(np.int64)
        return pd.DataFrame(counts, columns=list(outputs)).assign(**{"class": list(outputs)})[["class", *outputs]]
    cells = {
        "true_negative": ((true == 0) & ~decided).sum(axis=0),
        "false_positive": ((true == 0) & decided).sum(axis=0),
        "false_negative": ((true == 1) & ~decided).sum(axis=0),
        "true_positive": ((true == 1) & decided).sum(axis=0),
    }
    return pd.DataFrame({"class": list(outputs), **cells})
