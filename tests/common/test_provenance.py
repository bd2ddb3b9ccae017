import subprocess

import cxr_pipeline
from cxr_pipeline.common import provenance


def test_versions_name_code_and_packages() -> None:
    found = provenance.versions()
    assert found["cxr_pipeline"] == cxr_pipeline.__version__
    assert found["tensorflow"][0].isdigit()
    assert list(found)[:2] == ["git commit", "python"]


def test_outside_a_checkout_the_commit_is_unknown(monkeypatch) -> None:
    def fail(*arguments, **options):
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(subprocess, "run", fail)
    assert provenance.git_commit() == "unknown"


def test_changed_files_are_told(tmp_path, monkeypatch) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=tmp_path, check=True)

    git("init", "-q")
    (tmp_path / "provenance.py").write_text("")
    git("add", ".")
    git("commit", "-qm", "one")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    clean = provenance.git_commit()
    assert len(clean) == 40
    (tmp_path / "provenance.py").write_text("changed")
    assert provenance.git_commit() == f"{clean}+changes"
