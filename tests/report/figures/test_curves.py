import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.evaluation.metrics import SortedImages
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


def metrics_of(outputs, threshold=0.5):
    auc, average_precision = {"value": 0.889, "low": 0.851, "high": 0.924}, {"value": 0.871, "low": None, "high": None}
    measures = {"auc": auc, "average_precision": average_precision}
    return {"thresholds": dict.fromkeys(outputs, threshold), "per_class": dict.fromkeys(outputs, measures)}


def one(y_true=Y_TRUE, probability=PROBABILITY, threshold=0.5):
    """Return the scores of one output, and the metrics with its threshold."""
    scores, true = np.array(probability)[:, None], np.array(y_true, dtype=float)[:, None]
    return Scores(("ill",), true, scores, scores >= threshold), metrics_of(("ill",), threshold)


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def line_points(line):
    return list(zip(*line.get_data(), strict=True))


def operating_points(axes):
    return {line_points(line)[0] for line in axes.lines if line.get_marker() == "o"}


def test_curves_pass_the_points_counted_by_hand(drawn):
    curves.draw_curve("roc", *one())
    curves.draw_curve("precision_recall", *one(threshold=0.3))
    curves.draw_curve("precision_recall", *one(threshold=0.95))
    roc, precision, without_positive_predictions = (figure.axes[0] for figure in drawn)
    assert {(0, 0), (0, 2 / 3), (1 / 3, 2 / 3), (1 / 3, 1), (1, 1)} <= set(line_points(roc.lines[0]))
    assert operating_points(roc) == {(1 / 3, 2 / 3)}
    assert legend(roc) == ["AUC 0.889\n(0.851 to 0.924)", "chance", "threshold 0.500"]
    assert (1, 3 / 4) in line_points(precision.lines[0])
    assert operating_points(precision) == {(1, 3 / 4)}
    assert precision.lines[1].get_ydata()[0] == 0.5
    assert legend(precision)[0] == "average precision 0.871"
    assert operating_points(without_positive_predictions) == set()


@pytest.mark.parametrize("name", curves.CURVES)
@pytest.mark.parametrize("label", [0, 1, np.nan])
def test_curves_need_both_classes(drawn, name, label):
    curves.draw_curve(name, *one([label] * 3, [0.1, 0.2, 0.3]))
    assert drawn == [curves.ONE_CLASS_ONLY]


def test_several_outputs_have_a_panel_each_if_they_have_both_classes(drawn):
    for name in ("roc", "precision_recall"):
        curves.draw_curve(name, SEVERAL, metrics_of(SEVERAL.outputs))
        assert [axes.get_title(loc="left") for axes in drawn[-1].axes] == ["Mass\nn = 2", "Nodule\nn = 1"]
    many = tuple(map(str, range(15)))
    y_true = np.tile([[0.0], [1.0]], len(many))
    curves.draw_curve("roc", Scores(many, y_true, y_true, y_true == 1), metrics_of(many))
    assert len(drawn.pop().axes) == 15
    roc, precision = (figure.axes[:2] for figure in drawn)
    assert [operating_points(axes) for axes in roc] == [{(0.5, 0.5)}, {(0, 1)}]
    assert [operating_points(axes) for axes in precision] == [{(0.5, 0.5)}, {(1, 1)}]
    assert set(line_points(roc[0].lines[0])) == {(0, 0), (0, 0.5), (0.5, 0.5), (0.5, 1), (1, 1)}
    assert [axes.lines[1].get_ydata()[0] for axes in precision] == pytest.approx([0.5, 1 / 3])


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 1, width=16), st.sampled_from([0.0, 1.0])), min_size=1, max_size=60))
def test_reliability_bins_hold_every_image_and_add_up_to_the_calibration_error(images):
    probability, y_true = np.array(images).T
    bins = curves.reliability_bins(y_true, probability)
    assert bins["n"].sum() == len(y_true)
    assert bins["probability"].is_monotonic_increasing
    assert ((bins["low"] <= bins["observed"] + 1e-9) & (bins["observed"] <= bins["high"] + 1e-9)).all()
    distance = (bins["n"] * (bins["observed"] - bins["probability"]).abs()).sum() / len(y_true)
    (error,) = SortedImages(y_true, probability, probability >= 0.5).calibration_error(np.ones((1, len(y_true))))
    assert distance == pytest.approx(error, abs=1e-9)


def test_the_score_histogram_counts_each_class(drawn):
    curves.score_histogram(*one(), classes=("well", "ill"))
    upper, lower = drawn[0].axes
    assert (upper.get_title(loc="left"), lower.get_title(loc="left")) == ("ill (n = 3)", "well (n = 3)")
    assert [bar.get_x() for bar in upper.patches if bar.get_height()] == pytest.approx([0.4, 0.8, 0.9])
    assert [axes.lines[0].get_xdata()[0] for axes in (upper, lower)] == [0.5, 0.5]


def test_training_curves_mark_the_selected_epoch_and_the_phases(drawn):
    losses = {"loss": [0.6, 0.4, 0.3], "val_loss": [0.5, 0.45, 0.48], "val_auc": [0.7, 0.8, 0.9]}
    history = pd.DataFrame({"phase": ["frozen", "frozen", "fine_tuning"], "epoch": [1, 2, 3], "member": 1, **losses})
    curves.training_curves(history, selected=[3])
    upper, lower = drawn[0].axes
    assert legend(lower) == ["selected: epoch 3"]
    assert [text.get_text() for text in upper.texts] == ["frozen backbone", "fine-tuning"]
    assert [line.get_ydata().tolist() for line in (*upper.lines[:2], lower.lines[0])] == list(losses.values())
    curves.training_curves(history.head(1), selected=[1])
    curves.training_curves(history.assign(val_auc=np.nan), selected=[2])
    assert [legend(figure.axes[1]) for figure in drawn[1:]] == [["selected: epoch 1"], ["selected: epoch 2"]]


def test_each_network_of_an_ensemble_has_its_curve_and_its_epoch(drawn):
    values = {"phase": "training", "epoch": [1, 2, 1, 2], "member": [1, 1, 2, 2]}
    history = pd.DataFrame({**values, "loss": 0.5, "val_loss": 0.6, "val_auc": [0.7, 0.8, 0.9, 0.6]})
    curves.training_curves(history, selected=[2, 1])
    upper, lower = drawn[0].axes
    assert (legend(upper), legend(lower)) == (["training", "validation"], ["selected: epoch 1, 2"])
    assert [line.get_ydata().tolist() for line in lower.lines[:2]] == [[0.7, 0.8], [0.9, 0.6]]
    assert [line.get_xdata()[0] for line in lower.lines[2:]] == [1, 2]
