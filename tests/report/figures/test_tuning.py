from typing import Any

import pandas as pd
import pytest

from cxr_pipeline.report.figures import tuning

SPACE = {
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "model.head_units": {"low": 0, "high": 128, "step": 64},
    "training.fine_tuning.cut": {"choices": [None, "pool4_pool"]},
    "model.dropout": {"low": 0.0, "high": 0.5},
}
IMPORTANCE = {"model.dropout": 0.75, "training.learning_rate": 0.25}


@pytest.fixture
def drawn(drawn_by: Any) -> Any:
    return drawn_by(tuning)


def trials() -> pd.DataFrame:
    rows = [
        (0, "complete", 0.7, 0.001, 64, None, 0.1),
        (1, "failed", None, 0.01, 0, "pool4_pool", 0.2),
        (2, "complete", 0.9, 0.0001, 128, "pool4_pool", 0.5),
        (3, "pruned", 0.95, 0.002, 0, None, 0.0),
        (4, "complete", 0.8, 0.0005, 0, None, 0.3),
    ]
    return pd.DataFrame(rows, columns=["number", "state", "value", *SPACE])


def test_history_shows_every_trial_and_the_best_so_far(drawn: Any) -> None:
    tuning.history(trials(), label="validation AUC", minimize=False)
    axes = drawn[0].axes[0]
    best, complete, pruned, failed = axes.lines
    assert [list(data) for data in best.get_data()] == [[0, 2, 4, 4], [0.7, 0.9, 0.9, 0.9]]
    assert [list(data) for data in complete.get_data()] == [[0, 2, 4], [0.7, 0.9, 0.8]]
    assert [list(data) for data in pruned.get_data()] == [[3], [0.95]]
    assert list(failed.get_xdata()) == [1, 1]
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert labels == ["best so far", "complete (3)", "pruned (1)", "failed"]
    tuning.history(trials(), label="validation loss", minimize=True)
    assert list(drawn[1].axes[0].lines[0].get_ydata()) == [0.7, 0.7, 0.7, 0.7]


def test_importance_is_drawn_the_largest_on_top(drawn: Any) -> None:
    tuning.importances(IMPORTANCE)
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["training.learning_rate", "model.dropout"]
    assert [bar.get_width() for bar in axes.patches] == [0.25, 0.75]
    assert [text.get_text() for text in axes.texts] == ["0.25", "0.75"]


def test_slices_have_a_panel_for_each_parameter_with_the_best_circled(drawn: Any) -> None:
    tuning.slices(trials(), SPACE, label="validation AUC", minimize=False)
    panels = drawn[0].axes
    assert [axes.get_xlabel() for axes in panels] == list(SPACE)
    assert [axes.get_xscale() for axes in panels] == ["log", "linear", "linear", "linear"]
    rate, _, cut, _ = panels
    assert rate.collections[0].get_offsets().tolist() == [[0.001, 0.7], [0.0001, 0.9], [0.0005, 0.8]]
    assert cut.collections[0].get_offsets().tolist() == [[0, 0.7], [1, 0.9], [0, 0.8]]
    assert [label.get_text() for label in cut.get_xticklabels()] == ["null", "pool4_pool"]
    assert [(axes.lines[0].get_xdata()[0], axes.lines[0].get_ydata()[0]) for axes in (rate, cut)] == [
        (0.0001, 0.9), (1, 0.9)]  # fmt: skip
    tuning.slices(trials(), SPACE, label="", minimize=True)
    assert drawn[1].axes[0].lines[0].get_ydata()[0] == 0.7


def test_without_complete_trials_the_figures_say_why(messages_of: Any) -> None:
    messages = messages_of(tuning)
    tuning.draw_tuning(trials().iloc[[1, 3]], SPACE, {}, monitor="val_loss", minimize=True)
    assert [text.split(":")[0] for text in messages] == ["No history", "No importance", "No values"]


@pytest.mark.parametrize(("monitor", "words"), [("val_auc", "validation AUC"), ("val_recall", "validation recall")])
def test_the_monitored_metric_is_named_in_words(monitor: str, words: str) -> None:
    assert tuning.monitor_in_words(monitor) == words
