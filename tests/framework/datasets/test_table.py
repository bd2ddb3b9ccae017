import csv

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kedro.io import DatasetError

from cxr_pipeline.framework.datasets.table import TableDataset, csv_text

HOSTILE = ["a\nb.png", "a\rb.png,0.9", "-rf.png", 'quote".png', "NA", "胸部.png", " space .png", "=1+1"]
FORMULAS = [
    '=HYPERLINK("http://x","y").png',
    "@SUM(1+1)*cmd|' -C calc'!A0.png",
    "+1.png",
    "-1+1.png",
    "\t=1",
    "\r=1",
    "\uff1d1",
]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_round_trip_keeps_names_and_nulls(tmp_path, suffix) -> None:
    patients = [None, "1", None, "2", "3", None, "4", "5"]
    table = pd.DataFrame({"image": HOSTILE, "patient_id": patients, "age": [1.5, np.nan, 3, 4, 5, 6, 7, 8]})
    dataset = TableDataset(filepath=tmp_path / f"deep/table.{suffix}")
    assert not dataset.exists()
    dataset.save(pd.DataFrame({"b": [3]}))
    dataset.save(table)
    loaded = dataset.load()
    assert loaded["image"].tolist() == HOSTILE
    assert loaded["patient_id"].isna().tolist() == table["patient_id"].isna().tolist()
    np.testing.assert_array_equal(loaded["age"], table["age"])


def test_a_missing_table_is_empty_if_its_columns_are_given(tmp_path) -> None:
    empty = TableDataset(filepath=tmp_path / "none.parquet", columns_if_missing=["image", "split"]).load()
    assert empty.columns.tolist() == ["image", "split"]
    assert empty.empty


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_rows_given_in_parts_are_written_as_one_table(tmp_path, suffix) -> None:
    table = pd.DataFrame({"image": HOSTILE, "probability": [0.1 + 0.2, None, *range(6)]})
    table["decision"] = pd.Series([None] * 5 + ["effusion"] * 3, dtype="str")
    whole, parts = (tmp_path / f"{name}.{suffix}" for name in ("whole", "parts"))
    TableDataset(filepath=str(whole)).save(table)
    TableDataset(filepath=str(parts)).save(table[start : start + 3] for start in (0, 3, 6))
    read = pd.read_parquet if suffix == "parquet" else pd.read_csv
    pd.testing.assert_frame_equal(read(parts), read(whole))
    if suffix == "csv":
        assert parts.read_bytes() == whole.read_bytes()
        assert whole.read_bytes().decode() == csv_text(table)


def test_formulas_are_text_in_a_csv_file(tmp_path) -> None:
    table = pd.DataFrame({"image": FORMULAS, "probability": -0.5})
    dataset = TableDataset(filepath=tmp_path / "table.csv")
    dataset.save(table)
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1:] == [[f"'{name}", "-0.5"] for name in FORMULAS]
    pd.testing.assert_frame_equal(dataset.load(), table)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(st.text(alphabet="'=-+a01,\"\n\t", min_size=1), min_size=1))
def test_any_text_is_read_as_it_was_written_and_none_is_a_formula(tmp_path, cells) -> None:
    dataset = TableDataset(filepath=tmp_path / "table.csv", text_columns=["image"])
    dataset.save(pd.DataFrame({"image": cells}))
    with (tmp_path / "table.csv").open(newline="") as file:
        assert not [row for row in csv.reader(file) if row[0][0] in "=-+\n\t"]
    assert dataset.load()["image"].tolist() == cells


def test_a_failed_save_keeps_the_earlier_table(tmp_path) -> None:
    def failing():
        yield pd.DataFrame({"a": [1]})
        raise ValueError("failed")

    dataset = TableDataset(filepath=tmp_path / "table.csv")
    dataset.save(pd.DataFrame({"a": [7]}))
    with pytest.raises(DatasetError, match="failed"):
        dataset.save(failing())
    assert dataset.load().a.tolist() == [7]
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
