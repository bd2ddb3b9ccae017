import csv

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kedro.io import DatasetError

from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.framework.datasets import (
    FiguresDataset,
    FileDataset,
    NewFilesDataset,
    PreparedImagesDataset,
    TableDataset,
    csv_text,
)

HOSTILE = ["a\nb.png", "a\rb.png,0.9", "-rf.png", 'quote".png', "NA", "胸部.png", " space .png", "=1+1"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("file.json", {"b": [1, None, "胸"], "a": 0.1}),
        ("file.html", "<p>ä</p>\n"),
        ("file.md", "# ä"),
        ("file.yml", "run: {}"),
        ("file.png", b"\x89PNG\x00"),
    ],
)
def test_content_is_saved_overwritten_and_loaded(tmp_path, name, content):
    dataset = FileDataset(filepath=str(tmp_path / "deep" / name))
    assert not dataset.exists()
    dataset.save(content)
    dataset.save(content)
    assert dataset.exists()
    assert dataset.load() == content
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [name]


def test_json_keeps_the_order_and_the_old_file_if_a_value_is_nan(tmp_path):
    dataset = FileDataset(filepath=tmp_path / "metrics.json")
    dataset.save({"z": 1, "a": 2})
    with pytest.raises(DatasetError, match="JSON compliant"):
        dataset.save({"auc": float("nan")})
    assert (tmp_path / "metrics.json").read_text() == '{\n  "z": 1,\n  "a": 2\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_a_model_predicts_as_before_and_code_in_it_is_not_executed(tmp_path):
    import keras

    dataset = FileDataset(filepath=tmp_path / "model.keras")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    dataset.save(model)
    np.testing.assert_array_equal(dataset.load()(np.ones((3, 2))), model(np.ones((3, 2))))
    dataset.save(keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)]))
    with pytest.raises(DatasetError, match=r"(?i)lambda"):
        dataset.load()


@pytest.mark.parametrize(
    ("kind", "name"), [(FileDataset, "model.h5"), (PreparedImagesDataset, "p.png"), (TableDataset, "t.xlsx")]
)
def test_another_suffix_is_refused(kind, name):
    with pytest.raises(DatasetError, match=rf"expects a path that ends in \..*Received: filepath={name}"):
        kind(filepath=name)


def test_saving_figures_removes_those_of_earlier_runs(tmp_path):
    dataset = FiguresDataset(filepath=tmp_path / "figures")
    dataset.save({"roc": b"1", "old": b"2"})
    dataset.save({"roc": b"3", "new": b"4"})
    assert dataset.load() == {"new": b"4", "roc": b"3"}
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["new.png", "roc.png"]


def test_new_files_are_added_and_never_overwritten(tmp_path):
    dataset = NewFilesDataset(filepath=tmp_path / "decisions")
    assert not dataset.exists()
    dataset.save({})
    assert dataset.exists()
    dataset.save({"b.md": "second", "c.parquet": b"\xff"})
    dataset.save({"a.md": "first, ä"})
    with pytest.raises(DatasetError, match=r"already has a\.md"):
        dataset.save({"0.md": "new", "a.md": "other"})
    assert list(dataset.load().items()) == [("a.md", "first, ä"), ("b.md", "second"), ("c.parquet", b"\xff")]


def test_prepared_images_exist_only_with_their_folder(tmp_path):
    steps = ({"operation": "clahe", "clip_limit": 2.0, "tiles": 8},)
    images = PreparedImages(tmp_path / "images", Recipe(size=32, mode="fit", max_megapixels=50, steps=steps))
    dataset = PreparedImagesDataset(filepath=str(tmp_path / "images.json"))
    dataset.save(images)
    assert dataset.load() == images
    assert dataset.load().digest == images.digest
    assert not dataset.exists()
    images.folder.mkdir(parents=True)
    assert dataset.exists()


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
