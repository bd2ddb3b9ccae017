import pytest

from cxr_pipeline.report.figures import tuning


@pytest.fixture
def drawn(drawn_by):
    return drawn_by(tuning)


def test_history_shows_every_trial_and_the_best_so_far(drawn, trials):
    tuning.history(trials, label="validation AUC", minimize=False)
    tuning.history(trials, label="validation loss", minimize=True)
    best, complete, pruned, failed = drawn[0].axes[0].lines
    assert [list(data) for data in best.get_data()] == [[0, 2, 4, 4], [0.7, 0.9, 0.9, 0.9]]
    assert [list(data) for data in complete.get_data()] == [[0, 2, 4], [0.7, 0.9, 0.8]]
    assert [list(data) for data in pruned.get_data()] == [[3], [0.95]]
    assert list(failed.get_xdata()) == [1, 1]
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert labels == ["best so far", "complete (3)", "pruned (1)", "failed"]
    assert list(drawn[1].axes[0].lines[0].get_ydata()) == [0.7, 0.7, 0.7, 0.7]


def test_the_largest_importance_is_on_top(drawn):
    tuning.importances({"model.dropout": 0.75, "training.learning_rate": 0.25})
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["training.learning_rate", "model.dropout"]
    assert [bar.get_width() for bar in axes.patches] == [0.25, 0.75]
    assert [text.get_text() for text in axes.texts] == ["0.25", "0.75"]


def test_slices_have_a_panel_for_each_parameter_with_the_best_circled(drawn, trials, space):
    tuning.slices(trials, space, label="validation AUC", minimize=False)
    tuning.slices(trials, space, label="", minimize=True)
    panels = drawn[0].axes
    assert [axes.get_xlabel() for axes in panels] == list(space)
    assert [axes.get_xscale() for axes in panels] == ["log", "linear", "linear", "linear"]
    rate, _, cut, _ = panels
    assert rate.collections[0].get_offsets().tolist() == [[0.001, 0.7], [0.0001, 0.9], [0.0005, 0.8]]
    assert cut.collections[0].get_offsets().tolist() == [[0, 0.7], [1, 0.9], [0, 0.8]]
    assert [label.get_text() for label in cut.get_xticklabels()] == ["null", "pool4_pool"]
    circled = [(axes.lines[0].get_xdata()[0], axes.lines[0].get_ydata()[0]) for axes in (rate, cut)]
    assert circled == [(0.0001, 0.9), (1, 0.9)]
    assert drawn[1].axes[0].lines[0].get_ydata()[0] == 0.7


def test_without_complete_trials_the_figures_say_why(drawn, trials, space):
    study = {"space": space, "importance": {}, "monitor": "val_loss", "direction": "minimize"}
    tuning.draw_tuning(trials.iloc[[1, 3]], study)
    assert [text.split(":")[0] for text in drawn] == ["No history", "No importance", "No values"]
