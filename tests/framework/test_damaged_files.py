"""Files of the catalog that are missing, damaged or do not fit on the disk are named in the message that ends a run."""

import resource
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
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
)
from cxr_pipeline.framework.exit import explain


def profile():
    rng = np.random.default_rng(0)
    features = ImageFeatures(*(rng.random((8, n)).astype(np.float32) for n in (11, 4, 1, 1)), np.full(8, ""))
    return ReferenceProfile.fit(features, features, outputs=("ill",), seed=0)


TABLE = pd.DataFrame({"image": ["a.png", "b.png"] * 500, "score": np.linspace(0, 1, 1000)})
DATASETS = {
    "metrics.json": (FileDataset, lambda: {"auc": 0.5}),
    "report.html": (FileDataset, lambda: "<p>" * 100),
    "model.keras": (FileDataset, lambda: keras.Sequential([keras.Input((2,)), keras.layers.Dense(64)])),
    "drift_profile.npz": (FileDataset, profile),
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
