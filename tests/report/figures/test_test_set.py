from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.report.figures import test_set

CLASSES = ("nofinding", "effusion")
LABELS = ("Mass", "Nodule", "normal")
MEASURE = {"value": 0.889, "low": 0.851, "high": 0.924}
BINARY = ["roc", "precision_recall", "reliability", "score_histogram", "confusion"]
SEVERAL = ["class_auc", "class_roc", "class_precision_recall", "class_reliability"]


def scores_of(outputs, seed=0):
    rng = np.random.default_rng(seed)
    y_true = np.eye(len(outputs) + 1)[rng.integers(len(outputs) + 1, size=40)][:, : len(outputs)]
    if len(outputs) == len(LABELS):
        y_true = np.eye(3)[rng.integers(3, size=40)]
    probability = 0.3 * y_true + 0.7 * rng.random(y_true.shape)
    return Scores(tuple(outputs), y_true, probability, probability >= 0.5)


def draw(outputs, classes, *, exclusive, seed=0):
    measures = {"auc": MEASURE, "average_precision": MEASURE}
    return test_set.draw_scores(
        scores_of(outputs, seed),
        classes=classes,
        thresholds=dict.fromkeys(outputs, 0.5),
        metrics={"metrics": measures, "per_class": dict.fromkeys(outputs, measures)},
        exclusive=exclusive,
    )


@pytest.mark.parametrize(
    ("outputs", "classes", "exclusive", "names", "width"),
    [
        (("effusion",), CLASSES, False, BINARY, 768),
        (LABELS, LABELS, False, SEVERAL, 1152),
        (("Mass",), ("Mass",), False, SEVERAL, 1152),
        (LABELS, LABELS, True, [*SEVERAL, "confusion_matrix"], 1152),
    ],
)
def test_draw_scores_gives_pictures_whose_bytes_depend_on_the_data_alone(outputs, classes, exclusive, names, width):
    first, again, other = (draw(outputs, classes, exclusive=exclusive, seed=seed) for seed in (0, 0, 1))
    assert list(first) == names
    assert first == again
    for name, png in first.items():
        assert Image.open(BytesIO(png)).size[0] == width
        assert (other[name] == png) == (name == "class_auc")


def test_the_threshold_of_the_output_is_the_one_drawn():
    scores, metrics = scores_of(("effusion",)), {"metrics": {"auc": MEASURE, "average_precision": MEASURE}}
    one, other = (
        test_set.draw_scores(scores, classes=CLASSES, thresholds={"effusion": t}, metrics=metrics, exclusive=False)
        for t in (0.3, 0.7)
    )
    assert one["score_histogram"] != other["score_histogram"]


@pytest.mark.parametrize(
    ("outputs", "classes", "exclusive", "caption"),
    [
        (("effusion",), CLASSES, False, "nofinding called effusion, 0.600"),
        (LABELS, LABELS, False, "Mass called wrongly, 0.600"),
        (LABELS, LABELS, True, "Nodule called Mass, 0.600"),
    ],
)
def test_rank_mistakes_speaks_of_the_kind_of_task(outputs, classes, exclusive, caption):
    y_true, probability = np.array([[0.0, 1.0, 0.0]]), np.array([[0.6, 0.55, 0.1]])
    called = np.array([[True, False, False]]) if exclusive else probability >= 0.5
    n = len(outputs)
    scores = Scores(outputs, y_true[:, :n], probability[:, :n], called[:, :n])
    worst = test_set.rank_mistakes(scores, classes=classes, thresholds=dict.fromkeys(outputs, 0.5), exclusive=exclusive)
    assert worst["caption"].tolist() == [caption]
