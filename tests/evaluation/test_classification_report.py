import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import classification_report as by_scikit_learn
from sklearn.metrics import confusion_matrix

from cxr_pipeline.evaluation.classification_report import MACRO, classification_report, confusion_table
from cxr_pipeline.evaluation.metrics import binary_metrics

CLASSES = ("normal", "pneumonia", "No Finding")


def one_hot(numbers):
    return np.eye(3)[numbers]


@st.composite
def exclusive_images(draw):
    n_images = draw(st.integers(1, 30))
    column = lambda: draw(st.lists(st.integers(0, 2), min_size=n_images, max_size=n_images))  # noqa: E731
    return column(), column()


@given(exclusive_images())
def test_confusion_is_that_of_scikit_learn(images):
    true, decided = images

    table = confusion_table(one_hot(true), one_hot(decided) == 1, CLASSES, exclusive=True)

    assert table["class"].tolist() == list(table.columns[1:]) == list(CLASSES)
    np.testing.assert_array_equal(table[list(CLASSES)], confusion_matrix(true, decided, labels=[0, 1, 2]))


@given(exclusive_images())
def test_report_is_that_of_scikit_learn(images):
    true, decided = images
    expected = by_scikit_learn(
        true, decided, labels=[0, 1, 2], target_names=CLASSES, output_dict=True, zero_division=np.nan
    )

    report = classification_report(one_hot(true), one_hot(decided) == 1, one_hot(decided), CLASSES).set_index("class")

    for name in CLASSES:
        row = report.loc[name]
        assert row["support"] == expected[name]["support"]
        found = row[["precision", "sensitivity", "f1"]].tolist()
        assert found == pytest.approx([expected[name][key] for key in ("precision", "recall", "f1-score")], nan_ok=True)


def test_report_has_the_metrics_of_each_output_and_their_mean():
    rng = np.random.default_rng(0)
    y_true = (rng.random((80, 3)) < 0.4).astype(float)
    probability = np.clip(y_true * 0.3 + rng.random((80, 3)) * 0.7, 0, 1)
    y_true[:30, 1] = np.nan
    y_true[:, 2] = 0
    predicted = probability >= 0.5

    report = classification_report(y_true, predicted, probability, CLASSES)

    assert list(report["class"]) == [*CLASSES, MACRO]
    assert pd.api.types.is_integer_dtype(report["support"])
    assert report["support"].tolist() == [*np.nansum(y_true, axis=0), np.nansum(y_true)]
    measures = report.columns.drop(["class", "support"])
    assert list(measures) == ["precision", "sensitivity", "specificity", "f1", "auc", "average_precision"]
    for place in range(3):
        expected = binary_metrics(y_true[:, place], probability[:, place], predicted[:, place])
        assert report.loc[place, measures].to_dict() == pytest.approx(
            {name: expected[name] for name in measures}, nan_ok=True
        )
    assert report.loc[3, "auc"] == pytest.approx(report.loc[:1, "auc"].mean())
    assert report.loc[3, "specificity"] == pytest.approx(report.loc[:2, "specificity"].mean())


def test_one_output_needs_no_mean():
    report = classification_report([[0], [1]], [[False], [True]], [[0.1], [0.9]], ["effusion"])

    assert report["class"].tolist() == ["effusion"]
    assert report.loc[0, ["sensitivity", "specificity", "auc", "support"]].tolist() == [1, 1, 1, 1]


def test_outputs_that_are_not_exclusive_have_a_table_each():
    y_true = np.array([[1, 0], [1, 1], [0, np.nan], [0, 0], [np.nan, np.nan]])
    predicted = np.array([[True, False], [False, True], [True, True], [False, True], [False, False]])

    table = confusion_table(y_true, predicted, ["a", "b"], exclusive=False)

    assert table.to_dict("list") == {
        "class": ["a", "b"],
        "true_negative": [1, 1],
        "false_positive": [1, 1],
        "false_negative": [1, 0],
        "true_positive": [1, 1],
    }
