import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxr_pipeline.evaluation.metrics import expected_calibration_error
from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.report.figures import curves

AUC = {"value": 0.889, "low": 0.851, "high": 0.924}
AVERAGE_PRECISION = {"value": 0.871, "low": None, "high": None}
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


def one(y_true=Y_TRUE, probability=PROBABILITY, threshold=0.5):
    """Return the scores of one output, and the metrics with its threshold."""
    scores = np.array(probability)[:, None]
    return Scores(("ill",), np.array(y_true, dtype=float)[:, None], scores, scores >= threshold), metrics_of(
        ("ill",), threshold
    )


def metrics_of(outputs, threshold=0.5):
    measures = {"auc": AUC, "average_precision": AVERAGE_PRECISION}
    return {"thresholds": dict.fromkeys(outputs, threshold), "per_class": dict.fromkeys(outputs, measures)}


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes if axes.axison]


def points(axes):
    return {(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "o"}


def test_roc_goes_through_the_points_counted_by_hand(drawn):
    curves.draw_curve("roc", *one())
    curve = drawn[0].axes[0].lines[0]
    assert {(0, 0), (0, 2 / 3), (1 / 3, 2 / 3), (1 / 3, 1), (1, 1)} <= set(zip(*curve.get_data(), strict=True))
    assert points(drawn[0].axes[0]) == {(1 / 3, 2 / 3)}
    assert legend(drawn[0].axes[0]) == ["AUC 0.889\n(0.851 to 0.924)", "chance", "threshold 0.500"]


def test_an_image_on_the_threshold_is_predicted_positive(drawn):
    curves.draw_curve("roc", *one([0, 1], [0.2, 0.5]))
    assert points(drawn[0].axes[0]) == {(0, 1)}


def test_precision_recall_shows_the_operating_point_and_chance(drawn):
    curves.draw_curve("precision_recall", *one(threshold=0.3))
    curve, chance, _ = drawn[0].axes[0].lines
    assert points(drawn[0].axes[0]) == {(1, 3 / 4)}
    assert (1, 3 / 4) in set(zip(*curve.get_data(), strict=True))
    assert chance.get_ydata()[0] == 0.5
    assert legend(drawn[0].axes[0])[0] == "average precision 0.871"


def test_precision_recall_has_no_operating_point_without_positive_predictions(drawn):
    curves.draw_curve("precision_recall", *one(threshold=0.95))
    assert points(drawn[0].axes[0]) == set()


@pytest.mark.parametrize("name", curves.CURVES)
@pytest.mark.parametrize("label", [0, 1, np.nan])
def test_curves_need_both_classes(messages_of, name, label):
    messages = messages_of(curves)
    curves.draw_curve(name, *one([label] * 3, [0.1, 0.2, 0.3]))
    assert messages == [curves.ONE_CLASS_ONLY]


def test_several_outputs_have_a_panel_each_if_they_have_both_classes(drawn):
    metrics = metrics_of(SEVERAL.outputs)
    for name in ("roc", "precision_recall"):
        curves.draw_curve(name, SEVERAL, metrics)
        assert titles(drawn[-1]) == ["Mass\nn = 2", "Nodule\nn = 1"]
    roc, precision = (figure.axes[:2] for figure in drawn)
    assert [points(axes) for axes in roc] == [{(0.5, 0.5)}, {(0, 1)}]
    assert [points(axes) for axes in precision] == [{(0.5, 0.5)}, {(1, 1)}]
    curve = set(zip(*roc[0].lines[0].get_data(), strict=True))
    assert {(0, 0), (0, 0.5), (0.5, 0.5), (0.5, 1), (1, 1)} == curve
    assert [axes.lines[1].get_ydata()[0] for axes in precision] == pytest.approx([0.5, 1 / 3])


@pytest.mark.parametrize(("n_classes", "n_panels"), [(2, 2), (4, 4), (5, 6), (15, 16)])
def test_panels_fill_a_grid(drawn, n_classes, n_panels):
    names = tuple(map(str, range(n_classes)))
    y_true = np.tile([[0.0], [1.0]], n_classes)
    curves.draw_curve("roc", Scores(names, y_true, y_true, y_true == 1), metrics_of(names))
    assert len(drawn[0].axes) == n_panels
    assert len(titles(drawn[0])) == n_classes


def test_reliability_draws_its_bins(drawn):
    curves.draw_curve("reliability", *one([0, 1, np.nan], [0.2, 0.9, 0.5]))
    (axes,) = drawn[0].axes
    assert list(zip(*axes.lines[1].get_data(), strict=True)) == [(0.2, 0), (0.9, 1)]
    assert legend(axes) == ["perfect calibration", "test images, 2 bins of 1"]


def test_the_reliability_of_several_outputs_fits_its_axes_to_the_class(drawn):
    y_true, probability = np.zeros((20, 2)), np.full((20, 2), 0.02)
    y_true[0], probability[0] = 1, 0.04
    names = ("Hernia", "Mass")
    curves.draw_curve("reliability", Scores(names, y_true, probability, probability > 1), metrics_of(names))
    assert drawn[0].axes[0].get_xlim()[1] == pytest.approx(1.05)
    assert titles(drawn[0]) == ["Hernia\nn = 1", "Mass\nn = 1"]


@settings(deadline=None)
@given(
    arrays(float, st.integers(1, 60), elements=st.floats(0, 1, width=16)).flatmap(
        lambda probability: st.tuples(
            st.just(probability), arrays(bool, len(probability), elements=st.booleans()).map(lambda y: y.astype(float))
        )
    )
)
def test_reliability_bins_hold_every_image_and_add_up_to_the_calibration_error(images):
    probability, y_true = images
    bins = curves.reliability_bins(y_true, probability)
    assert bins["n"].sum() == len(y_true)
    assert bins["probability"].is_monotonic_increasing
    assert (bins["low"] <= bins["observed"] + 1e-9).all()
    assert (bins["observed"] <= bins["high"] + 1e-9).all()
    distance = (bins["n"] * (bins["observed"] - bins["probability"]).abs()).sum() / len(y_true)
    assert distance == pytest.approx(expected_calibration_error(y_true, probability), abs=1e-9)


def test_score_histogram_counts_each_class_above_its_name(drawn):
    curves.score_histogram(*one(), classes=("well", "ill"))
    upper, lower = drawn[0].axes
    assert (upper.get_title(loc="left"), lower.get_title(loc="left")) == ("ill (n = 3)", "well (n = 3)")
    assert [bar.get_x() for bar in upper.patches if bar.get_height()] == pytest.approx([0.4, 0.8, 0.9])
    assert [axes.lines[0].get_xdata()[0] for axes in (upper, lower)] == [0.5, 0.5]


def history(**columns):
    rows = {
        "phase": ["frozen", "frozen", "fine_tuning"],
        "epoch": [1, 2, 3],
        "loss": [0.6, 0.4, 0.3],
        "val_loss": [0.5, 0.45, 0.48],
        "val_auc": [0.7, 0.8, 0.9],
    }
    return pd.DataFrame({**rows, **columns})


@pytest.mark.parametrize("epoch", [2, 3])
def test_training_curves_mark_the_selected_epoch_and_the_phases(drawn, epoch):
    curves.training_curves(history(), kept=epoch)
    upper, lower = drawn[0].axes
    assert legend(lower) == [f"selected: epoch {epoch}"]
    assert [text.get_text() for text in upper.texts] == ["frozen", "fine tuning"]
    assert upper.lines[0].get_ydata().tolist() == [0.6, 0.4, 0.3]
    assert upper.lines[1].get_ydata().tolist() == [0.5, 0.45, 0.48]
    assert lower.lines[0].get_ydata().tolist() == [0.7, 0.8, 0.9]


def test_one_epoch_or_an_undefined_auc_can_be_drawn():
    one_epoch = curves.training_curves(history().head(1), kept=1)
    assert one_epoch != curves.training_curves(history(val_auc=[np.nan] * 3), kept=3)
