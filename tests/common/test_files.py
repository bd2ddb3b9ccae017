import os
import shutil
import stat

import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import remove_leftovers, written_atomically


def test_the_new_file_appears_only_at_the_end_and_after_a_failure_the_old_one_is_kept(tmp_path):
    path = tmp_path / "deep" / "table.csv"
    with written_atomically(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.suffix == ".csv"
    with pytest.raises(ZeroDivisionError), written_atomically(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "new"
    assert [entry.name for entry in path.parent.iterdir()] == ["table.csv"]


def test_a_full_disk_and_an_impossible_folder_are_reported(tmp_path):
    message = r"table\.csv could not be written: No space left on device"
    with pytest.raises(UserError, match=message), written_atomically(tmp_path / "table.csv"):
        raise OSError(28, "No space left on device")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="could not be written"), written_atomically(tmp_path / "file" / "x.json"):
        pass


@pytest.fixture
def umask():
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_permissions_follow_the_umask(tmp_path, umask):
    with written_atomically(tmp_path / "patients" / "table.csv") as temporary:
        temporary.write_text("patient")
    assert stat.S_IMODE((tmp_path / "patients" / "table.csv").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "patients").stat().st_mode) == 0o700


def test_a_missing_source_is_not_reported_as_a_failure_to_write(tmp_path):
    for source in (tmp_path / "missing.csv", tmp_path / "elsewhere" / "missing.csv"):
        with pytest.raises(FileNotFoundError), written_atomically(tmp_path / "copy.csv") as temporary:
            shutil.copyfile(source, temporary)
    assert list(tmp_path.iterdir()) == []


def test_only_temporary_files_are_left_over(tmp_path):
    kept = [".gitkeep", ".hidden-notes.txt", "table-0ad7733f.csv", "table.csv"]
    for name in (*kept, ".table-0ad7733f.csv", "deep/.log-0ad7733f"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == kept
