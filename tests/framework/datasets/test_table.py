import csv

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxr_pipeline.framework.datasets.table import TableDataset, csv_text

HOSTILE = ["a\nb.png", "a\rb.png,0.9", "-rf.png", 'quote".png', "NA", "胸部.png", " space .png", "=1+1"]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_round_trip_keeps_names_and_nulls(tmp_path, suffix):
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


def test_a_missing_table_is_empty_if_its_columns_are_given(tmp_path):
    empty = TableDataset(filepath=tmp_path / "none.parquet", columns_if_missing=["image", "split"]).load()
    assert empty.columns.tolist() == ["image", "split"]
    assert empty.empty


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_rows_given_in_parts_are_written_as_one_table(tmp_path, suffix):
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


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(st.text(alphabet="'=-+@\uff1da01,\"\n\t\r", min_size=1), min_size=1))
def test_any_text_is_read_as_it_was_written_and_none_is_a_formula(tmp_path, cells):
    dataset = TableDataset(filepath=tmp_path / "table.csv", text_columns=["image"])
    dataset.save(pd.DataFrame({"image": cells, "probability": -0.5}))
    with (tmp_path / "table.csv").open(newline="") as file:
        _, *rows = csv.reader(file)
    assert not [image for image, _ in rows if image[0] in "=-+@\uff1d\n\t\r"]
    loaded = dataset.load()
    assert loaded["image"].tolist() == cells
    assert (loaded["probability"] == -0.5).all()
