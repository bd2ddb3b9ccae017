from pathlib import Path

import pytest
from kedro.io import DatasetError

from cxr_pipeline.framework.datasets.folders import FiguresDataset, NewFilesDataset


def test_saving_figures_removes_those_of_earlier_runs(tmp_path: Path) -> None:
    dataset = FiguresDataset(filepath=tmp_path / "figures")
    with pytest.raises(DatasetError, match="figures cannot be read: it does not exist"):
        dataset.load()
    dataset.save({"roc": b"1", "old": b"2"})
    dataset.save({"roc": b"3", "new": b"4"})
    assert dataset.load() == {"new": b"4", "roc": b"3"}
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["new.png", "roc.png"]


def test_new_files_are_added_and_never_overwritten(tmp_path: Path) -> None:
    dataset = NewFilesDataset(filepath=tmp_path / "decisions")
    assert not dataset.exists()
    dataset.save({})
    assert dataset.exists()
    dataset.save({"b.md": "second", "c.parquet": b"\xff"})
    dataset.save({"a.md": "first, ä"})
    with pytest.raises(DatasetError, match=r"already has a\.md"):
        dataset.save({"0.md": "new", "a.md": "other"})
    assert list(dataset.load().items()) == [("a.md", "first, ä"), ("b.md", "second"), ("c.parquet", b"\xff")]
