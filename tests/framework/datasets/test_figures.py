import pytest
from kedro.io import DatasetError

from cxr_pipeline.framework.datasets.figures import FiguresDataset


def test_saving_leaves_exactly_the_pictures_given(tmp_path) -> None:
    dataset = FiguresDataset(filepath=str(tmp_path / "figures"))
    with pytest.raises(DatasetError):
        dataset.load()
    dataset.save({"roc": b"1", "old": b"2"})
    dataset.save({"roc": b"3", "new": b"4"})
    assert dataset.load() == {"new": b"4", "roc": b"3"}
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["new.png", "roc.png"]
