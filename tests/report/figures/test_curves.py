import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.evaluation.metrics import expected_calibration_error
from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.report.figures import curves

Y_TRUE = [0, 0, 0, 1, 1, 1, np.nan]
PROBABILITY = [0.1, 0.2, 0.7, 0.4, 0.8, 0.9, 0.5]
SEVERAL = Scores(
    ("Mass", "Nodule", "Hernia"),
    np.array([[1, 0, 0], [1, np.nan, 0], [0, 1, 0], [0, 0, 0]], dtype=float),
    np.array([[0.9, 0.1, 0.1], [0.4, 0.9, 0.1], [0.6, 0.8, 0.1], [0.1, 0.2, 0.1]]),
    np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]], dtype=bool),
)


@pytest.fixture
def drawn(drawn_by):
    return drawn_by(curves)


@pytest.fixture
def metrics_of(measured):
    def make(outputs, threshold=0.5):
        measures = measured(auc=(0.889, 0.851, 0.924), average_precision=(0.871, None, None))
        return {"thresholds": dict.fromkeys(outputs, threshold), "per_class": dict.fromkeys(outputs, measures)}

    return make


@pytest.fixture
def one(metrics_of):
    """Make the scores of one output, and the metrics with its threshold."""

    def make(y_true=Y_TRUE, probability=PROBABILITY, threshold=0.5):
        scores, true = np.array(probability)[:, None], np.array(y_true, dtype=float)[:, None]
        return Scores(("ill",), true, scores, scores >= threshold), metrics_of(("ill",), threshold)

    return make


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes if axes.axison]


def line_points(line):
    return list(zip(*line.get_data(), strict=True))


def operating_points(axes):
    return {line_points(line)[0] for line in axes.lines if line.get_marker() == "o"}


def test_roc_passes_the_points_counted_by_hand(drawn, one):
    curves.draw_curve("roc", *one())
    axes = drawn[0].axes[0]
    assert {(0, 0), (0, 2 / 3), (1 / 3, 2 / 3), (1 / 3, 1), (1, 1)} <= set(line_points(axes.lines[0]))
    assert operating_points(axes) == {(1 / 3, 2 / 3)}
    assert legend(axes) == ["AUC 0.889\n(0.851 to 0.924)", "chance", "threshold 0.500"]


@pytest.mark.parametrize(("threshold", "expected"), [(0.3, {(1, 3 / 4)}), (0.95, set())])
def test_precision_recall_has_an_operating_point_if_any_image_is_predicted_positive(drawn, one, threshold, expected):
    curves.draw_curve("precision_recall", *one(threshold=threshold))
    curve, chance, *_ = drawn[0].axes[0].lines
    assert operating_points(drawn[0].axes[0]) == expected
    assert (1, 3 / 4) in line_points(curve)
    assert chance.get_ydata()[0] == 0.5
    assert legend(drawn[0].axes[0])[0] == "average precision 0.871"


@pytest.mark.parametrize("name", curves.CURVES)
@pytest.mark.parametrize("label", [0, 1, np.nan])
def test_curves_need_both_classes(drawn, one, name, label):
    curves.draw_curve(name, *one([label] * 3, [0.1, 0.2, 0.3]))
    assert drawn == [curves.ONE_CLASS_ONLY]


def test_several_outputs_have_a_panel_each_if_they_have_both_classes(drawn, metrics_of):
    for name in ("roc", "precision_recall"):
        curves.draw_curve(name, SEVERAL, metrics_of(SEVERAL.outputs))
        assert titles(drawn[-1]) == ["Mass\nn = 2", "Nodule\nn = 1"]
    roc, precision = (figure.axes[:2] for figure in drawn)
    assert [operating_points(axes) for axes in roc] == [{(0.5, 0.5)}, {(0, 1)}]
    assert [operating_points(axes) for axes in precision] == [{(0.5, 0.5)}, {(1, 1)}]
    assert set(line_points(roc[0].lines[0])) == {(0, 0), (0, 0.5), (0.5, 0.5), (0.5, 1), (1, 1)}
    assert [axes.lines[1].get_ydata()[0] for axes in precision] == pytest.approx([0.5, 1 / 3])


@pytest.mark.parametrize(("n_classes", "n_panels"), [(2, 2), (5, 6), (15, 16)])
def test_panels_fill_a_grid(drawn, metrics_of, n_classes, n_panels):
    names = tuple(map(str, range(n_classes)))
    y_true = np.tile([[0.0], [1.0]], n_classes)
    curves.draw_curve("roc", Scores(names, y_true, y_true, y_true == 1), metrics_of(names))
    assert (len(drawn[0].axes), len(titles(drawn[0]))) == (n_panels, n_classes)


def test_reliability_draws_its_bins_on_axes_that_fit_a_rare_class(drawn, one, metrics_of):
    curves.draw_curve("reliability", *one([0, 1, np.nan], [0.2, 0.9, 0.5]))
    (axes,) = drawn[0].axes
    assert line_points(axes.lines[1]) == [(0.2, 0), (0.9, 1)]
    assert legend(axes) == ["perfect calibration", "test images, 2 bins of 1"]
    y_true, probability = np.zeros((20, 2)), np.full((20, 2), 0.02)
    y_true[0], probability[0] = 1, 0.04
    curves.draw_curve("reliability", Scores(("a", "b"), y_true, probability, probability > 1), metrics_of(("a", "b")))
    assert drawn[1].axes[0].get_xlim()[1] == pytest.approx(1.05)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 1, width=16), st.sampled_from([0.0, 1.0])), min_size=1, max_size=60))
def test_reliability_bins_hold_every_image_and_add_up_to_the_calibration_error(images):
    probability, y_true = np.array(images).T
    bins = curves.reliability_bins(y_true, probability)
    assert bins["n"].sum() == len(y_true)
    assert bins["probability"].is_monotonic_increasing
    assert ((bins["low"] <= bins["observed"] + 1e-9) & (bins["observed"] <= bins["high"] + 1e-9)).all()
    distance = (bins["n"] * (bins["observed"] - bins["probability"]).abs()).sum() / len(y_true)
    assert distance == pytest.approx(expected_calibration_error(y_true, probability), abs=1e-9)


def test_the_score_histogram_counts_each_class(drawn, one):
    curves.score_histogram(*one(), classes=("well", "ill"))
    upper, lower = drawn[0].axes
    assert (upper.get_title(loc="left"), lower.get_title(loc="left")) == ("ill (n = 3)", "well (n = 3)")
    assert [bar.get_x() for bar in upper.patches if bar.get_height()] == pytest.approx([0.4, 0.8, 0.9])
    assert [axes.lines[0].get_xdata()[0] for axes in (upper, lower)] == [0.5, 0.5]


def test_training_curves_mark_the_selected_epoch_and_the_phases(drawn):
    losses = {"loss": [0.6, 0.4, 0.3], "val_loss": [0.5, 0.45, 0.48], "val_auc": [0.7, 0.8, 0.9]}
    history = pd.DataFrame({"phase": ["frozen", "frozen", "fine_tuning"], "epoch": [1, 2, 3], **losses})
    curves.training_curves(history, kept=3)
    upper, lower = drawn[0].axes
    assert legend(lower) == ["selected: epoch 3"]
    assert [text.get_text() for text in upper.texts] == ["frozen", "fine tuning"]
    assert [line.get_ydata().tolist() for line in (*upper.lines[:2], lower.lines[0])] == list(losses.values())
    curves.training_curves(history.head(1), kept=1)
    curves.training_curves(history.assign(val_auc=np.nan), kept=2)
    assert [legend(figure.axes[1]) for figure in drawn[1:]] == [["selected: epoch 1"], ["selected: epoch 2"]]
