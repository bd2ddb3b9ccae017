import os

import pytest
from samples import write_files

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.folders import files_below


@pytest.fixture
def folder(tmp_path):
    files = ("b/2.png", "a/10.png", "a/9.png", "c.png", "a/z/1.png", "__MACOSX/a.png", ".x/a.png", "a/Thumbs.db")
    return write_files(tmp_path / "source", *files)


def test_files_are_sorted_and_not_examined(folder, monkeypatch):
    write_files(folder.parent, "outside.png")
    (folder / "linked").symlink_to(folder.parent)
    monkeypatch.setattr(os, "stat", lambda *_, **__: pytest.fail("a file was examined"))
    paths = list(files_below(folder))
    monkeypatch.undo()
    assert paths == ["c.png", "a/10.png", "a/9.png", "a/z/1.png", "b/2.png"]


def test_a_folder_that_cannot_be_listed(folder, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match="/b cannot be listed: Permission denied"):
        list(files_below(folder))
