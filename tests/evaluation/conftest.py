"""Score tables, and a slow bootstrap to compare with."""

import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.evaluation.metrics import METRICS, binary_metrics


@pytest.fixture(scope="session")
def decided_table():
    """Build a score table with decisions from labels and probabilities [n, k]; images are named by their number."""

    def build(y_true, probability, outputs, *, predicted=None, **columns):
        names = [f"{number:04}" for number in range(len(y_true))]
        table = pd.DataFrame({"source": "nih", "image": names, "sha256": names, "patient_id": names, **columns})
        decisions = probability >= 0.5 if predicted is None else predicted
        for column, output in enumerate(outputs):
            table[f"true_{output}"] = y_true[:, column]
            table[f"score_{output}"] = table[f"probability_{output}"] = probability[:, column]
            table[f"predicted_{output}"] = decisions[:, column]
        return table

    return build


@pytest.fixture(scope="session")
def resampled_metrics():
    """Compute the metrics of bootstrap replicates one at a time, from the images of the drawn patients."""

    def compute(y_true, probability, predicted, patients, *, exclusive, replicates, seed):
        """Return a table [replicates, metrics] for each output, and last for their mean; NaN where dropped."""
        ids = np.unique(patients)
        rows = []
        for drawn in np.random.default_rng(seed).integers(len(ids), size=(replicates, len(ids))):
            images = np.concatenate([np.flatnonzero(patients == ids[number]) for number in drawn])
            columns = zip(y_true[images].T, probability[images].T, predicted[images].T, strict=True)
            outputs = [binary_metrics(*column) if {0, 1} <= set(column[0]) else {} for column in columns]
            mean = pd.DataFrame(outputs, columns=METRICS, dtype=float).mean()
            if exclusive:
                mean["accuracy"] = (predicted & (y_true == 1))[images].any(axis=1).mean()
                mean["balanced_accuracy"] = mean["sensitivity"]
            rows.append([*outputs, mean])
        return [pd.DataFrame(list(column), columns=METRICS) for column in zip(*rows, strict=True)]

    return compute
