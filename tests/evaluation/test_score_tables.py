"""Score tables: from images and raw scores to decisions."""

import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.evaluation.decision_rule import fit_decision_rule
from cxr_pipeline.evaluation.score_tables import Scores, columns_of, decide, patients_of, score_table

OUTPUTS = ("Mass", "No Finding")


@pytest.fixture
def images() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "source": ["a", "a", "b"],
            "image": ["1.png", "2.png", "1.png"],
            "sha256": ["0", "1", "2"],
            "patient_id": ["7", "7", None],
            "label_Mass": [1.0, 0.0, np.nan],
            "label_No Finding": [0.0, 1.0, 0.0],
        },
        index=[5, 6, 7],
    )


def test_scores_stand_beside_the_labels_of_their_output(images) -> None:
    table = score_table(images, OUTPUTS, np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.3]], dtype=np.float32))
    assert list(table["image"]) == ["1.png", "2.png", "1.png"]
    np.testing.assert_array_equal(columns_of(table, "true", OUTPUTS), [[1, 0], [0, 1], [np.nan, 0]])
    np.testing.assert_allclose(columns_of(table, "score", OUTPUTS)[:, 1], [0.1, 0.8, 0.3], rtol=1e-6)


def test_decisions_are_those_of_the_rule(images) -> None:
    rng = np.random.default_rng(0)
    y_true = (rng.random((80, 2)) < 0.5).astype(float)
    rule = fit_decision_rule(
        y_true,
        np.clip(0.3 * y_true + 0.7 * rng.random((80, 2)), 0, 1),
        kind="multilabel",
        classes=OUTPUTS,
        calibration="platt",
        policy={"rule": "youden"},
    )
    y_score = np.array([[0.99, 0.01], [0.01, 0.99], [0.5, 0.5]])
    decided = decide(score_table(images, OUTPUTS, y_score), rule)
    expected = rule.apply(y_score)
    scores = Scores.from_table(decided, OUTPUTS)
    np.testing.assert_array_equal(scores.probability, expected.probability)
    np.testing.assert_array_equal(scores.predicted, expected.predicted)
    assert scores.predicted.dtype == np.bool_
    assert decided["decision"].tolist() == expected.decision.tolist()
    assert decided["decision"].iloc[0] == "Mass"


def test_patients_are_named_within_their_source(images) -> None:
    patients = patients_of(images)
    assert patients is not None
    assert patients.tolist()[:2] == ["a/7", "a/7"]
    assert pd.isna(patients.iloc[2])
    assert patients_of(images.assign(patient_id=None).astype({"patient_id": "str"})) is None
