"""Score tables."""

import pandas as pd
import pytest


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
