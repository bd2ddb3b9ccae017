import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.report.figures import matrices

CLASSES = ("nofinding", "effusion")
Y_TRUE = np.array([0, 0, 0, 1, 1, 1, np.nan])
PROBABILITY = np.array([0.1, 0.2, 0.7, 0.4, 0.8, 0.9, 0.5])


@pytest.fixture
def drawing(drawn_by):
    return drawn_by(matrices)


@pytest.fixture
def said(said_by):
    return said_by(matrices)


def test_confusion_counts_by_true_class_and_decision(drawing):
    matrices.confusion(Y_TRUE, PROBABILITY, 0.15, classes=CLASSES)
    axes = drawing[0].axes[0]
    assert [text.get_text() for text in axes.texts] == ["1\n33.3 %", "2\n66.7 %", "0\n0.0 %", "3\n100.0 %"]
    assert [text.get_text() for text in axes.get_yticklabels()] == list(CLASSES)


def test_confusion_says_where_a_class_has_no_images(drawing):
    matrices.confusion([1, 1], [0.2, 0.8], 0.5, classes=CLASSES)
    texts = [text.get_text() for text in drawing[0].axes[0].texts]
    assert texts == ["no images", "no images", "1\n50.0 %", "1\n50.0 %"]


def exclusive(true, decided, names=("normal", "Mass", "Pleural_Thickening")):
    k = len(names)
    y_true = np.array([np.full(k, np.nan) if row is None else np.eye(k)[row] for row in true])
    return Scores(names, y_true, np.full((len(true), k), 1 / k), np.eye(k, dtype=bool)[decided])


def test_confusion_matrix_counts_by_true_class_and_decision_and_leaves_empty_cells_blank(drawing):
    matrices.confusion_matrix(exclusive([0, 0, 0, 2, None], [0, 0, 1, 1, 2]))
    axes = drawing[0].axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["2\n67 %", "1\n33 %", "", "no images", "no images", "no images", "", "1\n100 %", ""]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["normal", "Mass", "Pleural_Thickening"]


def test_confusion_says_that_there_are_no_images(said):
    matrices.confusion([np.nan], [0.5], 0.5, classes=CLASSES)
    matrices.confusion_matrix(exclusive([None], [0]))
    assert len(said) == 2


@pytest.mark.parametrize("named", [True, False])
def test_classification_report_writes_every_cell(drawing, named):
    table = pd.DataFrame({"precision": [0.5, np.nan], "average_precision": [0.25, 1.0], "support": [1200, 3]})
    if named:
        table.index = pd.Index(["Mass", "Nodule"])
    else:
        table.insert(0, "class", ["Mass", "Nodule"])
    matrices.classification_report(table)
    texts = [text.get_text() for text in drawing[0].axes[0].texts]
    assert texts == ["class", "precision", "average\nprecision", "support", "Mass", "0.500", "0.250", "1,200",
                     "Nodule", "", "1.000", "3"]  # fmt: skip


def test_classification_report_without_classes_has_words(said):
    matrices.classification_report(pd.DataFrame({"precision": []}))
    assert len(said) == 1
