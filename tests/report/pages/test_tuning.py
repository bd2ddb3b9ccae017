import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from cxr_pipeline.framework.datasets.table import TableDataset
from cxr_pipeline.report.figures import tuning as tuning_figures
from cxr_pipeline.report.pages import tuning
from cxr_pipeline.report.pages.tuning import TuningContent, render_tuning

SPACE = {
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "model.head_units": {"low": 0, "high": 128, "step": 64},
    "training.fine_tuning.cut": {"choices": [None, "pool4_pool"]},
    "model.dropout": {"low": 0.0, "high": 0.5},
}
IMPORTANCE = {"model.dropout": 0.75, "training.learning_rate": 0.25}
CATALOG = yaml.safe_load((Path(__file__).parents[3] / "conf/base/catalog/07_tuning.yml").read_text())
TEXT_COLUMNS = CATALOG["{task}.tuning_trials"]["dataset"]["text_columns"]
HOSTILE = "<script>alert(1)</script>"


def trials() -> pd.DataFrame:
    rows = [
        (0, "complete", 0.7, 0.001, 64, None, 0.1, 5, 60.4, "a", None),
        (1, "failed", None, 0.01, 0, "pool4_pool", 0.2, 1, 9.0, None, HOSTILE),
        (2, "complete", 0.9, 0.0001, 128, "pool4_pool", 0.5, 5, 61.0, "b", None),
        (3, "pruned", 0.95, 0.002, 0, None, 0.0, 3, 30.0, "c", None),
        (4, "complete", 0.8, 0.0005, 0, None, 0.3, 5, 59.5, "d", None),
    ]
    columns = ["number", "state", "value", *SPACE, "epochs", "seconds", "run_id", "reason"]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture
def content() -> TuningContent:
    best = {"number": 2, "value": 0.9, "parameters": {
        "training.learning_rate": 0.0001, "model.head_units": 128, "training.fine_tuning.cut": "pool4_pool",
        "model.dropout": 0.5}}  # fmt: skip
    study = {"name": "effusion-1a2b", "monitor": "val_auc", "direction": "maximize", "n_trials": 4, "space": SPACE,
             "importance": IMPORTANCE, "data_digest": "d" * 64, "best": best}  # fmt: skip
    before = {"training.learning_rate": 0.002, "model.head_units": 0, "training.fine_tuning.cut": None}
    figures = tuning_figures.draw_tuning(trials(), SPACE, IMPORTANCE, monitor="val_auc", minimize=False)
    return TuningContent("effusion", "Pleural effusion", False, study, trials(), before, figures, {"kedro": "1.7"})


def test_history_shows_every_trial_and_the_best_so_far(drawn_by: Any) -> None:
    drawing = drawn_by(tuning_figures)
    tuning_figures.history(trials(), label="validation AUC", minimize=False)
    axes = drawing[0].axes[0]
    best, complete, pruned, failed = axes.lines
    assert [list(data) for data in best.get_data()] == [[0, 2, 4, 4], [0.7, 0.9, 0.9, 0.9]]
    assert [list(data) for data in complete.get_data()] == [[0, 2, 4], [0.7, 0.9, 0.8]]
    assert [list(data) for data in pruned.get_data()] == [[3], [0.95]]
    assert list(failed.get_xdata()) == [1, 1]
    labels = [text.get_text() for text in drawing[0].legends[0].get_texts()]
    assert labels == ["best so far", "complete (3)", "pruned (1)", "failed"]
    assert axes.get_ylabel() == "validation AUC"
    tuning_figures.history(trials(), label="validation loss", minimize=True)
    assert list(drawing[1].axes[0].lines[0].get_ydata()) == [0.7, 0.7, 0.7, 0.7]


def test_importance_is_drawn_the_largest_on_top(drawn_by: Any) -> None:
    drawing = drawn_by(tuning_figures)
    tuning_figures.importances(IMPORTANCE)
    axes = drawing[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["training.learning_rate", "model.dropout"]
    assert [bar.get_width() for bar in axes.patches] == [0.25, 0.75]


def test_slices_have_a_panel_for_each_parameter_with_the_best_ringed(drawn_by: Any) -> None:
    drawing = drawn_by(tuning_figures)
    tuning_figures.slices(trials(), SPACE, label="validation AUC", minimize=False)
    panels = drawing[0].axes
    assert [axes.get_xlabel() for axes in panels] == list(SPACE)
    assert [axes.get_xscale() for axes in panels] == ["log", "linear", "linear", "linear"]
    rate, _, cut, _ = panels
    assert rate.collections[0].get_offsets().tolist() == [[0.001, 0.7], [0.0001, 0.9], [0.0005, 0.8]]
    assert cut.collections[0].get_offsets().tolist() == [[0, 0.7], [1, 0.9], [0, 0.8]]
    assert [label.get_text() for label in cut.get_xticklabels()] == ["null", "pool4_pool"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for axes in (rate, cut) for line in axes.lines] == [
        (0.0001, 0.9), (1, 0.9)]  # fmt: skip
    tuning_figures.slices(trials(), SPACE, label="", minimize=True)
    assert drawing[1].axes[0].lines[0].get_ydata()[0] == 0.7


AXES: list[tuple[dict[str, Any], list[Any], list[str]]] = [
    ({"choices": [None, 4, 8]}, [None, 4, 8, 4], ["null", "4", "8", "4"]),
    ({"choices": [1000, 4, 2000]}, [1000, 4, 2000, 4], ["1000", "4", "2000", "4"]),
    ({"choices": [1.0, 0.1, 0.3]}, [1.0, 0.1, 0.3, 0.1], ["1", "0.1", "0.3", "0.1"]),
    ({"choices": [True, False, None]}, [True, False, None, False], ["true", "false", "null", "false"]),
    ({"choices": ["07", "8", "1e3"]}, ["07", "8", "1e3", "8"], ["07", "8", "1e3", "8"]),
    ({"choices": ["none", None, "1.0"]}, ["none", None, "1.0", None], ["none", "null", "1.0", "null"]),
    ({"low": 1000, "high": 3000}, [1000, 1001, 3000, 1001], ["1000", "1001", "3000", "1001"]),
]


@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize(("axis", "values", "listed"), AXES)
def test_values_are_shown_as_they_were_searched_whatever_the_table_makes_of_them(
    content: TuningContent, drawn_by: Any, tmp_path: Path, axis: dict[str, Any], values: list[Any],
    listed: list[str], gap: bool,
) -> None:  # fmt: skip
    space = {"training.patience": axis}
    table = pd.DataFrame({"number": range(4), "state": "complete", "value": [0.9, 0.8, 0.7, 0.6]})
    table = table.assign(**{"training.patience": pd.Series(values, dtype=object)}, epochs=3, seconds=1.0, run_id="a")
    if gap:
        table.loc[4] = {"number": 4, "state": "failed", "reason": "no memory"}
    dataset = TableDataset(filepath=str(tmp_path / "trials.csv"), text_columns=TEXT_COLUMNS)
    dataset.save(table)
    drawing = drawn_by(tuning_figures)
    tuning_figures.slices(dataset.load(), space, label="AUC", minimize=False)
    places = [place for place, _ in drawing[0].axes[0].collections[0].get_offsets().tolist()]
    assert places == ([0, 1, 2, 1] if "choices" in axis else values)
    told = replace(content, trials=dataset.load(), study={**content.study, "space": space})
    assert [row[3] for row in tuning.trial_rows(told).rows] == listed


def test_where_there_is_nothing_to_draw_the_figure_says_why(said_by: Any) -> None:
    said = said_by(tuning_figures)
    nothing = trials().iloc[[1, 3]]
    tuning_figures.draw_tuning(nothing, SPACE, {}, monitor="val_loss", minimize=True)
    assert [text.split(":")[0] for text in said] == ["No history", "No importance", "No values to draw"]


@pytest.mark.parametrize(
    ("monitor", "words"),
    [("val_auc", "validation AUC"), ("val_loss", "validation loss"), ("val_recall", "validation recall")],
)
def test_the_monitored_metric_is_named_in_words(monitor: str, words: str) -> None:
    assert tuning_figures.monitor_in_words(monitor) == words


@pytest.mark.parametrize(
    ("choice", "typed"), [(None, "null"), (math.nan, "null"), (True, "true"), (3, "3"), ("focal", "focal")]
)
def test_a_choice_is_shown_as_it_is_typed(choice: Any, typed: str) -> None:
    assert tuning_figures.shown(choice) == typed


def test_the_page_tells_what_was_found_and_that_it_flatters(content: TuningContent) -> None:
    page = render_tuning(content)
    for text in (
        "4 trials varied 4 parameters: 3 complete, 1 pruned because earlier ones did better and 1 failed",
        "The best was trial 2, with a validation AUC of 0.900.",
        "The value of the best trial is the best of 3 on the same validation images",
        "it flatters",
        "The test images were not looked at during the search.",
        "kedro run --config",
        "effusion-1a2b",
    ):
        assert text in page
    assert "PHANTOM" not in page
    assert page.count("data:image/png;base64,") == 3
    assert "http" not in page.replace("Content-Security-Policy", "").replace("http-equiv", "")
    assert render_tuning(replace(content, phantom=True)).count("PHANTOM IMAGES") == 2


def test_a_hostile_reason_is_shown_and_not_obeyed(content: TuningContent) -> None:
    page = render_tuning(content)
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page


def test_the_best_parameters_stand_beside_those_before(content: TuningContent) -> None:
    table = tuning.best_parameters(content)
    assert table.columns == ("parameter", "best", "before", "searched", "importance")
    assert table.rows == (
        ("training.learning_rate", "0.0001", "0.002", "0.0001 to 0.01, log", "0.250"),
        ("model.head_units", "128", "0", "0 to 128, step 64", ""),
        ("training.fine_tuning.cut", "pool4_pool", "null", "null, pool4_pool", ""),
        ("model.dropout", "0.5", "null", "0 to 0.5", "0.750"),
    )


def test_trials_are_listed_the_complete_ones_first_and_of_these_the_best(content: TuningContent) -> None:
    table = tuning.trial_rows(content)
    assert [row[0] for row in table.rows] == ["2", "4", "0", "3"]
    assert table.columns == ("trial", "state", "val_auc", *SPACE, "epochs", "seconds")
    assert table.rows[0] == ("2", "complete", "0.900", "0.0001", "128", "pool4_pool", "0.5", "5", "61")
    small = replace(content, study={**content.study, "direction": "minimize"})
    assert [row[0] for row in tuning.trial_rows(small).rows] == ["0", "4", "2", "3"]
    assert tuning.failures(content.trials).rows == (("1", HOSTILE),)
