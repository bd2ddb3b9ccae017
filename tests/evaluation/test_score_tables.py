import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from cxr_pipeline.evaluation.decision_rule import fit_decision_rule
from cxr_pipeline.evaluation.score_tables import Scores, columns_of, confusion_table, decide, patients_of, score_table

OUTPUTS = ("Mass", "No Finding")


def test_a_score_table_has_labels_scores_and_the_decisions_of_the_rule():
    rows = {"source": ["a", "a", "b"], "image": ["1.png", "2.png", "1.png"], "sha256": list("012")}
    labels = {"label_Mass": [1.0, 0.0, np.nan], "label_No Finding": [0.0, 1.0, 0.0]}
    manifest = pd.DataFrame(rows | {"patient_id": ["7", "7", None]} | labels, index=[5, 6, 7])
    y_true, validation_scores = np.array([[0, 1], [1, 0]] * 10), np.array([[0.2, 0.7], [0.8, 0.3]] * 10)
    policy = {"rule": "youden"}
    rule = fit_decision_rule(
        y_true, validation_scores, kind="multilabel", classes=OUTPUTS, calibration="platt", policy=policy
    )
    y_score = np.array([[0.99, 0.01], [0.01, 0.99], [0.5, 0.4]], dtype=np.float32)

    table = decide(score_table(manifest, OUTPUTS, y_score), rule)

    assert table["image"].tolist() == ["1.png", "2.png", "1.png"]
    np.testing.assert_array_equal(columns_of(table, "true", OUTPUTS), [[1, 0], [0, 1], [np.nan, 0]])
    np.testing.assert_array_equal(columns_of(table, "score", OUTPUTS), y_score)
    scores, expected = Scores.from_table(table, OUTPUTS), rule.apply(y_score)
    np.testing.assert_array_equal(scores.probability, expected.probability)
    np.testing.assert_array_equal(scores.predicted, expected.predicted)
    assert scores.predicted.dtype == np.bool_
    assert table["decision"].tolist() == expected.decision.tolist()
    assert table["decision"].iloc[0] == "Mass"
    assert patients_of(table).tolist()[:2] == ["a/7", "a/7"]
    assert patients_of(table).isna().tolist() == [False, False, True]
    assert patients_of(table.tail(1)) is None


def test_the_confusion_table_of_exclusive_classes_is_that_of_scikit_learn():
    true, decided = np.random.default_rng(0).integers(0, 3, (2, 30))
    scores = Scores(("a", "b", "c"), np.eye(3)[true], np.eye(3)[decided], np.eye(3)[decided] == 1)
    table = confusion_table(scores, exclusive=True)
    assert table["class"].tolist() == list(table.columns[1:]) == ["a", "b", "c"]
    np.testing.assert_array_equal(table[["a", "b", "c"]], confusion_matrix(true, decided))


def test_each_label_has_its_own_confusion_matrix():
    y_true = np.array([[1, 0], [1, 1], [0, np.nan], [0, 0], [np.nan, np.nan]])
    predicted = np.array([[True, False], [False, True], [True, True], [False, True], [False, False]])

    scores = Scores(("a", "b"), y_true, predicted.astype(float), predicted)
    assert confusion_table(scores, exclusive=False).to_dict("list") == {
        "class": ["a", "b"],
        "true_negative": [1, 1],
        "false_positive": [1, 1],
        "false_negative": [1, 0],
        "true_positive": [1, 1],
    }
