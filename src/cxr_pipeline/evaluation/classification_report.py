"""Classification report and confusion table."""

import numpy as np
import pandas as pd

from cxr_pipeline.evaluation.metrics import binary_metrics
from cxr_pipeline.evaluation.score_tables import Scores

MACRO = "mean"
_COLUMNS = ("precision", "sensitivity", "specificity", "f1", "auc", "average_precision")


def classification_report(scores: Scores) -> pd.DataFrame:
    """Tabulate the metrics of each output and their mean.

    Returns:
        A row for each output with ``class``, precision, sensitivity, specificity, f1, auc, average_precision and
        ``support``, the number of positive images. If there are several outputs, a last row has the means over the
        outputs for which a metric is defined.
    """
    rows = []
    for place, output in enumerate(scores.outputs):
        true = scores.y_true[:, place]
        found = binary_metrics(true, scores.probability[:, place], scores.predicted[:, place])
        rows.append({"class": output, **{name: found[name] for name in _COLUMNS}, "support": int(np.nansum(true))})
    report = pd.DataFrame(rows)
    if len(rows) > 1:
        mean = {"class": MACRO, **report[list(_COLUMNS)].mean().to_dict(), "support": int(report["support"].sum())}
        report = pd.concat([report, pd.DataFrame([mean])], ignore_index=True)
    return report


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
