from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.report.figures.test_set import draw_scores, rank_mistakes

CLASSES = ("nofinding", "effusion")
LABELS = ("Mass", "Nodule", "normal")
MEASURE = {"value": 0.889, "low": 0.851, "high": 0.924}
SEVERAL = ["class_auc", "class_roc", "class_precision_recall", "class_reliability"]


def scores_of(outputs, seed=0):
    rng = np.random.default_rng(seed)
    y_true = np.eye(3)[rng.integers(3, size=40)][:, : len(outputs)]
    probability = 0.3 * y_true + 0.7 * rng.random(y_true.shape)
    return Scores(tuple(outputs), y_true, probability, probability >= 0.5)


@pytest.mark.parametrize(
    ("kind", "outputs", "classes", "names", "width"),
    [
        ("binary", ("effusion",), CLASSES,
         ["roc", "precision_recall", "reliability", "score_histogram", "confusion"], 768),
        ("multilabel", LABELS, LABELS, SEVERAL, 1152),
        ("multiclass", LABELS, LABELS, [*SEVERAL, "confusion_matrix"], 1152),
    ],
)  # fmt: skip
def test_the_figures_depend_on_the_kind_of_task_and_the_data_alone(kind, outputs, classes, names, width):
    measures = {"auc": MEASURE, "average_precision": MEASURE}
    metrics = {"metrics": measures, "per_class": dict.fromkeys(outputs, measures)}
    metrics["thresholds"] = dict.fromkeys(outputs, 0.5)
    first, again, other = (
        draw_scores(scores_of(outputs, seed), metrics, kind=kind, classes=classes) for seed in (0, 0, 1)
    )
    assert list(first) == names
    assert first == again
    for name, png in first.items():
        assert Image.open(BytesIO(png)).size[0] == width
        assert (other[name] == png) == (name == "class_auc")


def mistakes(kind, y_true, probability, predicted=None, *, threshold=0.5, limit=9):
    """Rank the mistakes of a task with classes ``CLASSES`` or ``LABELS``; ``predicted`` are the predicted classes."""
    classes = CLASSES if kind == "binary" else LABELS
    outputs = classes[1:] if kind == "binary" else classes
    y_true, probability = (np.array(values, dtype=float).reshape(-1, len(outputs)) for values in (y_true, probability))
    decided = probability >= threshold if predicted is None else np.eye(len(outputs), dtype=bool)[predicted]
    thresholds = dict(zip(outputs, np.broadcast_to(threshold, len(outputs)), strict=True))
    worst = rank_mistakes(
        Scores(outputs, y_true, probability, decided), kind=kind, classes=classes, thresholds=thresholds, limit=limit
    )
    assert list(worst) == ["position", "caption"]
    return list(zip(worst["position"], worst["caption"], strict=True))


def test_binary_mistakes_are_ranked_by_the_distance_from_the_threshold():
    assert mistakes("binary", [1, 0, 1, 0, np.nan], [0.3, 0.9, 0.1, 0.2, 0.99]) == [
        (1, "nofinding predicted as effusion, 0.900"),
        (2, "effusion predicted as nofinding, 0.100"),
        (0, "effusion predicted as nofinding, 0.300"),
    ]
    assert mistakes("binary", [0], [0.1]) == []


def test_a_low_threshold_does_not_hide_false_negatives():
    assert mistakes("binary", [1, 0], [0.001, 0.5], threshold=0.1, limit=1)[0][0] == 0


def test_the_worst_label_of_an_image_is_named_and_unknown_labels_are_ignored():
    y_true = [[1, 0, 0], [np.nan, 1, 0], [0, 0, 0], [1, 0, 0]]
    probability = [[0.3, 0.9, 0.1], [0.9, 0.1, 0.1], [0.1, 0.1, 0.1], [0.49, 0.1, 0.1]]
    assert mistakes("multilabel", y_true, probability) == [
        (0, "Nodule: false positive, 0.900"),
        (1, "Nodule: false negative, 0.100"),
        (3, "Mass: false negative, 0.490"),
    ]


def test_each_label_is_compared_with_its_own_threshold():
    threshold = np.array([0.29, 0.9, 0.5])
    assert mistakes("multilabel", [0, 1, 0], [0.3, 0.3, 0.1], threshold=threshold, limit=1) == [
        (0, "Nodule: false negative, 0.300")
    ]


def test_exclusive_classes_are_ranked_by_the_lead_over_the_true_class():
    y_true = [[0, 1, 0], [0, 1, 0], [1, 0, 0], [np.nan] * 3]
    probability = [[0.55, 0.44, 0.01], [0.5, 0.1, 0.4], [0.9, 0.05, 0.05], [0.1, 0.2, 0.7]]
    assert mistakes("multiclass", y_true, probability, predicted=[0, 0, 0, 2]) == [
        (1, "Nodule predicted as Mass, 0.500"),
        (0, "Nodule predicted as Mass, 0.550"),
    ]
    # A decision rule may predict another class than the most probable one.
    assert mistakes("multiclass", [1, 0, 0], [0.5, 0.4, 0.1], predicted=[1]) == [(0, "Mass predicted as Nodule, 0.400")]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0, np.nan]), st.floats(0, 1)), min_size=1, max_size=30),
    st.floats(0, 1),
    st.integers(0, 9),
)
def test_only_misclassified_images_are_ranked_and_as_many_as_there_are(images, threshold, limit):
    wrong = {place for place, (y, p) in enumerate(images) if not np.isnan(y) and (p >= threshold) != (y == 1)}
    found = mistakes("binary", [y for y, _ in images], [p for _, p in images], threshold=threshold, limit=limit)
    assert {position for position, _ in found} <= wrong
    assert len(found) == min(limit, len(wrong))
