from pathlib import Path

import pandas as pd
import pytest
import yaml

from cxr_pipeline.framework.datasets import TableDataset
from cxr_pipeline.report.pages import tuning

CATALOG = yaml.safe_load((Path(__file__).parents[3] / "conf/base/catalog/07_tuning.yml").read_text())
TEXT_COLUMNS = CATALOG["{task}.tuning_trials"]["text_columns"]
BEFORE = {"training.learning_rate": 0.002, "model.head_units": 0, "training.fine_tuning.cut": None}
SPACE = {
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "model.head_units": {"low": 0, "high": 128, "step": 64},
    "training.fine_tuning.cut": {"choices": [None, "pool4_pool"]},
    "model.dropout": {"low": 0.0, "high": 0.5},
}
BEST = dict(zip(SPACE, (0.0001, 128, "pool4_pool", 0.5), strict=True))
STUDY = {
    **{"name": "effusion-1a2b", "monitor": "val_auc", "direction": "maximize", "n_trials": 4, "space": SPACE},
    **{"importance": {"model.dropout": 0.75, "training.learning_rate": 0.25}, "data_digest": "d" * 64},
    **{"best": {"number": 2, "value": 0.9, "parameters": BEST}, "phantom": False},
}


@pytest.fixture
def trials():
    rows = [
        (0, "complete", 0.7, 0.001, 64, None, 0.1, 5, 60.4, None),
        (1, "failed", None, 0.01, 0, "pool4_pool", 0.2, 1, 9.0, "<script>alert(1)</script>"),
        (2, "complete", 0.9, 0.0001, 128, "pool4_pool", 0.5, 5, 61.0, None),
        (3, "pruned", 0.95, 0.002, 0, None, 0.0, 3, 30.0, None),
        (4, "complete", 0.8, 0.0005, 0, None, 0.3, 5, 59.5, None),
    ]
    return pd.DataFrame(rows, columns=["number", "state", "value", *SPACE, "epochs", "seconds", "reason"])


@pytest.fixture
def page(trials, png, read_page):
    options = {"task": "effusion", "title": "Pleural effusion", "before": BEFORE, "versions": {"kedro": "1"}}
    pictures = {"tuning_history": png, "tuning_slices": png}
    return lambda **changed: read_page(tuning.render_tuning({**STUDY, **changed}, trials, pictures, **options))


def test_the_page_has_the_result_and_warns_that_it_is_optimistic(page):
    page = page(phantom=True)
    for section, sentence in (
        ("", "Trial 2 of 4 is the best, with a validation AUC of 0.900."),
        ("", "Trials 3 complete, 1 pruned, 1 failed Parameters varied 4"),
        ("best", "kedro run --config"),
        ("warnings", "The best value is optimistic: it is the maximum over 3 trials"),
        ("warnings", "The search did not use the test images."),
        ("", "PHANTOM"),
    ):
        assert sentence in page.text[section]
    assert ["name", "effusion-1a2b"] in page.rows
    assert ["1", "<script>alert(1)</script>"] in page.rows
    assert (len(page.attributes("script")), len(page.attributes("img"))) == (0, 2)


def test_the_best_parameters_are_listed_beside_the_previous_ones(page):
    assert page().rows[:5] == [
        ["parameter", "best", "before", "searched", "importance"],
        ["training.learning_rate", "0.0001", "0.002", "0.0001 to 0.01, log", "0.250"],
        ["model.head_units", "128", "0", "0 to 128, step 64", ""],
        ["training.fine_tuning.cut", "pool4_pool", "null", "null, pool4_pool", ""],
        ["model.dropout", "0.5", "null", "0 to 0.5", "0.750"],
    ]


def test_complete_trials_come_first_by_value(page):
    rows = page().rows
    start = rows.index(["trial", "state", "validation AUC", *SPACE, "epochs", "seconds"]) + 1
    assert [row[0] for row in rows[start : start + 4]] == ["2", "4", "0", "3"]
    assert rows[start] == ["2", "complete", "0.900", "0.0001", "128", "pool4_pool", "0.5", "5", "61"]
    smallest = page(direction="minimize").rows[start : start + 4]
    assert [row[0] for row in smallest] == ["0", "4", "2", "3"]


@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize(
    ("axis", "values", "shown"),
    [
        ({"choices": [None, 4, 8]}, [None, 4, 8, 4], ["null", "4", "8", "4"]),
        ({"choices": [1000, 4, 2000]}, [1000, 4, 2000, 4], ["1000", "4", "2000", "4"]),
        ({"choices": [1.0, 0.1, 0.3]}, [1.0, 0.1, 0.3, 0.1], ["1", "0.1", "0.3", "0.1"]),
        ({"choices": [True, False, None]}, [True, False, None, False], ["true", "false", "null", "false"]),
        ({"choices": ["07", "8", "1e3"]}, ["07", "8", "1e3", "8"], ["07", "8", "1e3", "8"]),
        ({"choices": ["none", None, "1.0"]}, ["none", None, "1.0", None], ["none", "null", "1.0", "null"]),
        ({"low": 1000, "high": 3000}, [1000, 1001, 3000, 1001], ["1000", "1001", "3000", "1001"]),
    ],
)
def test_values_from_a_csv_file_are_shown_as_they_were_searched(drawn, tmp_path, axis, values, shown, gap):
    space = {"training.patience": axis}
    table = pd.DataFrame({"number": range(4), "state": "complete", "value": [0.9, 0.8, 0.7, 0.6]})
    table = table.assign(**{"training.patience": pd.Series(values, dtype=object)}, epochs=3, seconds=1.0, run_id="a")
    if gap:
        table.loc[4] = {"number": 4, "state": "failed", "reason": "no memory"}
    dataset = TableDataset(filepath=str(tmp_path / "trials.csv"), text_columns=TEXT_COLUMNS)
    dataset.save(table)
    tuning.draw_slices(dataset.load(), space, label="AUC", minimize=False)
    positions = [position for position, _ in drawn[0].axes[0].collections[0].get_offsets().tolist()]
    assert positions == ([0, 1, 2, 1] if "choices" in axis else values)
    assert [row[3] for row in tuning.trial_rows({**STUDY, "space": space}, dataset.load()).rows] == shown


def test_history_shows_every_trial_and_the_best_so_far(drawn, trials):
    tuning.draw_history(trials, label="validation AUC", minimize=False)
    tuning.draw_history(trials, label="validation loss", minimize=True)
    best, complete, pruned, failed = drawn[0].axes[0].lines
    assert [list(data) for data in best.get_data()] == [[0, 2, 4, 4], [0.7, 0.9, 0.9, 0.9]]
    assert [list(data) for data in complete.get_data()] == [[0, 2, 4], [0.7, 0.9, 0.8]]
    assert [list(data) for data in pruned.get_data()] == [[3], [0.95]]
    assert list(failed.get_xdata()) == [1, 1]
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert labels == ["best so far", "complete (3)", "pruned (1)", "failed"]
    assert list(drawn[1].axes[0].lines[0].get_ydata()) == [0.7, 0.7, 0.7, 0.7]


def test_without_complete_trials_the_figures_say_why(drawn, trials):
    tuning.draw_tuning(trials.iloc[[1, 3]], {**STUDY, "importance": {}})
    assert [text.split(":")[0] for text in drawn] == ["No history", "No importance", "No values"]


def test_the_page_is_accessible(page, check_page):
    check_page(page().html)
