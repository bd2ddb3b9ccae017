import numpy as np
import pytest
from kedro.io import DatasetError

from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.framework.datasets import table
from cxr_pipeline.framework.datasets.files import FiguresDataset, FileDataset, NewFilesDataset, PreparedImagesDataset


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
    ("kind", "name"), [(FileDataset, "model.h5"), (PreparedImagesDataset, "p.png"), (table.TableDataset, "t.xlsx")]
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
