from pathlib import Path

import pytest
from kedro.io.core import DatasetError

from cxr_pipeline.framework.datasets.new_files import NewFilesDataset


def test_files_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    dataset = NewFilesDataset(filepath=str(tmp_path / "decisions"))
    assert not dataset.exists()
    dataset.save({"b.md": "zweite"})
    dataset.save({"a.md": "erste, ä"})
    assert dataset.exists()
    assert dataset.load() == {"a.md": "erste, ä", "b.md": "zweite"}
    assert list(dataset.load()) == ["a.md", "b.md"]


def test_no_file_is_written_over_and_then_none_is_written(tmp_path: Path) -> None:
    dataset = NewFilesDataset(filepath=str(tmp_path))
    dataset.save({"a.md": "first"})
    with pytest.raises(DatasetError, match=r"has a\.md already"):
        dataset.save({"0.md": "new", "a.md": "second"})
    assert dataset.load() == {"a.md": "first"}


def test_nothing_to_add_makes_the_folder(tmp_path: Path) -> None:
    dataset = NewFilesDataset(filepath=str(tmp_path / "decisions"))
    dataset.save({})
    assert dataset.load() == {}
    assert str(tmp_path) in str(dataset)
