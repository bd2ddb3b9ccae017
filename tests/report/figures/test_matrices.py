import numpy as np
import pytest

from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.report.figures import matrices

NAMES = ("normal", "Mass", "Pleural_Thickening")


@pytest.fixture
def drawn(drawn_by):
    return drawn_by(matrices)


def binary(y_true, probability, threshold):
    scores = np.array(probability)[:, None]
    return Scores(("effusion",), np.array(y_true, dtype=float)[:, None], scores, scores >= threshold)


def exclusive(true, predicted):
    y_true = np.array([np.full(3, np.nan) if row is None else np.eye(3)[row] for row in true])
    return Scores(NAMES, y_true, np.full((len(true), 3), 1 / 3), np.eye(3, dtype=bool)[predicted])


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_images_are_counted_by_true_and_predicted_class(drawn):
    true, probability = [0, 0, 0, 1, 1, 1, np.nan], [0.1, 0.2, 0.7, 0.4, 0.8, 0.9, 0.5]
    matrices.confusion_matrix(binary(true, probability, 0.15), ("nofinding", "effusion"))
    matrices.confusion_matrix(binary([1, 1], [0.2, 0.8], 0.5), ("nofinding", "effusion"))
    matrices.confusion_matrix(exclusive([0, 0, 0, 2, None], [0, 0, 1, 1, 2]), NAMES)
    two, one, several = map(texts, drawn)
    assert two == ["1\n33 %", "2\n67 %", "0\n0 %", "3\n100 %"]
    assert one == ["no images", "no images", "1\n50 %", "1\n50 %"]
    # Zeros are blank among several classes.
    assert several == ["2\n67 %", "1\n33 %", "", "no images", "no images", "no images", "", "1\n100 %", ""]
    assert [label.get_text() for label in drawn[2].axes[0].get_yticklabels()] == list(NAMES)


def test_without_known_labels_the_figures_say_so(drawn):
    matrices.confusion_matrix(binary([np.nan], [0.5], 0.5), ("nofinding", "effusion"))
    matrices.confusion_matrix(exclusive([None], [0]), NAMES)
    assert drawn == [matrices.NO_LABELS] * 2
