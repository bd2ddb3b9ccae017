"""Who comes first, and who stands beside whom."""

import itertools
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.experiments.leaderboard import Entry, leaderboard, parameters_that_differ
from cxr_pipeline.framework.datasets.table import TableDataset


def entry(name: str = "cxr-effusion 1", auc: float = 0.875, margin: float = 0.0625, **changed: Any) -> Entry:
    values: dict[str, Any] = {
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
    return Entry(name=name, **values | changed)


def test_models_of_the_same_images_are_ranked_by_auc() -> None:
    table = leaderboard([entry("poor", 0.5), entry("best", 0.875), entry("good", 0.8125)])
    assert table["name"].tolist() == ["best", "good", "poor"]
    assert table["rank"].tolist() == [1, 2, 3]
    assert table["group"].tolist() == [1, 1, 1]
    assert table["not_ranked"].isna().all()


def test_equal_aucs_share_a_rank_and_the_older_is_named_first() -> None:
    later = datetime(2027, 1, 1, tzinfo=UTC)
    table = leaderboard([entry("new", date=later), entry("third", 0.5), entry("old")])
    assert list(zip(table["name"], table["rank"], strict=True)) == [("old", 1), ("new", 1), ("third", 3)]


def test_overlap_is_told_of_all_but_the_first() -> None:
    table = leaderboard([entry("first", 0.875), entry("touches", 0.75), entry("far", 0.734375), entry("tied", 0.875)])
    overlaps = dict(zip(table["name"], table["interval_overlaps_first"], strict=True))
    assert (overlaps["touches"], overlaps["far"]) == (True, False)
    assert overlaps["first"] is pd.NA
    assert overlaps["tied"] is pd.NA


def test_an_interval_may_lie_above_that_of_the_first() -> None:
    above = {"auc": 0.5, "auc_low": 0.96875, "auc_high": 1.0}
    table = leaderboard([entry("first"), entry("odd", metrics=above)])
    assert not table["interval_overlaps_first"].iloc[1]


@pytest.mark.parametrize("changed", [{"test_digest": "e" * 64}, {"task": "pneumonia"}, {"images": "phantom"}])
def test_other_images_make_another_group(changed: dict[str, str]) -> None:
    table = leaderboard([entry("here", 0.75), entry("there", 0.875, **changed)])
    assert table["rank"].tolist() == [1, 1]
    assert table["group"].tolist() == [1, 2] or table["name"].tolist() == ["there", "here"]


def test_real_images_come_first_then_tasks_then_the_last_measured_images() -> None:
    old, new = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    entries = [
        entry("phantoms", images="phantom", task="abnormality"),
        entry("pneumonia", task="pneumonia"),
        entry("old images", date=old, test_digest="0" * 64),
        entry("new images", date=new, test_digest="1" * 64),
        entry("new images, old model", 0.5, date=old, test_digest="1" * 64),
        entry("left", images=None),
        entry("left phantom", images="phantom", test_digest=None),
        entry("left real", task="zzz", test_digest=None),
    ]
    ranked = ["new images", "new images, old model", "old images", "pneumonia", "phantoms"]
    table = leaderboard(entries)
    assert table["name"].tolist() == [*ranked, "left real", "left phantom", "left"]
    assert table["group"].tolist()[:5] == [1, 1, 2, 3, 4]
    assert table["group"].isna().tolist() == table["rank"].isna().tolist() == [False] * 5 + [True] * 3


NAN = math.nan
REASONS = [
    ({"run_id": None}, "run was deleted"),
    ({"unfinished": "failed"}, "did not finish: failed"),
    ({"task": None}, "task is unknown"),
    ({"images": None}, "whether its images are real"),
    ({"images": "drawn"}, "whether its images are real"),
    ({"metrics": {}}, "no metrics on test images"),
    ({"test_digest": None}, "test images are unknown"),
    ({"metrics": {"n_images": 40.0}}, "AUC is undefined"),
    ({"metrics": {"auc": 0.5}}, "AUC has no interval"),
    ({"metrics": {"auc": 0.5, "auc_low": 0.25}}, "AUC has no interval"),
    ({"metrics": {"auc": 0.5, "auc_low": NAN, "auc_high": 0.75}}, "AUC has no interval"),
]


@pytest.mark.parametrize(("changed", "reason"), REASONS)
def test_what_cannot_be_compared_is_listed_with_the_reason(changed: dict[str, Any], reason: str) -> None:
    table = leaderboard([entry("ranked", 0.25), entry("left", **changed)])
    assert table["name"].tolist() == ["ranked", "left"]
    assert table["rank"].isna().tolist() == [False, True]
    assert reason in table["not_ranked"].iloc[1]


def test_parameters_are_those_that_differ_within_the_group() -> None:
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


VERSION = {"training.loss": "focal", "subgroups.ages": "[18]", "explanation.images": "8"}
CELL = {"training.loss": "focal"}


def test_what_a_cell_does_not_come_to_is_no_difference() -> None:
    assert parameters_that_differ([VERSION, CELL]) == [{}, {}]
    assert parameters_that_differ([VERSION, VERSION | {"explanation.images": "9"}, CELL]) == [
        {"explanation.images": "8"}, {"explanation.images": "9"}, {"explanation.images": None}]  # fmt: skip


def test_what_no_model_depends_on_is_no_difference() -> None:
    names = ("task.title", "drift.alpha", "parallel.workers", "tuning.space.model.dropout.low")
    one, other = (VERSION | dict.fromkeys(names, value) for value in "12")
    assert parameters_that_differ([one, other]) == [{}, {}]
    assert parameters_that_differ([one, other | {"training.loss": "hinge"}])[1] == {"training.loss": "hinge"}


def test_a_parameter_that_older_code_did_not_have_is_a_difference() -> None:
    newer = VERSION | {"training.tolerance": "0.01"}
    assert parameters_that_differ([VERSION, newer, CELL]) == [
        {"training.tolerance": None}, {"training.tolerance": "0.01"}, {"training.tolerance": None}]  # fmt: skip


VALUES = st.lists(st.dictionaries(st.sampled_from(["a.x", "a.y", "b.x"]), st.sampled_from("01")))


@given(VALUES)
def test_what_differs_and_what_is_shared_make_up_the_parameters(parameters: list[dict[str, str]]) -> None:
    differing = parameters_that_differ(parameters)
    for values, own in zip(parameters, differing, strict=True):
        assert {name: value for name, value in own.items() if value is not None}.items() <= values.items()
        for name in values.keys() - own.keys():
            saying = [other for other in parameters if any(known[0] == name[0] for known in other)]
            assert all(other.get(name) == values[name] for other in saying)
    for name in differing[0] if differing else ():
        assert len({own[name] for own in differing}) > 1


ENTRIES = st.lists(
    st.builds(
        entry,
        name=st.text(),
        auc=st.sampled_from([0.5, 0.75, 0.875]),
        margin=st.sampled_from([0.0, 0.125, NAN]),
        images=st.sampled_from(["real", "phantom", None]),
        task=st.sampled_from(["effusion", "pneumonia"]),
        test_digest=st.sampled_from(["0" * 64, "1" * 64]),
        date=st.datetimes(timezones=st.just(UTC), min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)),
    ),
    max_size=8,
)


@given(ENTRIES)
def test_no_model_is_lost_and_each_group_has_one_set_of_images(entries: list[Entry]) -> None:
    table = leaderboard(entries)
    assert sorted(table["name"]) == sorted(entry.name for entry in entries)
    assert (table["not_ranked"].isna() == table["rank"].notna()).all()
    groups = [group for _, group in table.dropna(subset="group").groupby("group", sort=False)]
    keys = [
        tuple(group[["images", "task", "test_digest"]].drop_duplicates().itertuples(index=False)) for group in groups
    ]
    assert all(len(key) == 1 for key in keys)
    assert len(set(keys)) == len(keys)
    for group in groups:
        assert group["auc"].is_monotonic_decreasing
        for one, other in itertools.pairwise(group.itertuples()):
            assert (one.rank == other.rank) == (one.auc == other.auc)


def test_a_row_says_what_the_model_is_and_where_it_is_found() -> None:
    made = entry(
        metrics={"auc": 0.5, "auc_low": 0.25, "auc_high": 0.75, "ece": 0.125, "n_images": 40.0},
        aliases=("best", "champion"),
        run_url="http://host/run",
        url="http://host/version",
    )
    (row,) = leaderboard([made]).to_dict("records")
    assert row["kind"] == "version"
    assert row["aliases"] == "best, champion"
    assert (row["auc"], row["auc_low"], row["auc_high"], row["ece"]) == (0.5, 0.25, 0.75, 0.125)
    assert math.isnan(row["accuracy"])
    assert row["n_images"] == 40
    assert row["date"] == "2026-02-03T04:05:06+00:00"
    assert (row["experiment_id"], row["run_id"]) == ("7", made.run_id)
    assert (row["run_url"], row["url"]) == ("http://host/run", "http://host/version")
    assert (row["test_digest"], row["data_digest"]) == ("f" * 64, "d" * 64)


def test_nothing_measured_is_a_table_without_rows() -> None:
    assert leaderboard([]).empty
    assert leaderboard([]).columns.tolist() == leaderboard([entry()]).columns.tolist()


def test_the_table_is_of_text_and_numbers(tmp_path: Path) -> None:
    kept = TableDataset(
        filepath=str(tmp_path / "table.csv"), text_columns=["run_id", "experiment_id", "name", "test_digest"]
    )
    table = leaderboard([entry("1e5", run_id="1" * 32), entry("2", 0.5, parameters={}), entry("3", run_id=None)])
    kept.save(table)
    for found, expected in zip(kept.load().to_dict("records"), table.to_dict("records"), strict=True):
        for name, value in expected.items():
            assert pd.isna(found[name]) if pd.isna(value) else found[name] == value
