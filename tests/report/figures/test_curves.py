import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.report.figures import curves

CLASSES = ("nofinding", "effusion")
Y_TRUE = np.array([0, 0, 0, 1, 1, 1, np.nan])
PROBABILITY = np.array([0.1, 0.2, 0.7, 0.4, 0.8, 0.9, 0.5])
METRICS = {
    "auc": {"value": 0.889, "low": 0.851, "high": 0.924},
    "average_precision": {"value": 0.871, "low": None, "high": None},
}


@pytest.fixture
def drawing(drawn_by):
    return drawn_by(curves)


@pytest.fixture
def said(said_by):
    return said_by(curves)


def history(**columns: list[object]) -> pd.DataFrame:
    rows = {
        "phase": ["frozen", "frozen", "fine_tuning"],
        "epoch": [1, 2, 3],
        "loss": [0.6, 0.4, 0.3],
        "val_loss": [0.5, 0.45, 0.48],
        "val_auc": [0.7, 0.8, 0.9],
    }
    return pd.DataFrame({**rows, **columns})


def legend(axes: object) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_roc_goes_through_the_points_counted_by_hand(drawing):
    curves.roc(Y_TRUE, PROBABILITY, 0.5, auc=METRICS["auc"])
    curve, _guessing, point = drawing[0].axes[0].lines
    assert {(0, 0), (0, 2 / 3), (1 / 3, 2 / 3), (1 / 3, 1), (1, 1)} <= set(zip(*curve.get_data(), strict=True))
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (1 / 3, 2 / 3)
    assert legend(drawing[0].axes[0]) == ["AUC 0.889\n(0.851 to 0.924)", "guessing", "threshold 0.500"]


def test_a_image_on_the_threshold_counts_as_called(drawing):
    curves.roc([0, 1], [0.2, 0.5], 0.5, auc=METRICS["auc"])
    assert drawing[0].axes[0].lines[2].get_ydata()[0] == 1


def test_precision_recall_shows_precision_at_the_threshold_and_the_share_of_positives(drawing):
    curves.precision_recall(Y_TRUE, PROBABILITY, 0.3, average_precision=METRICS["average_precision"])
    curve, guessing, point = drawing[0].axes[0].lines
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (1, 3 / 4)
    assert (1, 3 / 4) in set(zip(*curve.get_data(), strict=True))
    assert guessing.get_ydata()[0] == 0.5
    assert legend(drawing[0].axes[0])[0] == "average precision 0.871"


def test_precision_recall_has_no_point_where_nothing_is_called_positive(drawing):
    curves.precision_recall(Y_TRUE, PROBABILITY, 0.95, average_precision=METRICS["average_precision"])
    assert len(drawing[0].axes[0].lines) == 2


@pytest.mark.parametrize("label", [0, 1])
def test_curves_say_that_they_need_both_classes(said, label):
    curves.roc([label] * 3, [0.1, 0.2, 0.3], 0.5, auc=METRICS["auc"])
    curves.precision_recall([label] * 3, [0.1, 0.2, 0.3], 0.5, average_precision=METRICS["average_precision"])
    assert len(said) == 2
    assert all("both classes" in text for text in said)


def test_score_histogram_counts_each_class_above_its_name(drawing):
    curves.score_histogram(Y_TRUE, PROBABILITY, 0.5, classes=CLASSES)
    upper, lower = drawing[0].axes
    assert upper.get_title(loc="left") == "effusion (n = 3)"
    assert lower.get_title(loc="left") == "nofinding (n = 3)"
    filled = [bar.get_x() for bar in upper.patches if bar.get_height()]
    assert filled == pytest.approx([0.4, 0.8, 0.9])
    assert [axes.lines[0].get_xdata()[0] for axes in (upper, lower)] == [0.5, 0.5]


@pytest.mark.parametrize("epoch", [2, 3])
def test_training_curves_mark_the_epoch_that_was_kept_and_the_phases(drawing, epoch):
    curves.training_curves(history(), kept=epoch)
    upper, lower = drawing[0].axes
    assert legend(lower) == [f"kept: epoch {epoch}"]
    assert [text.get_text() for text in upper.texts] == ["frozen", "fine tuning"]
    assert upper.lines[0].get_ydata().tolist() == [0.6, 0.4, 0.3]
    assert upper.lines[1].get_ydata().tolist() == [0.5, 0.45, 0.48]
    assert lower.lines[0].get_ydata().tolist() == [0.7, 0.8, 0.9]


def test_training_curves_of_one_epoch_and_of_an_auc_that_is_not_defined():
    one = curves.training_curves(history().head(1), kept=1)
    undefined = curves.training_curves(history(val_auc=[np.nan] * 3), kept=3)
    assert one != undefined
