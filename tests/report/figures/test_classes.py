import numpy as np
import pytest

from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.report.figures import classes

SCORES = Scores(
    ("Mass", "Nodule", "Hernia"),
    np.array([[1, 0, 0], [1, np.nan, 0], [0, 1, 0], [0, 0, 0]], dtype=float),
    np.array([[0.9, 0.1, 0.1], [0.4, 0.9, 0.1], [0.6, 0.8, 0.1], [0.1, 0.2, 0.1]]),
    np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]], dtype=bool),
)


@pytest.fixture
def drawing(drawn_by):
    return drawn_by(classes)


@pytest.fixture
def said(said_by):
    return said_by(classes)


def area(value, low=None, high=None):
    return {"auc": {"value": value, "low": low, "high": high}}


def document(**per_class):
    return {"metrics": area(0.7, 0.6, 0.8), "per_class": per_class, "support": {"Mass": {"n_positive": 1200}}}


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes if axes.axison]


def points(axes):
    return {(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "o"}


def test_class_auc_puts_the_mean_first_then_the_best_and_what_is_not_defined_last(drawing):
    classes.class_auc(document(Hernia=area(None), Nodule=area(0.6, 0.5, 0.7), Mass=area(0.9, 0.8, 1.0)))
    axes = drawing[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "mean of 3",
        "Mass (n = 1,200)",
        "Nodule",
        "Hernia",
    ]
    assert [text.get_text() for text in axes.texts] == [
        "0.70 (0.60 to 0.80)",
        "0.90 (0.80 to 1.00)",
        "0.60 (0.50 to 0.70)",
        "not defined",
    ]
    assert axes.lines[2].get_xdata().tolist() == [0.8, 1.0]
    assert (0.9, 1) in points(axes)


def test_class_auc_without_an_interval_gives_the_value_alone(drawing):
    classes.class_auc(document(Nodule=area(0.6), Mass=area(0.9)))
    assert [text.get_text() for text in drawing[0].axes[0].texts][1:] == ["0.90", "0.60"]


def test_only_classes_with_both_kinds_of_image_have_a_panel(drawing):
    classes.class_roc(SCORES)
    assert titles(drawing[0]) == ["Mass\nn = 2", "Nodule\nn = 1"]


def test_class_roc_marks_the_decisions_of_images_whose_label_is_known(drawing):
    classes.class_roc(SCORES)
    mass, nodule = drawing[0].axes[:2]
    assert points(mass) == {(0.5, 0.5)}
    assert points(nodule) == {(0, 1)}
    curve = set(zip(*mass.lines[1].get_data(), strict=True))
    assert {(0, 0), (0, 0.5), (0.5, 0.5), (0.5, 1), (1, 1)} == curve


def test_class_precision_recall_marks_precision_and_the_share_of_the_class(drawing):
    classes.class_precision_recall(SCORES)
    mass, nodule = drawing[0].axes[:2]
    assert points(mass) == {(0.5, 0.5)}
    assert points(nodule) == {(1, 1)}
    assert mass.lines[0].get_ydata()[0] == 0.5
    assert nodule.lines[0].get_ydata()[0] == pytest.approx(1 / 3)


def test_class_precision_recall_has_no_point_where_nothing_is_called(drawing):
    nothing = Scores(SCORES.outputs, SCORES.y_true, SCORES.probability, np.zeros((4, 3), dtype=bool))
    classes.class_precision_recall(nothing)
    assert points(drawing[0].axes[0]) == set()


def test_class_reliability_fits_its_axes_to_the_class(drawing):
    y_true, probability = np.zeros((20, 1)), np.full((20, 1), 0.02)
    y_true[0], probability[0] = 1, 0.04
    classes.class_reliability(Scores(("Hernia",), y_true, probability, probability > 1))
    axes = drawing[0].axes[0]
    assert axes.get_xlim()[1] == pytest.approx(1.05)
    classes.class_reliability(SCORES)
    assert points(drawing[1].axes[0])


@pytest.mark.parametrize("draw", [classes.class_roc, classes.class_precision_recall, classes.class_reliability])
def test_without_images_of_both_kinds_there_are_words(said, draw):
    draw(Scores(("Mass",), np.array([[0.0], [np.nan]]), np.array([[0.1], [0.9]]), np.array([[False], [True]])))
    assert said == ["Nothing to draw: no class has test images of it and test images of another."]


@pytest.mark.parametrize(("n_classes", "n_panels"), [(1, 1), (2, 2), (4, 4), (5, 6), (15, 16)])
def test_panels_fill_a_grid(drawing, n_classes, n_panels):
    y_true = np.tile([[0.0], [1.0]], n_classes)
    classes.class_roc(Scores(tuple(map(str, range(n_classes))), y_true, y_true, y_true == 1))
    assert len(drawing[0].axes) == n_panels
    assert len(titles(drawing[0])) == n_classes
