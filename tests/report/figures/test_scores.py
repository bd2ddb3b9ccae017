from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.report.figures.scores import draw_scores, rank_mistakes

CLASSES = ("nofinding", "effusion")
LABELS = ("Mass", "Nodule", "normal")
SEVERAL = ["class_auc", "class_roc", "class_precision_recall", "class_reliability"]


@pytest.mark.parametrize(
    ("kind", "classes", "names", "width"),
    [
        ("binary", CLASSES, ["roc", "precision_recall", "reliability", "score_histogram", "confusion"], 768),
        ("multilabel", LABELS, SEVERAL, 1152),
        ("multiclass", LABELS, [*SEVERAL, "confusion_matrix"], 1152),
    ],
)
def test_the_figures_depend_on_the_kind_of_task_and_are_reproducible(measured, kind, classes, names, width):
    outputs = classes[1:] if kind == "binary" else classes
    y_true = np.eye(3)[np.arange(40) % 3][:, : len(outputs)]
    probability = 0.3 * y_true + 0.7 * np.random.default_rng(0).random(y_true.shape)
    scores = Scores(outputs, y_true, probability, probability >= 0.5)
    measures = measured(auc=(0.889, 0.851, 0.924), average_precision=(0.8, None, None))
    metrics = {"metrics": measures, "per_class": dict.fromkeys(outputs, measures)}
    metrics["thresholds"] = dict.fromkeys(outputs, 0.5)

    first, again = (draw_scores(scores, metrics, kind=kind, classes=classes) for _ in range(2))

    assert list(first) == names
    assert first == again
    assert {Image.open(BytesIO(png)).width for png in first.values()} == {width}


def mistakes(kind, y_true, probability, predicted=None, *, threshold=0.5, limit=9):
    """Rank the mistakes of a task with classes ``CLASSES`` or ``LABELS``; ``predicted`` are the predicted classes."""
    classes = CLASSES if kind == "binary" else LABELS
    outputs = classes[1:] if kind == "binary" else classes
    y_true, probability = (np.array(values, dtype=float).reshape(-1, len(outputs)) for values in (y_true, probability))
    decided = probability >= threshold if predicted is None else np.eye(len(outputs), dtype=bool)[predicted]
    thresholds = dict(zip(outputs, np.broadcast_to(threshold, len(outputs)), strict=True))
    scores = Scores(outputs, y_true, probability, decided)
    worst = rank_mistakes(scores, kind=kind, classes=classes, thresholds=thresholds, limit=limit)
    assert list(worst) == ["position", "caption"]
    return list(zip(worst["position"], worst["caption"], strict=True))


def test_binary_mistakes_are_ranked_by_the_distance_from_the_threshold():
    assert mistakes("binary", [1, 0, 1, 0, np.nan], [0.3, 0.9, 0.1, 0.2, 0.99]) == [
        (1, "nofinding predicted as effusion, 0.900"),
        (2, "effusion predicted as nofinding, 0.100"),
        (0, "effusion predicted as nofinding, 0.300"),
    ]
    # A low threshold does not hide false negatives.
    assert mistakes("binary", [1, 0], [0.001, 0.5], threshold=0.1, limit=1)[0][0] == 0


def test_the_worst_label_of_an_image_is_named_and_unknown_labels_are_ignored():
    y_true = [[1, 0, 0], [np.nan, 1, 0], [0, 0, 0], [1, 0, 0]]
    probability = [[0.3, 0.9, 0.1], [0.9, 0.1, 0.1], [0.1, 0.1, 0.1], [0.49, 0.1, 0.1]]
    assert mistakes("multilabel", y_true, probability) == [
        (0, "Nodule: false positive, 0.900"),
        (1, "Nodule: false negative, 0.100"),
        (3, "Mass: false negative, 0.490"),
    ]
    # Each label is compared with its own threshold.
    threshold = np.array([0.29, 0.9, 0.5])
    ranked = mistakes("multilabel", [0, 1, 0], [0.3, 0.3, 0.1], threshold=threshold, limit=1)
    assert ranked == [(0, "Nodule: false negative, 0.300")]


def test_exclusive_classes_are_ranked_by_the_lead_over_the_true_class():
    y_true = [[0, 1, 0], [0, 1, 0], [1, 0, 0], [np.nan] * 3]
    probability = [[0.55, 0.44, 0.01], [0.5, 0.1, 0.4], [0.9, 0.05, 0.05], [0.1, 0.2, 0.7]]
    assert mistakes("multiclass", y_true, probability, predicted=[0, 0, 0, 2]) == [
        (1, "Nodule predicted as Mass, 0.500"),
        (0, "Nodule predicted as Mass, 0.550"),
    ]
    # A decision rule may predict another class than the most probable one.
    assert mistakes("multiclass", [1, 0, 0], [0.5, 0.4, 0.1], predicted=[1]) == [(0, "Mass predicted as Nodule, 0.400")]


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0, np.nan]), st.floats(0, 1)), min_size=1, max_size=30),
    st.floats(0, 1),
    st.integers(0, 9),
)
def test_only_misclassified_images_are_ranked_and_as_many_as_there_are(images, threshold, limit):
    wrong = {place for place, (y, p) in enumerate(images) if not np.isnan(y) and (p >= threshold) != (y == 1)}
    ranked = mistakes("binary", [y for y, _ in images], [p for _, p in images], threshold=threshold, limit=limit)
    assert {position for position, _ in ranked} <= wrong
    assert len(ranked) == min(limit, len(wrong))
