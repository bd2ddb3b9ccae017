from pathlib import Path

import numpy as np
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import write_array, written_atomically


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), written_atomically(path) as beside:
        beside.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


def test_the_new_file_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.csv"
    with written_atomically(path) as beside:
        beside.write_text("new")
        assert not path.exists()
        assert beside.suffix == ".csv"
    assert path.read_text() == "new"
    assert [entry.name for entry in path.parent.iterdir()] == ["table.csv"]


def test_a_full_disk_is_told_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with (
        pytest.raises(UserError, match=r"table\.csv could not be written: No space left on device"),
        written_atomically(path),
    ):
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="could not be written"), written_atomically(tmp_path / "file" / "x.json"):
        pass


def test_an_array_is_written_in_numpys_form(tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    write_array(path, np.arange(6, dtype=np.uint8).reshape(2, 3))
    np.testing.assert_array_equal(np.load(path), [[0, 1, 2], [3, 4, 5]])
    assert [entry.name for entry in tmp_path.iterdir()] == ["images.npy"]
