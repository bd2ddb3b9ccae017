import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import classification_report as report_of_scikit_learn
from sklearn.metrics import confusion_matrix

from cxr_pipeline.evaluation.classification_report import MACRO, classification_report, confusion_table
from cxr_pipeline.evaluation.metrics import binary_metrics
from cxr_pipeline.evaluation.score_tables import Scores

CLASSES = ("normal", "pneumonia", "No Finding")


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_report_and_confusion_matrix_are_those_of_scikit_learn(images):
    true, decided = map(list, zip(*images, strict=True))
    options = {"target_names": CLASSES, "output_dict": True, "zero_division": np.nan}
    expected = report_of_scikit_learn(true, decided, labels=[0, 1, 2], **options)
    scores = Scores(CLASSES, np.eye(3)[true], np.eye(3)[decided], np.eye(3)[decided] == 1)

    table = confusion_table(scores, exclusive=True)
    report = classification_report(scores).set_index("class")

    assert table["class"].tolist() == list(table.columns[1:]) == list(CLASSES)
    np.testing.assert_array_equal(table[list(CLASSES)], confusion_matrix(true, decided, labels=[0, 1, 2]))
    for name in CLASSES:
        row = report.loc[name, ["precision", "sensitivity", "f1", "support"]].tolist()
        keys = ("precision", "recall", "f1-score", "support")
        assert row == pytest.approx([expected[name][key] for key in keys], nan_ok=True)


def test_the_report_has_the_metrics_of_each_output_and_their_mean():
    rng = np.random.default_rng(0)
    y_true = (rng.random((80, 3)) < 0.4).astype(float)
    probability = np.clip(y_true * 0.3 + rng.random((80, 3)) * 0.7, 0, 1)
    y_true[:30, 1] = np.nan
    y_true[:, 2] = 0
    predicted = probability >= 0.5

    report = classification_report(Scores(CLASSES, y_true, probability, predicted))

    assert report["class"].tolist() == [*CLASSES, MACRO]
    assert report["support"].tolist() == [*np.nansum(y_true, axis=0), np.nansum(y_true)]
    measures = report.columns.drop(["class", "support"])
    assert list(measures) == ["precision", "sensitivity", "specificity", "f1", "auc", "average_precision"]
    for column in range(3):
        expected = binary_metrics(y_true[:, column], probability[:, column], predicted[:, column])
        row = report.loc[column, measures].to_dict()
        assert row == pytest.approx({name: expected[name] for name in measures}, nan_ok=True)
    single = classification_report(Scores(CLASSES[:1], y_true[:, :1], probability[:, :1], predicted[:, :1]))
    assert single["class"].tolist() == ["normal"]
    assert report.loc[3, measures].tolist() == pytest.approx(report.loc[:2, measures].mean().tolist())


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
