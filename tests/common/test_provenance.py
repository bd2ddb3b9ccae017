import subprocess

import pytest

from cxr_pipeline.common import provenance


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Call git in a folder that contains the file of the module."""
    for name in ("provenance.py", "other.py"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return lambda *arguments: subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=tmp_path, check=True
    )


def test_the_commit_is_that_of_the_package_and_changes_are_marked(tmp_path, git):
    assert provenance.git_commit() == "unknown"
    git("init", "-q")
    git("add", "other.py")
    git("commit", "-qm", "one")
    # The repository does not track the package.
    assert provenance.git_commit() == "unknown"
    git("add", ".")
    git("commit", "-qm", "two")
    clean = provenance.git_commit()
    assert len(clean) == 40
    (tmp_path / "provenance.py").write_text("changed")
    assert provenance.git_commit() == f"{clean}+changes"
