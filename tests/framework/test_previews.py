import base64
import inspect
import json

import pandas as pd
import pytest

from cxr_pipeline.framework.datasets import FiguresDataset, FileDataset, TableDataset

IMAGES = pd.DataFrame(
    {"image": ["7.png", "8.png", "9.png"], "patient_id": ["anna", "ben", "cem"], "split": ["train", "test", None]}
)


def kind(dataset):
    """Return the kind of a preview as kedro-viz reads it."""
    return inspect.signature(dataset.preview).return_annotation.__name__


@pytest.mark.parametrize(
    ("name", "content", "expected", "shown"),
    [
        ("metrics.json", {"auc": 0.9}, "JSONPreview", '{\n  "auc": 0.9\n}\n'),
        ("card.md", "# Card", "TextPreview", "# Card"),
        ("best.yml", "run: {}", "TextPreview", "run: {}"),
        ("plot.png", b"\x89PNG", "ImagePreview", base64.b64encode(b"\x89PNG").decode()),
    ],
)
def test_a_file_is_shown_in_the_form_of_its_format(tmp_path, name, content, expected, shown):
    dataset = FileDataset(filepath=tmp_path / name)
    dataset.save(content)
    assert (kind(dataset), dataset.preview()) == (expected, shown)


@pytest.mark.parametrize("name", ["report.html", "model.keras", "drift_profile.npz"])
def test_pages_and_models_have_no_preview(tmp_path, name):
    assert not hasattr(FileDataset(filepath=tmp_path / name), "preview")


def test_metrics_are_a_table_of_four_digits(tmp_path):
    metadata = {"kedro-viz": {"layer": "results", "preview_args": {"rows": "metrics"}}}
    dataset = FileDataset(filepath=tmp_path / "metrics.json", metadata=metadata)
    dataset.save({"task": "effusion", "metrics": {"auc": {"value": 0.87654, "low": 0.8}, "f1": {"value": 0.5}}})
    shown = dataset.preview(**metadata["kedro-viz"]["preview_args"])
    assert kind(dataset) == "TablePreview"
    assert shown["columns"] == ["metrics", "value", "low"]
    assert shown["data"] == [["auc", "0.8765", "0.8"], ["f1", "0.5", ""]]


@pytest.mark.parametrize(
    ("arguments", "data"),
    [
        ({"count": ["split"]}, [["train", 1], ["test", 1], ["", 1]]),
        ({"rows": 1}, [["7.png", "anna", "train"]]),
        ({}, []),
    ],
)
def test_a_table_shows_counts_or_rows_and_without_arguments_neither(tmp_path, arguments, data):
    dataset = TableDataset(filepath=tmp_path / "splits.parquet")
    dataset.save(IMAGES)
    shown = dataset.preview(**arguments)
    assert kind(dataset) == "TablePreview"
    assert sorted(shown["data"], key=str) == sorted(data, key=str)
    json.dumps(shown)


def test_figures_are_shown_with_their_names_one_of_them_first(tmp_path):
    dataset = FiguresDataset(filepath=tmp_path / "figures")
    dataset.save({"a_b": b"1", "roc": b"2"})
    shown = dataset.preview(first="roc")
    assert kind(dataset) == "HTMLPreview"
    assert shown.index(base64.b64encode(b"2").decode()) < shown.index("<p>a b</p>")
