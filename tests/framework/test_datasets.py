import csv
import resource
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kedro.io import DataCatalog, DatasetError
from kedro.validation import DataValidationError

from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.deployment.drift.image_features import ImageFeatures
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.framework.datasets import (
    FiguresDataset,
    FileDataset,
    NewFilesDataset,
    PreparedImagesDataset,
    TableDataset,
    csv_text,
)
from cxr_pipeline.framework.exit import explain

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


def reference_profile():
    rng = np.random.default_rng(0)
    features = ImageFeatures(*(rng.random((8, n)).astype(np.float32) for n in (11, 4, 1, 1)), np.full(8, ""))
    return ReferenceProfile.fit(features, features, outputs=("ill",), seed=0)


TABLE = pd.DataFrame({"image": ["a.png", "b.png"] * 500, "score": np.linspace(0, 1, 1000)})
DATASETS = {
    "metrics.json": (FileDataset, lambda: {"auc": 0.5}),
    "report.html": (FileDataset, lambda: "<p>" * 100),
    "model.keras": (FileDataset, lambda: keras.Sequential([keras.Input((2,)), keras.layers.Dense(64)])),
    "drift_profile.npz": (FileDataset, reference_profile),
    "scores.parquet": (TableDataset, lambda: TABLE),
    "history.csv": (TableDataset, lambda: TABLE),
    "images.json": (PreparedImagesDataset, lambda: PreparedImages(Path("i"), Recipe(32, "fit", 1))),
}


def invert(content):
    """Invert 40 bytes in the middle of a file."""
    middle = len(content) // 2
    inverted = bytes(byte ^ 0xFF for byte in content[middle : middle + 40])
    return content[:middle] + inverted + content[middle + 40 :]


DAMAGES = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "bytes inverted": invert,
}
# A shorter text is still a text, and zeros are valid characters of text and CSV.
READABLE = {
    *(("report.html", damage) for damage in ("cut", "empty", "zeros")),
    *(("history.csv", damage) for damage in ("cut", "zeros")),
}


def message_of(dataset):
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    message, status = explain(caught.value)
    assert status == 1
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize(
    ("name", "damage"), [(name, damage) for name in DATASETS for damage in DAMAGES if (name, damage) not in READABLE]
)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, name, damage):
    kind, make = DATASETS[name]
    dataset = kind(filepath=tmp_path / name)
    dataset.save(make())
    path = tmp_path / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    message = message_of(dataset)
    assert message.startswith(f"{path} cannot be read: ")
    assert message.endswith(dataset.remedy)


def test_a_changed_bit_of_a_table_is_detected(tmp_path):
    dataset = TableDataset(filepath=tmp_path / "scores.parquet")
    scores = np.random.default_rng(0).random(100)
    dataset.save(pd.DataFrame({"score": scores}))
    path, value = tmp_path / "scores.parquet", scores[50].tobytes()
    assert path.read_bytes().count(value) == 1
    path.write_bytes(path.read_bytes().replace(value, bytes([value[0] ^ 1]) + value[1:]))
    assert message_of(dataset).startswith(f"{path} cannot be read")


@pytest.mark.parametrize("kind", [FileDataset, TableDataset, PreparedImagesDataset, FiguresDataset, NewFilesDataset])
def test_a_missing_file_or_folder_is_named_with_what_to_do(tmp_path, kind):
    path = tmp_path / f"none{kind.suffixes[0] if kind.suffixes else ''}"
    assert message_of(kind(filepath=path)).startswith(
        f"{path} cannot be read: it does not exist. Run the pipeline of the task"
    )


@contextmanager
def full_disk():
    """Let every file end at 1000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", DATASETS)
def test_a_file_that_does_not_fit_on_the_disk_leaves_the_earlier_one(tmp_path, name):
    kind, make = DATASETS[name]
    dataset = kind(filepath=tmp_path / name)
    content = {"metrics.json": ["x" * 2000], "report.html": "x" * 2000}.get(name) or make()
    if name == "images.json":
        content = PreparedImages(Path("i" * 2000), Recipe(32, "fit", 1))
    dataset.save(content)
    before = (tmp_path / name).read_bytes()
    with full_disk(), pytest.raises(DatasetError) as caught:
        dataset.save(content)
    message, status = explain(caught.value)
    assert message.startswith(f"{tmp_path / name} could not be written: ")
    assert "The earlier content is unchanged." in message
    assert status == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: before}


def test_a_table_that_a_run_reads_before_it_writes_it_must_be_restored_or_deleted(tmp_path):
    path = tmp_path / "splits.parquet"
    path.write_bytes(b"")
    message = message_of(TableDataset(filepath=path, columns_if_missing=["image"]))
    assert message.startswith(f"{path} cannot be read")
    assert "Restore a copy of it. If there is none, delete it" in message


def test_a_table_with_other_columns_is_named(tmp_path):
    path = tmp_path / "splits.parquet"
    TABLE.to_parquet(path)
    entry = {
        "type": "cxr_pipeline.framework.datasets.TableDataset",
        "filepath": str(path),
        "validator": "cxr_pipeline.framework.schemas.SplitsSchema",
    }
    with pytest.raises(DataValidationError) as caught:
        DataCatalog.from_config({"effusion.splits": entry}).load("effusion.splits")
    message, _ = explain(caught.value)
    assert "effusion.splits" in message
    assert "patient_id" in message
