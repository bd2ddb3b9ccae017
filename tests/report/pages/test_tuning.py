from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from cxr_pipeline.framework.datasets.table import TableDataset
from cxr_pipeline.report.figures import tuning as figures
from cxr_pipeline.report.pages import tuning

SPACE = {
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "model.head_units": {"low": 0, "high": 128, "step": 64},
    "training.fine_tuning.cut": {"choices": [None, "pool4_pool"]},
    "model.dropout": {"low": 0.0, "high": 0.5},
}
CATALOG = yaml.safe_load((Path(__file__).parents[3] / "conf/base/catalog/07_tuning.yml").read_text())
TEXT_COLUMNS = CATALOG["{task}.tuning_trials"]["text_columns"]
HOSTILE = "<script>alert(1)</script>"


BEST = dict(zip(SPACE, (0.0001, 128, "pool4_pool", 0.5), strict=True))
STUDY: dict[str, Any] = {
    **{"name": "effusion-1a2b", "monitor": "val_auc", "direction": "maximize", "n_trials": 4, "space": SPACE},
    **{"importance": {"model.dropout": 0.75, "training.learning_rate": 0.25}, "data_digest": "d" * 64},
    **{"best": {"number": 2, "value": 0.9, "parameters": BEST}, "phantom": False},
}
BEFORE = {"training.learning_rate": 0.002, "model.head_units": 0, "training.fine_tuning.cut": None}


@pytest.fixture
def trials() -> pd.DataFrame:
    rows = [
        (0, "complete", 0.7, 0.001, 64, None, 0.1, 5, 60.4, None),
        (1, "failed", None, 0.01, 0, "pool4_pool", 0.2, 1, 9.0, HOSTILE),
        (2, "complete", 0.9, 0.0001, 128, "pool4_pool", 0.5, 5, 61.0, None),
        (3, "pruned", 0.95, 0.002, 0, None, 0.0, 3, 30.0, None),
        (4, "complete", 0.8, 0.0005, 0, None, 0.3, 5, 59.5, None),
    ]
    return pd.DataFrame(rows, columns=["number", "state", "value", *SPACE, "epochs", "seconds", "reason"])


def render(trials: pd.DataFrame, png: bytes, **changed: Any) -> str:
    figures, about = {"tuning_history": png, "tuning_slices": png}, {"task": "effusion", "title": "Pleural effusion"}
    return tuning.render_tuning({**STUDY, **changed}, trials, figures, before=BEFORE, versions={"kedro": "1"}, **about)


def test_the_page_has_the_result_and_warns_that_it_is_optimistic(
    trials: pd.DataFrame, png: bytes, read_page: Any
) -> None:
    page = read_page(render(trials, png))
    assert "4 trials (3 complete, 1 pruned) varied 4 parameters." in page.text["summary"]
    assert "1 failed trial not counted." in page.text["summary"]
    assert "The best is trial 2, with a validation AUC of 0.900." in page.text["summary"]
    assert "kedro run --config" in page.text["summary"]
    assert "The best value is optimistic: it is the maximum over 3 trials" in page.text["warnings"]
    assert "The search did not use the test images." in page.text["warnings"]
    assert ["name", "effusion-1a2b"] in page.rows
    assert len(page.attributes("img")) == 2
    assert "PHANTOM" in render(trials, png, phantom=True)


def test_a_hostile_error_is_escaped(trials: pd.DataFrame, png: bytes, read_page: Any) -> None:
    page = read_page(render(trials, png))
    assert ["1", HOSTILE] in page.rows
    assert not page.attributes("script")


def test_the_best_parameters_stand_beside_the_previous_ones() -> None:
    table = tuning.best_parameters(STUDY, BEFORE)
    assert table.columns == ("parameter", "best", "before", "searched", "importance")
    assert table.rows == [
        ("training.learning_rate", "0.0001", "0.002", "0.0001 to 0.01, log", "0.250"),
        ("model.head_units", "128", "0", "0 to 128, step 64", ""),
        ("training.fine_tuning.cut", "pool4_pool", "null", "null, pool4_pool", ""),
        ("model.dropout", "0.5", "null", "0 to 0.5", "0.750"),
    ]


def test_complete_trials_come_first_by_value(trials: pd.DataFrame) -> None:
    table = tuning.trial_rows(STUDY, trials)
    assert [row[0] for row in table.rows] == ["2", "4", "0", "3"]
    assert table.columns == ("trial", "state", "val_auc", *SPACE, "epochs", "seconds")
    assert table.rows[0] == ("2", "complete", "0.900", "0.0001", "128", "pool4_pool", "0.5", "5", "61")
    smallest = tuning.trial_rows({**STUDY, "direction": "minimize"}, trials)
    assert [row[0] for row in smallest.rows] == ["0", "4", "2", "3"]


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
def test_values_are_shown_as_they_were_searched_whatever_a_csv_file_makes_of_them(
    drawn_by: Any, tmp_path: Path, axis: dict[str, Any], values: list[Any],
    shown: list[str], gap: bool,
) -> None:  # fmt: skip
    space = {"training.patience": axis}
    table = pd.DataFrame({"number": range(4), "state": "complete", "value": [0.9, 0.8, 0.7, 0.6]})
    table = table.assign(**{"training.patience": pd.Series(values, dtype=object)}, epochs=3, seconds=1.0, run_id="a")
    if gap:
        table.loc[4] = {"number": 4, "state": "failed", "reason": "no memory"}
    dataset = TableDataset(filepath=str(tmp_path / "trials.csv"), text_columns=TEXT_COLUMNS)
    dataset.save(table)
    drawn = drawn_by(figures)
    figures.slices(dataset.load(), space, label="AUC", minimize=False)
    places = [place for place, _ in drawn[0].axes[0].collections[0].get_offsets().tolist()]
    assert places == ([0, 1, 2, 1] if "choices" in axis else values)
    assert [row[3] for row in tuning.trial_rows({**STUDY, "space": space}, dataset.load()).rows] == shown
