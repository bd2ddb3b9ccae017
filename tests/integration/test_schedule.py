"""The cron line and the systemd units of docs/guides/retraining.md."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "retraining.md").read_text()
PROJECT = "/srv/cxr"


@pytest.fixture
def project(tmp_path):
    """A folder with a kedro command that prints something and exits with the status in the file `status`."""
    kedro = tmp_path / ".venv" / "bin" / "kedro"
    kedro.parent.mkdir(parents=True)
    kedro.write_text('#!/bin/sh\necho "called with $*"\nexit "$(cat status)"\n')
    kedro.chmod(0o755)
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.mark.parametrize(("status", "mailed"), [(0, False), (75, False), (1, True), (69, True), (137, True)])
def test_cron_mails_failures_only(project, status, mailed):
    line = re.search(r"^0 2 \* \* \*  (.+)$", GUIDE, flags=re.MULTILINE)
    # cron turns a per cent sign into a line break.
    assert "%" not in line[1]
    (project / "status").write_text(str(status))
    run = ["sh", "-c", line[1].replace(PROJECT, str(project))]
    finished = subprocess.run(run, cwd="/", capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    printed = "called with run --pipeline=effusion_retraining\n"
    assert finished.returncode == (status if mailed else 0)
    assert finished.stdout + finished.stderr == (f"status {status}, see data/night.log\n" if mailed else "")
    assert (project / "data" / "night.log").read_text() == printed


def test_systemd_accepts_the_units(project):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    units = re.findall(r"^# /etc/systemd/system/(\S+)\n(.+?)(?=\n# /etc|\n```)", GUIDE, flags=re.MULTILINE | re.DOTALL)
    assert [name for name, _ in units] == ["cxr-effusion.service", "cxr-effusion.timer"]
    for name, text in units:
        (project / name).write_text(text.replace(PROJECT, str(project)) + "\n")
    check = ["systemd-analyze", "verify", *(str(project / name) for name, _ in units)]
    finished = subprocess.run(check, capture_output=True, text=True)
    assert (finished.returncode, finished.stdout + finished.stderr) == (0, "")
