import json
import math
from datetime import UTC, datetime

import pytest

from cxr_pipeline.experiments.leaderboard import Entry, leaderboard, parameters_that_differ

NAN = math.nan


def entry(name="cxr-effusion 1", auc=0.875, margin=0.0625, **changes):
    values = {
        "kind": "version",
        "task": "effusion",
        "images": "real",
        "test_digest": "f" * 64,
        "data_digest": "d" * 64,
        "metrics": {"auc": auc, "auc_low": auc - margin, "auc_high": auc + margin, "n_images": 40.0},
        "parameters": {"training.epochs": "3"},
        "date": datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC),
        "experiment_id": "7",
        "run_id": "0123456789e123456789012345678901",
    }
    return Entry(name=name, **values | changes)


def test_groups_are_sorted_by_images_task_and_date_and_end_with_unranked_models():
    old, new = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    entries = [
        entry("phantoms", images="phantom", task="abnormality"),
        entry("pneumonia", task="pneumonia"),
        entry("old images", date=old, test_digest="0" * 64),
        entry("new images", date=new, test_digest="1" * 64),
        entry("new images, old model", 0.5, date=old, test_digest="1" * 64),
        entry("unranked", images=None),
    ]
    table = leaderboard(entries)
    ranked = ["new images", "new images, old model", "old images", "pneumonia", "phantoms"]
    assert table["name"].tolist() == [*ranked, "unranked"]
    assert table["group"].tolist()[:5] == [1, 1, 2, 3, 4]
    assert table["group"].isna().tolist() == table["rank"].isna().tolist() == [False] * 5 + [True]


def test_equal_aucs_share_a_rank_and_intervals_are_compared_with_that_of_the_first():
    later, above = datetime(2027, 1, 1, tzinfo=UTC), {"auc": 0.5, "auc_low": 0.96875, "auc_high": 1.0}
    entries = [entry("tied", date=later), entry("touches", 0.75), entry("far", 0.734375), entry("first")]
    table = leaderboard([*entries, entry("above", metrics=above)]).set_index("name")
    assert table["rank"].to_dict() == {"first": 1, "tied": 1, "touches": 3, "far": 4, "above": 5}
    overlaps = table["interval_overlaps_first"]
    assert overlaps[["touches", "far", "above"]].tolist() == [True, False, False]
    assert overlaps[["first", "tied"]].isna().all()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"run_id": None}, "run was deleted"),
        ({"unfinished": "failed"}, "did not finish: failed"),
        ({"task": None}, "task is unknown"),
        ({"images": None}, "whether its images are real"),
        ({"metrics": {}}, "no metrics on test images"),
        ({"test_digest": None}, "test images are unknown"),
        ({"metrics": {"n_images": 40.0}}, "AUC is undefined"),
        ({"metrics": {"auc": 0.5, "auc_low": NAN, "auc_high": 0.75}}, "AUC has no interval"),
    ],
)
def test_a_model_that_cannot_be_ranked_has_a_reason(changes, reason):
    table = leaderboard([entry("ranked", 0.25), entry("left", **changes)])
    assert table["name"].tolist() == ["ranked", "left"]
    assert table["not_ranked"].isna().tolist() == [True, False]
    assert reason in table["not_ranked"].iloc[1]


def test_models_of_too_few_patients_are_ranked_without_overlap():
    few = {"auc": 0.75, "auc_too_few_patients": 3.0}
    table = leaderboard([entry("few", metrics=few), entry("also few", metrics={**few, "auc": 0.5})])
    assert (table["rank"].tolist(), table["auc_too_few_patients"].tolist()) == ([1, 2], [3, 3])
    assert table["not_ranked"].isna().all() and table["interval_overlaps_first"].isna().all()


def test_parameters_are_compared_within_a_group():
    entries = [
        entry("a", 0.875, parameters={"training.seed": "1", "training.epochs": "3"}),
        entry("b", 0.75, parameters={"training.seed": "1", "training.epochs": "5", "training.loss": "focal"}),
        entry("elsewhere", parameters={"training.seed": "2"}, task="pneumonia"),
        entry("left", parameters={"training.seed": "3"}, images=None),
    ]
    parameters = leaderboard(entries).set_index("name")["parameters"]
    assert json.loads(parameters["a"]) == {"training.epochs": "3", "training.loss": None}
    assert json.loads(parameters["b"]) == {"training.epochs": "5", "training.loss": "focal"}
    assert parameters[["elsewhere", "left"]].isna().all()


VERSION, CELL = {"training.loss": "focal", "explanation.images": "8"}, {"training.loss": "focal"}
WITHOUT_EFFECT = [dict.fromkeys(("task.title", "drift.alpha", "tuning.space.model.dropout.low"), v) for v in "12"]


@pytest.mark.parametrize(
    ("parameters", "differing"),
    [
        ([VERSION, CELL], [{}, {}]),  # a cell ends before the explanation
        (
            [VERSION, VERSION | {"explanation.images": "9"}, CELL],
            [{"explanation.images": "8"}, {"explanation.images": "9"}, {"explanation.images": None}],
        ),
        # a parameter that is new in its block
        ([VERSION, CELL | {"training.tolerance": "0"}], [{"training.tolerance": None}, {"training.tolerance": "0"}]),
        (WITHOUT_EFFECT, [{}, {}]),
    ],
)
def test_parameters_differ_between_runs_that_logged_their_block(parameters, differing):
    assert parameters_that_differ(parameters) == differing
