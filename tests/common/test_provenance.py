import subprocess

import pytest

import cxr_pipeline
from cxr_pipeline.common import provenance


def test_versions_name_code_and_packages():
    versions = provenance.versions()
    assert versions["cxr_pipeline"] == cxr_pipeline.__version__
    assert versions["tensorflow"][0].isdigit()
    assert list(versions)[:2] == ["git commit", "python"]


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Call git in a repository whose working tree has the file of the module."""

    def call(*arguments):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=tmp_path, check=True)

    call("init", "-q")
    (tmp_path / "provenance.py").write_text("")
    (tmp_path / "other.py").write_text("")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    return call


def test_the_commit_of_changed_files_is_marked(tmp_path, git):
    git("add", ".")
    git("commit", "-qm", "one")
    clean = provenance.git_commit()
    assert len(clean) == 40
    (tmp_path / "provenance.py").write_text("changed")
    assert provenance.git_commit() == f"{clean}+changes"


def test_an_untracked_package_does_not_have_the_commit_of_its_repository(git):
    git("add", "other.py")
    git("commit", "-qm", "one")
    assert provenance.git_commit() == "unknown"


def test_outside_a_repository_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert provenance.git_commit() == "unknown"
