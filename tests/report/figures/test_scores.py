from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.report.figures import scores
from cxr_pipeline.report.figures.scores import draw_scores, rank_mistakes
from cxr_pipeline.report.page import Page, Section, Verdict

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
    metrics |= {"thresholds": dict.fromkeys(outputs, 0.5), "support": {key: {"n_positive": 13} for key in outputs}}

    first, again = (draw_scores(scores, metrics, kind=kind, classes=classes) for _ in range(2))

    assert list(first) == names
    assert first == again
    page = Page(
        "Captions", Verdict("All."), [Section("figures", [{**first, "unknown_figure": first[names[0]]}])]
    ).html()
    assert page.count("<img ") == len(names) + 1
    assert [name for name in [*names, "unknown_figure"] if f"<b>{name}</b>" in page] == ["unknown_figure"]
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


def binary(y_true, probability, threshold):
    scores = np.array(probability)[:, None]
    return Scores(CLASSES[1:], np.array(y_true, dtype=float)[:, None], scores, scores >= threshold)


def exclusive(true, predicted):
    y_true = np.array([np.full(3, np.nan) if row is None else np.eye(3)[row] for row in true])
    return Scores(LABELS, y_true, np.full((len(true), 3), 1 / 3), np.eye(3, dtype=bool)[predicted])


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_images_are_counted_by_true_and_predicted_class(drawn):
    true, probability = [0, 0, 0, 1, 1, 1, np.nan], [0.1, 0.2, 0.7, 0.4, 0.8, 0.9, 0.5]
    scores.confusion_matrix(binary(true, probability, 0.15), CLASSES)
    scores.confusion_matrix(binary([1, 1], [0.2, 0.8], 0.5), CLASSES)
    scores.confusion_matrix(exclusive([0, 0, 0, 2, None], [0, 0, 1, 1, 2]), LABELS)
    two, one, several = map(texts, drawn)
    assert two == ["1\n33 %", "2\n67 %", "0\n0 %", "3\n100 %"]
    assert one == ["no images", "no images", "1\n50 %", "1\n50 %"]
    # Zeros are blank among several classes.
    assert several == ["2\n67 %", "1\n33 %", "", "no images", "no images", "no images", "", "1\n100 %", ""]
    assert [label.get_text() for label in drawn[2].axes[0].get_yticklabels()] == list(LABELS)
    scores.confusion_matrix(binary([np.nan], [0.5], 0.5), CLASSES)
    scores.confusion_matrix(exclusive([None], [0]), LABELS)
    assert drawn[3:] == [scores.NO_LABELS] * 2
